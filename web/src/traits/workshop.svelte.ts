/** Traits that the visitor makes: their packs, what was found out about them, and what runs. */

import type { Engine } from "../engine/protocol.ts";
import type {
  ContrastResponse,
  Controls,
  Extraction,
  Prediction,
  ResponseSettings,
  Sweep,
  SweepRow,
  SweepSettings,
  Thresholds,
  TraitPack,
} from "../engine/traits_protocol.ts";
import { EngineFailure } from "../engine/failure.ts";
import { newId } from "../session/conversation.ts";
import { asFailure } from "../session/failure.ts";
import type { ModelState } from "../session/model.svelte.ts";
import type { Kept, TraitStore } from "../storage/traits.ts";
import { type Problem, problemOf } from "./problem.ts";

/** A trait, finished or half-made; plain data that storage keeps as it stands. */
export interface MadeTrait extends Kept {
  /** Came as a vector file: its pack has no instructions and no questions, and nothing is known of how it was made. */
  imported?: true;
  pack: TraitPack;
  settings: ResponseSettings;
  thresholds: Thresholds;
  sweepSettings: SweepSettings;
  /** The model whose responses these are; null while there are none. */
  model: { name: string; sha256: string } | null;
  responses: ContrastResponse[];
  /** All responses are written and judged. */
  complete: boolean;
  extraction: Omit<Extraction, "vector"> | null;
  /** Rows of a sweep that has not finished count too, without a recommendation. */
  sweepRows: SweepRow[];
  sweep: Omit<Sweep, "vector" | "rows"> | null;
  controls: Controls | null;
  prediction: Prediction | null;
}

export interface MadeParts {
  contrast: Uint8Array;
  vector: Uint8Array;
}

export type Step = "write" | "vector" | "sweep" | "controls" | "predict";

export interface RunningStep {
  id: string;
  step: Step;
  phase: string;
  done: number;
  total: number;
  secondsLeft: number | null;
}

export const usualSettings: ResponseSettings = { pairs: 5, questions: 20, maxTokens: 40, temperature: 0.8, seed: 1 };
export const usualThresholds: Thresholds = { evidence: 0, deviations: 3, distinct2: 0.7 };
export const usualSweep: SweepSettings = { layers: [], doses: [0.1, 0.2, 0.3], questions: 8, maxTokens: 32, allLayers: false };
/** Longest files that are read, as in the program. */
const maxPackBytes = 256 << 10;
const maxVectorBytes = 64 << 20;
const flushMs = 120;

type Work = (progress: (phase: string, at: { done: number; total: number; secondsLeft?: number }) => void) => Promise<void>;

function drafted(pack: TraitPack): MadeTrait {
  return {
    id: newId(),
    updated: Date.now(),
    pack,
    settings: {
      ...usualSettings,
      pairs: Math.min(usualSettings.pairs, pack.instructions.length),
      questions: Math.min(usualSettings.questions, pack.questions.extraction.length),
    },
    thresholds: usualThresholds,
    sweepSettings: { ...usualSweep, questions: Math.min(usualSweep.questions, pack.questions.evaluation.length) },
    model: null,
    responses: [],
    complete: false,
    extraction: null,
    sweepRows: [],
    sweep: null,
    controls: null,
    prediction: null,
  };
}

/** A file's name as a trait's: lower-case letters, digits and hyphens, a letter first. */
function plainName(text: string): string {
  const plain = text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^[^a-z]+|-+$/g, "");
  return plain.slice(0, 40) || "imported";
}

