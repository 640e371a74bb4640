/** A trait of the visitor's own: what storage keeps of it, and what it begins with. */

import type { ContrastResponse, Controls, Extraction, Prediction, ResponseSettings, Sweep, SweepRow, SweepSettings, Thresholds, TraitPack } from "../../engine/protocol.ts";
import { newId } from "../conversation/conversation.ts";
import type { StoredRecord } from "../storage/records.ts";

/** A study that finds out whether to believe a trait. */
export type Study = "sweep" | "controls" | "predict";
export type Step = "write" | "vector" | Study;

/** A trait of the visitor's own, finished or half-made, as plain data. */
export interface OwnTrait extends StoredRecord {
  /** True for a trait that came as a vector file: nothing is known of how it was made, and its pack has no instructions and no questions until the visitor chooses one to test it with. */
  imported?: true;
  pack: TraitPack;
  settings: ResponseSettings;
  thresholds: Thresholds;
  sweepSettings: SweepSettings;
  /** The model whose responses these are; null while there are none. */
  model: { name: string; sha256: string } | null;
  responses: ContrastResponse[];
  /** True if all responses are written and judged. */
  complete: boolean;
  extraction: Omit<Extraction, "vector"> | null;
  /** Rows of the finished sweep. */
  sweepRows: SweepRow[];
  sweep: Omit<Sweep, "vector" | "rows"> | null;
  /** Rows of a sweep that runs or was stopped, as far as they are measured. */
  trying: SweepRow[];
  controls: Omit<Controls, "vector" | "recommended"> | null;
  prediction: Prediction | null;
  /** Studies that are begun and not finished; their records lie among the parts. */
  begun: Partial<Record<Study, { phase: string; done: number; total: number }>>;
}

/** What the visitor chooses, in any tab. */
export type Choice = "pack" | "settings" | "sweepSettings" | "thresholds";
export const choices: readonly Choice[] = ["pack", "settings", "sweepSettings", "thresholds"];
/** The choices that a step works by: while it runs they are those of the tab that runs it. */
export const usedBy: Record<Step, readonly Choice[]> = {
  write: ["pack", "settings"],
  vector: ["pack", "thresholds"],
  sweep: ["pack", "sweepSettings"],
  controls: ["pack", "sweepSettings", "thresholds"],
  predict: ["pack", "sweepSettings"],
};
/** What the steps find out; one tab at a time takes them. */
export const findings = ["model", "responses", "complete", "extraction", "sweepRows", "sweep", "trying", "controls", "prediction", "begun"] as const satisfies readonly (keyof OwnTrait)[];

/** The large parts of a trait; records belong to studies that are not finished. */
export interface OwnTraitParts {
  contrast: Uint8Array;
  vector: Uint8Array;
  sweepRecords: Uint8Array | null;
  controlsRecords: Uint8Array | null;
  predictRecords: Uint8Array | null;
}

export interface RunningStep {
  id: string;
  step: Step;
  /** The step's present work, in words for the middle of a sentence. */
  phase: string;
  done: number;
  total: number;
  /** The things that `done` and `total` count. */
  unit: string;
  secondsLeft: number | null;
}

const usualSettings: ResponseSettings = { pairs: 3, questions: 20, maxTokens: 40, temperature: 0.8, seed: 1 };
const usualThresholds: Thresholds = { evidence: 0, deviations: 3, distinct2: 0.7 };
const usualSweep: SweepSettings = { layers: [], doses: [0.1, 0.2, 0.3], questions: 8, maxTokens: 32, allLayers: false };

/** Pairs that are kept back, so that a trait is tested by instructions that did not make it: one could be an odd one. */
const pairsToTestWith = 2;
/** Fewest pairs to write with: a response is judged by pairs that did not write it. */
const fewestPairs = 2;

/** Pairs that responses are written with, unless the visitor chooses. */
export const usualPairs = (pack: TraitPack): number => Math.max(fewestPairs, pack.instructions.length - pairsToTestWith);

/** A trait's settings after its pack was edited: no more than the pack has, and the usual number of pairs where it was that before. */
export function settingsFor(pack: TraitPack, { settings, pack: old }: Pick<OwnTrait, "settings" | "pack">): ResponseSettings {
  const pairs = settings.pairs === usualPairs(old) ? usualPairs(pack) : Math.max(fewestPairs, Math.min(settings.pairs, pack.instructions.length));
  return { ...settings, pairs, questions: Math.min(settings.questions, pack.questions.extraction.length) };
}

/** The studies of a vector that nobody has tried. */
export const noStudies = { sweepRows: [], sweep: null, trying: [], controls: null, prediction: null, begun: {} } satisfies Partial<OwnTrait>;
/** The results of a trait for which nothing is written. */
export const noResponses = { model: null, responses: [], complete: false, extraction: null, ...noStudies } satisfies Partial<OwnTrait>;

export function newOwnTrait(pack: TraitPack): OwnTrait {
  return {
    id: newId(),
    updated: Date.now(),
    pack,
    settings: { ...usualSettings, pairs: usualPairs(pack), questions: Math.min(usualSettings.questions, pack.questions.extraction.length) },
    thresholds: usualThresholds,
    sweepSettings: { ...usualSweep, questions: Math.min(usualSweep.questions, pack.questions.evaluation.length) },
    ...noResponses,
  };
}

/** A file's name as a trait's: lower-case letters, digits and hyphens, a letter first. */
export function plainName(text: string): string {
  const plain = text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^[^a-z]+|-+$/g, "");
  return plain.slice(0, 40) || "imported";
}

/** The rows with `row` in place of an earlier state of the same setting. */
export function withRow(rows: SweepRow[], row: SweepRow): SweepRow[] {
  const setting = ({ allLayers, layers, dose }: SweepRow) => `${allLayers ? "all" : layers.join()} ${dose}`;
  const at = rows.findIndex((one) => setting(one) === setting(row));
  return at < 0 ? [...rows, row] : rows.with(at, row);
}
