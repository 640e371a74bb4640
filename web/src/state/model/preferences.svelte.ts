/** The visitor's choices, kept in the browser between visits. */

import type { Backend, Precision, Sampler, SteeringTerm } from "../../engine/protocol.ts";

export type Theme = "auto" | "light" | "dark";

export interface Choices {
  theme: Theme;
  /** Large type and strong contrast, for a screen that a whole class looks at. */
  projector: boolean;
  sampler: Sampler;
  maxTokens: number;
  system: string;
  backend: Backend | "auto";
  precision: Precision;
  /** Tokens of a conversation; null for as many as the model and the device allow. */
  context: number | null;
  scope: SteeringTerm["scope"];
}

export const defaults: Choices = {
  theme: "auto",
  projector: false,
  sampler: { temperature: 0.7, topK: 0, topP: 0.95, repetitionPenalty: 1.1, seed: 1 },
  maxTokens: 120,
  system: "",
  backend: "auto",
  precision: "fast",
  context: null,
  scope: "all",
};

/** Bounds of every number that the page lets people choose. */
export const bounds = {
  temperature: { min: 0, max: 2 },
  topK: { min: 0, max: 1000 },
  topP: { min: 0.01, max: 1 },
  repetitionPenalty: { min: 1, max: 2 },
  seed: { min: 0, max: 4294967295 },
  maxTokens: { min: 1, max: 2000 },
  context: { min: 128, max: 131072 },
} as const;

const key = "trimtab.choices";

/** Reads stored choices. They may be old, foreign or broken: whatever is unfit becomes the default. */
export function parseChoices(text: string | null): Choices {
  const found = record(parseJson(text));
  const sampler = record(found["sampler"]);
  return {
    theme: oneOf(found["theme"], ["auto", "light", "dark"], defaults.theme),
    projector: found["projector"] === true,
    sampler: {
      temperature: within(sampler["temperature"], bounds.temperature, defaults.sampler.temperature),
      topK: Math.round(within(sampler["topK"], bounds.topK, defaults.sampler.topK)),
      topP: within(sampler["topP"], bounds.topP, defaults.sampler.topP),
      repetitionPenalty: within(sampler["repetitionPenalty"], bounds.repetitionPenalty, defaults.sampler.repetitionPenalty),
      seed: Math.round(within(sampler["seed"], bounds.seed, defaults.sampler.seed)),
    },
    maxTokens: Math.round(within(found["maxTokens"], bounds.maxTokens, defaults.maxTokens)),
    system: typeof found["system"] === "string" ? found["system"].slice(0, 20_000) : "",
    backend: oneOf(found["backend"], ["auto", "gpu", "cpu"], defaults.backend),
    precision: oneOf(found["precision"], ["exact", "fast"], defaults.precision),
    context: typeof found["context"] === "number" ? Math.round(within(found["context"], bounds.context, 2048)) : null,
    scope: oneOf(found["scope"], ["all", "prompt", "response"], defaults.scope),
  };
}

function parseJson(text: string | null): unknown {
  if (text === null || text.length > 100_000) return null;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function oneOf<T extends string>(value: unknown, allowed: readonly T[], otherwise: T): T {
  return allowed.find((choice) => choice === value) ?? otherwise;
}

export function within(value: unknown, { min, max }: { min: number; max: number }, otherwise: number): number {
  if (typeof value !== "number" || !Number.isFinite(value)) return otherwise;
  return Math.min(Math.max(value, min), max);
}

/** The sampler's settings, brought within what this page lets people choose. */
export function clampSampler(sampler: Sampler): Sampler {
  const { temperature, topK, topP, repetitionPenalty, seed } = defaults.sampler;
  return {
    temperature: within(sampler.temperature, bounds.temperature, temperature),
    topK: Math.round(within(sampler.topK, bounds.topK, topK)),
    topP: within(sampler.topP, bounds.topP, topP),
    repetitionPenalty: within(sampler.repetitionPenalty, bounds.repetitionPenalty, repetitionPenalty),
    seed: Math.round(within(sampler.seed, bounds.seed, seed)),
  };
}

export function clampLength(maxTokens: number): number {
  return Math.round(within(maxTokens, bounds.maxTokens, defaults.maxTokens));
}

/** Choices that a lesson or a link may set for its own time. */
export type RunSettings = Pick<Choices, "sampler" | "maxTokens" | "system" | "scope">;

export class Preferences {
  choices: Choices = $state(parseChoices(readStored()));
  /** True if the browser keeps the choices for the next visit. */
  kept: boolean = $state(true);
  /** The choices as this tab read or kept them last. */
  #saved: Choices = parseChoices(readStored());
  /** The visitor's own choices while those of a lesson or a link hold; only these are kept in storage. */
  #own: RunSettings | null = null;

  lend({ sampler, maxTokens, system, scope }: RunSettings): void {
    const own = $state.snapshot(this.choices);
    this.#own ??= { sampler: own.sampler, maxTokens: own.maxTokens, system: own.system, scope: own.scope };
    Object.assign(this.choices, { sampler: { ...sampler }, maxTokens, system, scope });
  }

  giveBack(): void {
    if (this.#own !== null) Object.assign(this.choices, this.#own);
    this.#own = null;
  }

  /** Keeps the choices that changed here: another tab may have kept others since. Call it from an effect, which then follows them. */
  save(): void {
    const now = { ...$state.snapshot(this.choices), ...this.#own };
    try {
      const kept = parseChoices(localStorage.getItem(key));
      const sampler = { ...kept.sampler, ...changed(now.sampler, this.#saved.sampler) };
      localStorage.setItem(key, JSON.stringify({ ...kept, ...changed(now, this.#saved), sampler }));
      this.#saved = now;
      this.kept = true;
    } catch {
      // Storage is full or forbidden: the choices hold until the page closes, and the settings say so.
      this.kept = false;
    }
  }

  /** Resets everything about how answers are written; the page's looks and the place where the model runs stay. */
  resetSampling(): void {
    const { sampler, maxTokens, system, scope } = defaults;
    Object.assign(this.choices, { sampler: { ...sampler }, maxTokens, system, scope });
  }

  newSeed(): void {
    this.choices.sampler.seed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 1;
  }
}

/** The fields whose values are others than before. */
function changed<T extends object>(now: T, before: T): Partial<T> {
  const other = ([name, value]: [string, unknown]) => JSON.stringify(value) !== JSON.stringify(before[name as keyof T]);
  return Object.fromEntries(Object.entries(now).filter(other)) as Partial<T>;
}

function readStored(): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