export class Workshop {
  /** Newest first. */
  traits: MadeTrait[] = $state.raw([]);
  running: RunningStep | null = $state.raw(null);
  /** Why a step ended without a result. */
  trouble: { id: string; step: Step; message: string } | null = $state.raw(null);
  /** What is wrong with a pack, by trait; under `new` with what is about to become one. */
  problems: Record<string, Problem | null> = $state({});
  #parts: Record<string, Partial<MadeParts> | undefined> = {};
  #stopped = false;
  /** All steps were asked for, not one. */
  #all = false;
  #active: Promise<void> = Promise.resolve();
  /** Sliders of this page's own making; a deleted one stays until the page is left, because the engine keeps its vector. */
  #own: Record<string, true> = $state({});
  #sorting: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly engine: Engine,
    readonly store: TraitStore<MadeTrait, MadeParts>,
    private readonly model: ModelState,
  ) {}

  /** Something runs that could not go on where it stopped: answers wait until it is done. */
  get testing(): boolean {
    return this.running !== null && this.running.step !== "write";
  }

  /** What storage holds. */
  async restore(): Promise<void> {
    try {
      this.traits = await this.store.list();
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
    }
  }

  /** The sliders of traits that were made with the loaded model. */
  async addSliders(): Promise<void> {
    const sha256 = this.model.loaded?.sha256;
    for (const trait of this.traits) {
      if ((trait.extraction === null && trait.imported !== true) || trait.model?.sha256 !== sha256) continue;
      await this.addSlider(trait.id).catch((thrown: unknown) => (this.model.failure = asFailure(thrown)));
    }
  }

  find(name: string): MadeTrait | null {
    return this.traits.find((trait) => trait.pack.name === name) ?? this.traits.find(({ id }) => id === name) ?? null;
  }

  /** The new trait's id, or null and a problem. */
  async draft(name: string, description: string, opposite: string): Promise<string | null> {
    return this.begin(() => this.engine.draftTrait(name, description, opposite));
  }

  async importPack(file: Blob): Promise<string | null> {
    return this.begin(async () => {
      if (file.size > maxPackBytes) throw new EngineFailure("usage", `This file has ${file.size} bytes; trait packs have at most ${maxPackBytes}. Is it a vector or a model? Those are opened elsewhere.`);
      return this.engine.checkTrait(await file.text());
    });
  }

  /** A vector file or a GGUF control vector as a trait; its name, or null and a failure. */
  async importVector(file: File): Promise<string | null> {
    const model = this.model.loaded;
    if (model === null) return null;
    try {
      if (file.size > maxVectorBytes) throw new EngineFailure("usage", `This file has ${file.size} bytes; vector files have at most ${maxVectorBytes}. Is it a model? Those are opened as a folder.`);
      const given = new Uint8Array(await file.arrayBuffer());
      const vector = /\.gguf$/i.test(file.name) ? await this.engine.importControlVector(given) : given;
      const name = plainName(file.name.replace(/\.[^.]*$/, ""));
      if (this.taken(name, null)) throw new EngineFailure("usage", `There is a trait called ${name} already. Rename the file, or delete that trait.`);
      const added = await this.engine.addVector(name, vector);
      const pack: TraitPack = { name: added.name, opposite: added.opposite, description: added.description, instructions: [], questions: { extraction: [], evaluation: [] }, licence: "NOASSERTION" };
      const trait: MadeTrait = { ...drafted(pack), imported: true, model: { name: model.name, sha256: model.sha256 } };
      this.model.addTrait(added);
      this.#own[added.name] = true;
      this.traits = [trait, ...this.traits];
      await this.keepPart(trait.id, "vector", vector);
      await this.keep(trait);
      return added.name;
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
      return null;
    }
  }

  private async begin(make: () => Promise<TraitPack>): Promise<string | null> {
    this.problems["new"] = null;
    try {
      const pack = await make();
      if (this.taken(pack.name, null)) {
        this.problems["new"] = { field: "name", message: `There is a trait called ${pack.name} already. Choose another name.` };
        return null;
      }
      const trait = drafted(pack);
      this.traits = [trait, ...this.traits];
      await this.keep(trait);
      return trait.id;
    } catch (thrown) {
      this.problems["new"] = problemOf(asFailure(thrown));
      return null;
    }
  }

  isReadyMade(name: string): boolean {
    return this.#own[name] === undefined && (this.model.loaded?.traits.some((trait) => trait.name === name) ?? false);
  }

  private taken(name: string, but: string | null): boolean {
    return name === "new" || this.isReadyMade(name) || this.traits.some((trait) => trait.id !== but && trait.pack.name === name);
  }

  change(id: string, by: Partial<Pick<MadeTrait, "pack" | "settings" | "sweepSettings" | "thresholds">>): void {
    const trait = this.update(id, by);
    if (by.pack !== undefined) this.problems[id] = null;
    if (trait !== null) void this.keep(trait);
  }

  /** Whether the pack can be used; otherwise its problem is shown at its field. */
  async check(id: string): Promise<boolean> {
    const trait = this.get(id);
    if (trait === null) return false;
    this.problems[id] = null;
    try {
      await this.engine.checkTrait(JSON.stringify(trait.pack));
    } catch (thrown) {
      this.problems[id] = problemOf(asFailure(thrown));
      return false;
    }
    if (this.taken(trait.pack.name, id)) {
      this.problems[id] = { field: "name", message: `There is a trait called ${trait.pack.name} already. Choose another name.` };
      return false;
    }
    return true;
  }

  /** Every step that is not done yet. */
  async makeAll(id: string): Promise<void> {
    this.#stopped = false;
    this.#all = true;
    const steps: [done: (trait: MadeTrait) => boolean, run: (id: string) => Promise<void>][] = [
      [(trait) => trait.complete, (one) => this.write(one)],
      [(trait) => trait.extraction !== null, (one) => this.makeVector(one)],
      [(trait) => trait.sweep !== null, (one) => this.sweep(one)],
      [(trait) => trait.controls !== null || trait.sweep?.recommended == null, (one) => this.control(one)],
      [(trait) => trait.prediction !== null, (one) => this.predict(one)],
    ];
    for (const [done, run] of steps) {
      const before = this.get(id);
      if (before === null || this.#stopped) break;
      if (done(before)) continue;
      await run(id);
      const after = this.get(id);
      if (after === null || !done(after)) break;
    }
    this.#all = false;
  }

  /**
   * Writing goes on where it stopped, so it makes room for an answer in Play; the other steps would begin again, so they
   * are waited for. The result lets the writing go on.
   */
  async pause(): Promise<() => void> {
    const running = this.running;
    if (running === null) return () => undefined;
    const all = this.#all;
    if (running.step === "write") await this.stop();
    await this.#active;
    if (running.step !== "write") return () => undefined;
    return () => void (all ? this.makeAll(running.id) : this.write(running.id));
  }

  async write(id: string): Promise<void> {
    this.#stopped = false;
    const model = this.model.loaded;
    const trait = this.get(id);
    if (model === null || trait === null || this.running !== null || !(await this.check(id))) return;
    if (trait.model !== null && trait.model.sha256 !== model.sha256) {
      this.model.failure = { kind: "usage", message: `These responses were written by ${trait.model.name}, another model. Load that one to go on, or start over with this one.` };
      return;
    }
    const { contrast } = await this.partsOf(id);
    this.update(id, { model: { name: model.name, sha256: model.sha256 } });
    await this.perform(id, "write", async (progress) => {
      // By place; where several are written at once, some places are empty for a while.
      const responses: (ContrastResponse | undefined)[] = contrast === undefined ? [] : [...(await this.engine.openContrast(contrast)).responses];
      let timer: ReturnType<typeof setTimeout> | null = null;
      const show = () => {
        timer = null;
        this.update(id, { responses: responses.filter((response) => response !== undefined) });
      };
      try {
        const set = await this.engine.writeResponses(
          { pack: trait.pack, settings: trait.settings, ...(contrast === undefined ? {} : { contrast }) },
          (event) => {
            if (event.kind === "progress") progress(event.phase, event);
            else if (event.kind === "response") {
              responses[event.at] = event.response;
              timer ??= setTimeout(show, flushMs);
            } else {
              void this.keepPart(id, "contrast", event.contrast);
              const now = this.get(id);
              if (now !== null) void this.keep(now);
            }
          },
        );
        await this.keepPart(id, "contrast", set.bytes);
        this.update(id, { responses: set.responses, complete: set.complete });
      } finally {
        if (timer !== null) clearTimeout(timer);
      }
    });
    if (this.get(id)?.complete === true && !this.#stopped) await this.makeVector(id);
  }

  /** Sorts the responses by the thresholds and makes the vector of those that pass. */
  async makeVector(id: string): Promise<void> {
    const trait = this.get(id);
    const { contrast } = await this.partsOf(id);
    if (trait === null || contrast === undefined || !trait.complete || this.running !== null) return;
    await this.perform(id, "vector", async (progress) => {
      const request = { pack: trait.pack, contrast, thresholds: trait.thresholds };
      const { vector, ...extraction } = await this.engine.makeVector(request, (event) => {
        progress("making the vector", event);
      });
      await this.keepPart(id, "vector", vector);
      // What was found out about another vector does not hold for this one.
      this.update(id, { extraction, sweepRows: [], sweep: null, controls: null, prediction: null });
      await this.addSlider(id);
    });
  }

  /** Thresholds change while a handle is dragged: the last ones are used. */
  sort(id: string, thresholds: Thresholds): void {
    this.change(id, { thresholds });
    this.#sorting = this.#sorting.then(async () => {
      await this.#active;
      if (this.get(id)?.thresholds === thresholds) await this.makeVector(id);
    });
  }

  async sweep(id: string): Promise<void> {
    this.#stopped = false;
    const trait = this.get(id);
    const { vector } = await this.partsOf(id);
    if (trait === null || vector === undefined || this.running !== null) return;
    await this.perform(id, "sweep", async (progress) => {
      this.update(id, { sweepRows: [], sweep: null, controls: null });
      const sweep = await this.engine.sweepTrait({ pack: trait.pack, vector, settings: trait.sweepSettings }, (event) => {
        if (event.kind === "progress") progress("trying doses", event);
        else this.update(id, { sweepRows: [...(this.get(id)?.sweepRows ?? []), event.row] });
      });
      const { rows, vector: recommending, ...found } = sweep;
      await this.keepPart(id, "vector", recommending);
      this.update(id, { sweepRows: rows, sweep: found });
      await this.addSlider(id);
    });
  }

  async control(id: string): Promise<void> {
    this.#stopped = false;
    const trait = this.get(id);
    const { vector, contrast } = await this.partsOf(id);
    if (trait === null || vector === undefined || contrast === undefined || this.running !== null) return;
    await this.perform(id, "controls", async (progress) => {
      const request = { pack: trait.pack, vector, contrast, thresholds: trait.thresholds, questions: trait.sweepSettings.questions };
      const controls = await this.engine.controlTrait(request, (event) => {
        if (event.kind === "progress") progress("pushing along other directions", event);
      });
      this.update(id, { controls });
    });
  }

  async predict(id: string): Promise<void> {
    this.#stopped = false;
    const trait = this.get(id);
    const { vector } = await this.partsOf(id);
    if (trait === null || vector === undefined || this.running !== null) return;
    await this.perform(id, "predict", async (progress) => {
      const prediction = await this.engine.predictTrait({ pack: trait.pack, vector, questions: trait.sweepSettings.questions }, (event) => {
        if (event.kind === "progress") progress("reading, then answering", event);
      });
      this.update(id, { prediction });
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    try {
      await this.engine.stop();
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
    }
  }

  /** The pack stays; everything that was made of it goes. */
  async startOver(id: string): Promise<void> {
    if (this.running !== null) return;
    const trait = this.update(id, { model: null, responses: [], complete: false, extraction: null, sweepRows: [], sweep: null, controls: null, prediction: null });
    if (trait === null) return;
    await this.store.remove(id).catch(() => undefined);
    this.#parts[id] = undefined;
    await this.keep(trait);
  }

  async remove(id: string): Promise<void> {
    if (this.running?.id === id) await this.stop();
    this.traits = this.traits.filter((trait) => trait.id !== id);
    this.#parts[id] = undefined;
    await this.store.remove(id).catch((thrown: unknown) => (this.model.failure = asFailure(thrown)));
  }

  async file(id: string, part: keyof MadeParts): Promise<Uint8Array | null> {
    return (await this.partsOf(id))[part] ?? null;
  }

  /** The vector as llama.cpp and repeng read it. */
  async controlVector(id: string): Promise<Uint8Array | null> {
    const { vector } = await this.partsOf(id);
    if (vector === undefined) return null;
    try {
      return await this.engine.exportControlVector(vector);
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
      return null;
    }
  }

  private get(id: string): MadeTrait | null {
    return this.traits.find((trait) => trait.id === id) ?? null;
  }

  private update(id: string, by: Partial<MadeTrait>): MadeTrait | null {
    const old = this.get(id);
    if (old === null) return null;
    const next = { ...old, ...by, updated: Date.now() };
    this.traits = this.traits.map((trait) => (trait.id === id ? next : trait));
    return next;
  }

  private perform(id: string, step: Step, work: Work): Promise<void> {
    this.#active = this.run(id, step, work);
    return this.#active;
  }

  private async run(id: string, step: Step, work: Work): Promise<void> {
    this.trouble = null;
    this.running = { id, step, phase: "starting", done: 0, total: 0, secondsLeft: null };
    try {
      await work((phase, { done, total, secondsLeft }) => {
        this.running = { id, step, phase, done, total, secondsLeft: secondsLeft ?? null };
      });
    } catch (thrown) {
      const failure = asFailure(thrown);
      this.trouble = { id, step, message: failure.message };
      // Of other kinds the page's banner knows what to do.
      if (failure.kind !== "usage") this.model.failure = failure;
    } finally {
      this.running = null;
      const trait = this.get(id);
      if (trait !== null) await this.keep(trait);
    }
  }

  private async addSlider(id: string): Promise<void> {
    const trait = this.get(id);
    const { vector } = await this.partsOf(id);
    if (trait === null || vector === undefined || this.model.loaded === null) return;
    this.model.addTrait(await this.engine.addVector(trait.pack.name, vector));
    this.#own[trait.pack.name] = true;
  }

  private async partsOf(id: string): Promise<Partial<MadeParts>> {
    const known = this.#parts[id] ?? (await this.store.parts(id).catch(() => ({})));
    this.#parts[id] = known;
    return known;
  }

  private async keepPart<K extends keyof MadeParts>(id: string, name: K, part: MadeParts[K]): Promise<void> {
    this.#parts[id] = { ...(await this.partsOf(id)), [name]: part };
    await this.kept(this.store.putPart(id, name, part));
  }

  private async keep(trait: MadeTrait): Promise<void> {
    await this.kept(this.store.put(trait));
  }

  private async kept(write: Promise<void>): Promise<void> {
    try {
      await write;
    } catch {
      this.model.failure = {
        kind: "quota",
        message: "The browser has no room left to keep this trait. It stays on screen until you close the page; save it as files, or delete old conversations to make room.",
      };
    }
  }
}
