/** The visitor's own traits: their packs, the findings about them, and the step that runs. */

import { SvelteSet } from "svelte/reactivity";
import type { Engine } from "../../engine/protocol.ts";
import type { ContrastResponse, StudyEvent, Thresholds, TraitPack } from "../../engine/protocol.ts";
import { EngineFailure } from "../../engine/failure.ts";
import { asFailure } from "../model/failure.ts";
import type { ModelState } from "../model/model.svelte.ts";
import { aloneWith } from "../storage/one_tab.ts";
import type { RecordStore } from "../storage/records.ts";
import { type Choice, choices, findings, newOwnTrait, type OwnTraitParts, type OwnTrait, plainName, type RunningStep, settingsFor, type Step, type Study, usedBy, noStudies, noResponses, withRow } from "./own_trait.ts";
import { type Problem, problemOf } from "./problem.ts";

export type { OwnTraitParts, OwnTrait } from "./own_trait.ts";

/** Longest files that are read, as in the program. */
const maxPackBytes = 256 << 10;
const maxVectorBytes = 64 << 20;
const flushMs = 120;

type Progress = (phase: string, unit: string, at: { done: number; total: number; secondsLeft?: number }) => void;

const recordsOf = { sweep: "sweepRecords", controls: "controlsRecords", predict: "predictRecords" } as const;
const study = { sweep: "trying layers and doses", controls: "pushing along other directions", predict: "predicting answers" } as const;
const studyPhase = { reading: "reading the responses", writing: "writing answers", measuring: "measuring the answers" } as const;

/** Does the work unless another tab is at work on the same trait. */
const alone = (id: string, work: () => Promise<void>): Promise<void> => aloneWith(`trimtab-trait-${id}`, "Another tab of this page is making this trait. Go on there, or stop it there and press the button again.", work);

export class Workshop {
  /** The traits, the newest first. */
  traits: OwnTrait[] = $state.raw([]);
  running: RunningStep | null = $state.raw(null);
  /** Why a step ended without a result. */
  trouble: { id: string; step: Step; message: string } | null = $state.raw(null);
  /** Problems of packs, by the trait's id; those of a draft under `new`. */
  problems: Record<string, Problem | null> = $state({});
  #parts: Record<string, Partial<OwnTraitParts> | undefined> = {};
  #stopped = false;
  /** True if all steps were asked for, not one. */
  #all = false;
  #active: Promise<void> = Promise.resolve();
  /** Names of sliders that this page made. A set, because names come from files: an object would answer to `constructor`. */
  readonly #own = new SvelteSet<string>();
  #sorting: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly engine: Engine,
    readonly store: RecordStore<OwnTrait, OwnTraitParts>,
    private readonly model: ModelState,
    /** Removes traits that nothing needs, so that the model has room for `count` more. */
    private readonly makeRoom: (count: number) => Promise<void> = () => Promise.resolve(),
  ) {
    store.keeping.onTrouble = (failure) => (model.failure = failure);
    store.onElsewhere = (id) => void this.hear(id);
  }

  /** Takes over what another tab did to a trait; of one that is being made here, only choices that the step does not work by. */
  private async hear(id: string): Promise<void> {
    const before = this.get(id);
    const found = (await this.store.list()).find((trait) => trait.id === id);
    const now = this.get(id);
    const { running } = this;
    if (running?.id === id) {
      const free = choices.filter((one) => !usedBy[running.step].includes(one) && before?.[one] === now?.[one]);
      if (found !== undefined) this.update(id, Object.fromEntries(free.map((one) => [one, found[one]])));
      return;
    }
    // What changed here meanwhile is in the next list.
    if (now !== before) return this.hear(id);
    this.#parts[id] = undefined;
    const others = this.traits.filter((trait) => trait.id !== id);
    this.traits = found === undefined ? others : [{ ...noStudies, ...found }, ...others];
  }

  /** True if something short runs, for which answers wait. */
  get testing(): boolean {
    return this.running !== null && this.running.step === "vector";
  }

  /** Reads the traits that storage holds. */
  async restore(): Promise<void> {
    this.traits = (await this.store.list()).map((trait) => ({ ...noStudies, ...trait }));
  }

  /** Adds sliders for the traits that were made with the loaded model. */
  async addSliders(): Promise<void> {
    const sha256 = this.model.loaded?.sha256;
    for (const trait of this.traits) {
      if ((trait.extraction === null && trait.imported !== true) || trait.model?.sha256 !== sha256) continue;
      // It came with a session's file while no model was there that would have had the name.
      if (this.isReadyMade(trait.pack.name)) {
        this.model.failure = { kind: "usage", message: `Your own trait ${trait.pack.name} has the name of one that comes with this model, so it is no slider. Rename it on the page Traits, or delete it there.` };
        continue;
      }
      await this.addSlider(trait.id).catch((thrown: unknown) => (this.model.failure = asFailure(thrown)));
    }
  }

  find(name: string): OwnTrait | null {
    return this.traits.find((trait) => trait.pack.name === name) ?? this.traits.find(({ id }) => id === name) ?? null;
  }

  /** Drafts a trait; gives its id, or null and a problem. */
  async draft(name: string, description: string, opposite: string, oppositeDescription: string): Promise<string | null> {
    return this.begin(() => this.engine.draftTrait(name, description, opposite, oppositeDescription));
  }

  async importPack(file: Blob): Promise<string | null> {
    return this.begin(() => this.readPack(file));
  }

  /** Gives a vector that came as a file the pack that it is tested with; its name stays. */
  async testWith(id: string, pack: TraitPack | Blob): Promise<void> {
    const trait = this.get(id);
    if (trait === null || this.running !== null) return;
    this.problems[id] = null;
    try {
      const found = pack instanceof Blob ? await this.readPack(pack) : pack;
      await alone(id, async () => {
        for (const one of ["sweep", "controls", "predict"] as const) await this.forget(id, one);
        const given = this.update(id, { pack: { ...found, name: trait.pack.name }, ...noStudies });
        if (given !== null) await this.keep(given);
      });
    } catch (thrown) {
      this.problems[id] = problemOf(asFailure(thrown));
    }
  }

  private async readPack(file: Blob): Promise<TraitPack> {
    if (file.size > maxPackBytes) throw new EngineFailure("usage", `This file has ${file.size} bytes; trait packs have at most ${maxPackBytes}. Is it a vector or a model? Those are opened elsewhere.`);
    return this.engine.checkTrait(await file.text());
  }

  /** Takes a vector file or a GGUF control vector as a trait; gives its name, or null and a failure. */
  async importVector(file: File): Promise<string | null> {
    const model = this.model.loaded;
    if (model === null) return null;
    try {
      if (file.size > maxVectorBytes) throw new EngineFailure("usage", `This file has ${file.size} bytes; vector files have at most ${maxVectorBytes}. Is it a model? Those are opened as a folder.`);
      const given = new Uint8Array(await file.arrayBuffer());
      const vector = /\.gguf$/i.test(file.name) ? await this.engine.importControlVector(given) : given;
      const name = plainName(file.name.replace(/\.[^.]*$/, ""));
      if (this.taken(name, null)) throw new EngineFailure("usage", `There is a trait called ${name} already. Rename the file, or delete that trait.`);
      await this.makeRoom(1);
      const added = await this.engine.addVector(name, vector);
      const pack: TraitPack = { name: added.name, opposite: added.opposite, description: added.description, instructions: [], questions: { extraction: [], evaluation: [] }, licence: "NOASSERTION" };
      const trait: OwnTrait = { ...newOwnTrait(pack), imported: true, model: { name: model.name, sha256: model.sha256 } };
      this.model.addTrait(added);
      this.#own.add(added.name);
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
      const trait = newOwnTrait(pack);
      this.traits = [trait, ...this.traits];
      await this.keep(trait);
      return trait.id;
    } catch (thrown) {
      this.problems["new"] = problemOf(asFailure(thrown));
      return null;
    }
  }

  isReadyMade(name: string): boolean {
    return !this.#own.has(name) && (this.model.loaded?.traits.some((trait) => trait.name === name) ?? false);
  }

  private taken(name: string, but: string | null): boolean {
    return name === "new" || this.isReadyMade(name) || this.traits.some((trait) => trait.id !== but && trait.pack.name === name);
  }

  change(id: string, by: Partial<Pick<OwnTrait, Choice>>): void {
    // Studies that were begun with other settings cannot go on.
    const old = this.get(id);
    const begun = by.sweepSettings === undefined ? {} : { begun: {}, trying: [] };
    const settings = by.pack === undefined || old === null ? {} : { settings: settingsFor(by.pack, old) };
    const changed = { ...begun, ...settings, ...by };
    const trait = this.update(id, changed);
    if (by.pack !== undefined) this.problems[id] = null;
    if (trait !== null) void this.store.put(trait, Object.keys(changed) as (keyof OwnTrait)[]);
  }

  /** True if the pack can be used; otherwise its problem is shown at its field. */
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

  /** Runs every step that is not done yet. */
  async makeAll(id: string): Promise<void> {
    this.#stopped = false;
    this.#all = true;
    const steps: [done: (trait: OwnTrait) => boolean, run: (id: string) => Promise<void>][] = [
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
   * Writing and studies go on where they stopped, so they make room for an answer in Play; making the vector is short and is
   * waited for. The result lets the work go on.
   */
  async pause(): Promise<() => void> {
    const running = this.running;
    if (running === null) return () => undefined;
    const all = this.#all;
    const { id, step } = running;
    if (step !== "vector") await this.stop();
    await this.#active;
    if (step === "vector") return () => undefined;
    // The work was stopped for a while, which is no trouble.
    this.trouble = null;
    return () => void (all ? this.makeAll(id) : this[step === "controls" ? "control" : step](id));
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
      // Responses by place; where several are written at once, some places are empty for a while.
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
            if (event.kind === "progress" && event.phase === "writing") progress("writing answers", "answers", event);
            else if (event.kind === "progress") progress("judging the responses", "readings", event);
            else if (event.kind === "response") {
              responses[event.at] = event.response;
              timer ??= setTimeout(show, flushMs);
            } else {
              void this.keepPart(id, "contrast", event.contrast);
              const now = this.get(id);
              // Responses that are still growing are not in the contrast set, and are left out.
              if (now !== null) void this.keepFound({ ...now, responses: event.written.flatMap((at) => responses[at] ?? []) }, "write");
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
        if (event.kind === "progress") progress("reading the responses and making the vector", "steps", event);
      });
      await this.keepPart(id, "vector", vector);
      // Findings about another vector do not hold for this one.
      for (const one of ["sweep", "controls", "predict"] as const) await this.forget(id, one);
      this.update(id, { extraction, ...noStudies });
      await this.addSlider(id);
    });
  }

  /** Sorts the responses by new thresholds. They change while a handle is dragged: the last ones are used. */
  sort(id: string, thresholds: Thresholds): void {
    this.change(id, { thresholds });
    this.#sorting = this.#sorting.then(async () => {
      await this.#active;
      if (this.get(id)?.thresholds === thresholds) await this.makeVector(id);
    });
  }

  async sweep(id: string): Promise<void> {
    await this.study(id, "sweep", async (trait, vector, records, listen) => {
      this.update(id, { trying: [] });
      const { rows, vector: recommending, ...sweep } = await this.engine.sweepTrait({ pack: trait.pack, vector, settings: trait.sweepSettings, ...records }, listen);
      await this.keepPart(id, "vector", recommending);
      await this.forget(id, "controls");
      this.update(id, { sweepRows: rows, sweep, trying: [], controls: null });
      await this.addSlider(id);
    });
  }

  async control(id: string): Promise<void> {
    const { contrast } = await this.partsOf(id);
    // A vector that came as a file has none, and so no shuffled labels to compare with.
    if (contrast === undefined && this.get(id)?.imported !== true) return;
    await this.study(id, "controls", async (trait, vector, records, listen) => {
      const made = contrast === undefined ? {} : { contrast, thresholds: trait.thresholds };
      const request = { pack: trait.pack, vector, ...made, questions: trait.sweepSettings.questions, ...records };
      const { vector: recommending, recommended, ...controls } = await this.engine.controlTrait(request, listen);
      const found = trait.sweep?.recommended ?? null;
      // The flipped push tells how far the slider may go the other way.
      const sweep = trait.sweep === null || found === null || recommended === undefined ? {} : { sweep: { ...trait.sweep, recommended: { ...found, ...recommended } } };
      if (recommending !== undefined) await this.keepPart(id, "vector", recommending);
      this.update(id, { controls, ...sweep });
      await this.addSlider(id);
    });
  }

  async predict(id: string): Promise<void> {
    await this.study(id, "predict", async (trait, vector, records, listen) => {
      const prediction = await this.engine.predictTrait({ pack: trait.pack, vector, questions: trait.sweepSettings.questions, ...records }, listen);
      this.update(id, { prediction });
    });
  }

  /** Runs a study, from its records where it was begun. */
  private async study(
    id: string,
    step: Study,
    work: (trait: OwnTrait, vector: Uint8Array, records: { records?: Uint8Array }, listen: (event: StudyEvent) => void) => Promise<void>,
  ): Promise<void> {
    this.#stopped = false;
    const { vector, [recordsOf[step]]: kept } = await this.partsOf(id);
    const trait = this.get(id);
    if (trait === null || vector === undefined || this.running !== null) return;
    await this.perform(id, step, async (progress) => {
      await work(trait, vector, kept == null ? {} : { records: kept }, (event) => {
        if (event.kind === "progress") progress(`${study[step]}: ${studyPhase[event.phase]}`, event.phase === "reading" ? "responses" : "answers", event);
        else if (event.kind === "row") this.update(id, { trying: withRow(this.get(id)?.trying ?? [], event.row) });
        else this.keepRecords(id, step, event.records);
      });
      await this.forget(id, step);
    });
  }

  private keepRecords(id: string, step: Study, records: Uint8Array): void {
    const { running } = this;
    const begun = this.get(id)?.begun;
    if (running === null || begun === undefined) return;
    void this.keepPart(id, recordsOf[step], records);
    const { phase, done, total } = running;
    const trait = this.update(id, { begun: { ...begun, [step]: { phase, done, total } } });
    if (trait !== null) void this.keepFound(trait, step);
  }

  /** Removes the records of a study that is finished, or that cannot go on. */
  private async forget(id: string, step: Study): Promise<void> {
    const trait = this.get(id);
    if (trait === null) return;
    this.update(id, { begun: Object.fromEntries(Object.entries(trait.begun).filter(([one]) => one !== step)) });
    if ((await this.partsOf(id))[recordsOf[step]] != null) await this.keepPart(id, recordsOf[step], null);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    try {
      await this.engine.stop();
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
    }
  }

  /** Removes everything that was made of a pack; the pack stays. */
  async startOver(id: string): Promise<void> {
    if (this.running !== null) return;
    await this.unlessMadeElsewhere(id, async () => {
      const trait = this.update(id, noResponses);
      if (trait === null) return;
      await this.store.remove(id);
      this.#parts[id] = undefined;
      await this.keep(trait);
    });
  }

  async remove(id: string): Promise<void> {
    if (this.running?.id === id) {
      await this.stop();
      await this.#active;
    }
    await this.unlessMadeElsewhere(id, async () => {
      const name = this.get(id)?.pack.name;
      if (name !== undefined && this.#own.delete(name)) void this.model.removeTraits([name]);
      this.traits = this.traits.filter((trait) => trait.id !== id);
      this.#parts[id] = undefined;
      await this.store.remove(id);
    });
  }

  /** Does what takes something away from a trait; where another tab is making it, the page says so instead. */
  private async unlessMadeElsewhere(id: string, work: () => Promise<void>): Promise<void> {
    try {
      await alone(id, work);
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
    }
  }

  async file(id: string, part: "contrast" | "vector"): Promise<Uint8Array | null> {
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

  private get(id: string): OwnTrait | null {
    return this.traits.find((trait) => trait.id === id) ?? null;
  }

  private update(id: string, by: Partial<OwnTrait>): OwnTrait | null {
    const old = this.get(id);
    if (old === null) return null;
    const next = { ...old, ...by, updated: Date.now() };
    this.traits = this.traits.map((trait) => (trait.id === id ? next : trait));
    return next;
  }

  private perform(id: string, step: Step, work: (progress: Progress) => Promise<void>): Promise<void> {
    this.#active = this.run(id, step, work);
    return this.#active;
  }

  private async run(id: string, step: Step, work: (progress: Progress) => Promise<void>): Promise<void> {
    this.trouble = null;
    this.running = { id, step, phase: "starting", done: 0, total: 0, unit: "", secondsLeft: null };
    try {
      await alone(id, () =>
        work((phase, unit, { done, total, secondsLeft }) => {
          this.running = { id, step, phase, done, total, unit, secondsLeft: secondsLeft ?? null };
        }),
      );
    } catch (thrown) {
      const failure = asFailure(thrown);
      this.trouble = { id, step, message: failure.message };
      // The page's banner knows what to do about other kinds.
      if (failure.kind !== "usage") this.model.failure = failure;
    } finally {
      this.running = null;
      const trait = this.get(id);
      if (trait !== null) await this.keepFound(trait, step);
    }
  }

  /** True if the visitor made or imported the slider of this name. */
  owns(name: string): boolean {
    return this.#own.has(name);
  }

  private async addSlider(id: string): Promise<void> {
    const trait = this.get(id);
    const { vector } = await this.partsOf(id);
    const model = this.model.loaded;
    if (trait === null || vector === undefined || model === null) return;
    if (!model.traits.some(({ name }) => name === trait.pack.name)) await this.makeRoom(1);
    this.model.addTrait(await this.engine.addVector(trait.pack.name, vector));
    this.#own.add(trait.pack.name);
  }

  private async partsOf(id: string): Promise<Partial<OwnTraitParts>> {
    const known = this.#parts[id] ?? (await this.store.parts(id));
    // Something may have been put there meanwhile.
    return (this.#parts[id] ??= known);
  }

  private async keepPart<K extends keyof OwnTraitParts>(id: string, name: K, part: OwnTraitParts[K]): Promise<void> {
    await this.partsOf(id);
    this.#parts[id] = { ...this.#parts[id], [name]: part };
    await this.store.putPart(id, name, part);
  }

  private async keep(trait: OwnTrait): Promise<void> {
    await this.store.put(trait);
  }

  /** Keeps what a step found, and what it works by; other choices may have changed in another tab. */
  private async keepFound(trait: OwnTrait, step: Step): Promise<void> {
    await this.store.put(trait, [...findings, ...usedBy[step]]);
  }
}
