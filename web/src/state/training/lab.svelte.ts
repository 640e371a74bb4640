/** The training lab: runs of training, the adapters that they leave, and what those changed. */

import type { Adapter, Engine, Plan, TrainSettings, Trait, TraitPack } from "../../engine/protocol.ts";
import { EngineFailure } from "../../engine/failure.ts";
import { newId } from "../conversation/conversation.ts";
import { asFailure } from "../model/failure.ts";
import type { ModelState } from "../model/model.svelte.ts";
import type { RecordStore } from "../storage/records.ts";
import { reportOf } from "../traits/reports.ts";
import { chosenRows, contrastPairs } from "./choosing.ts";
import { knowledgeQuestions } from "./datasets.ts";
import { aloneInLab, OneAtATime, type WorkControl } from "./one_at_a_time.svelte.ts";
import { Screening, type StoredScreen } from "./screening.svelte.ts";
import { type Method, nameFor, noHistory, penaltyOf, planOf, type Selection, type TrainingParts, type TrainingRun } from "./training_run.ts";

/** What is asked for when a run begins. */
export interface Draft {
  selection: Selection;
  /** At most so many of the selected rows are trained on, the first ones. */
  most: number;
  method: Method;
  settings: TrainSettings;
}

/** Adapters that the model has beside it at most, as in the program. */
const maxAdapters = 8;
const maxAdapterBytes = 1 << 30;
const maxConfigBytes = 1 << 20;
/** Questions of knowledge that a measurement on the page asks: some hundred readings. */
const knowledgeAsked = 40;
/** Answers of each side that a vector is made anew of: about a minute of reading. */
const anewAnswers = 20;

export class Lab {
  /** Runs, the newest first. */
  runs: TrainingRun[] = $state.raw([]);
  /** Why files were no adapter. */
  refused: string | null = $state(null);
  readonly work: OneAtATime;
  readonly screening: Screening;
  /** Hears of an adapter that is to act from now on. */
  onAdapter: (name: string) => void = () => undefined;

  constructor(
    private readonly engine: Engine,
    readonly store: RecordStore<TrainingRun, TrainingParts>,
    screens: RecordStore<StoredScreen, Record<string, never>>,
    private readonly model: ModelState,
  ) {
    this.work = new OneAtATime(engine, (failure) => (model.failure = failure));
    this.screening = new Screening(engine, screens, model, this.work);
    store.keeping.onTrouble = (failure) => (model.failure = failure);
    store.onElsewhere = (id) => void this.hear(id);
  }

  /** Whether what is made here outlives the page. */
  get lasting(): boolean {
    return this.store.keeping.lasting;
  }

  get adapters(): readonly Adapter[] {
    return this.model.loaded?.adapters ?? [];
  }

  async restore(): Promise<void> {
    this.runs = await this.store.list();
  }

  private async hear(id: string): Promise<void> {
    if (this.work.working?.id === id) return;
    const found = (await this.store.list()).find((run) => run.id === id);
    const before = this.get(id);
    if (found === undefined && before !== null && this.isSlider(before)) await this.model.removeAdapters([before.name]);
    const others = this.runs.filter((run) => run.id !== id);
    this.runs = found === undefined ? others : [found, ...others].sort((a, b) => b.updated - a.updated);
  }

  get(id: string): TrainingRun | null {
    return this.runs.find((run) => run.id === id) ?? null;
  }

  private update(id: string, by: Partial<TrainingRun>): TrainingRun | null {
    const before = this.get(id);
    if (before === null) return null;
    const run = { ...before, ...by, updated: Date.now() };
    this.runs = this.runs.map((one) => (one.id === id ? run : one));
    return run;
  }

  private async keep(id: string): Promise<void> {
    const run = this.get(id);
    if (run !== null) await this.store.put(run);
  }

  /** Begins a run on rows of the dataset; gives its id. */
  train(draft: Draft): string | null {
    const { dataset, flagged } = this.screening;
    const model = this.model.loaded;
    if (dataset === null || model === null || this.work.busy) return null;
    const rows = chosenRows(dataset, draft.selection, draft.most, flagged);
    const run: TrainingRun = {
      id: newId(),
      updated: Date.now(),
      name: nameFor(dataset.name, draft.method, draft.selection, this.names),
      model: { name: model.name, sha256: model.sha256 },
      dataset: { name: dataset.name, title: dataset.title, sha256: dataset.sha256, rows: rows.length, trait: dataset.trait },
      selection: draft.selection,
      method: draft.method,
      settings: draft.settings,
      history: noHistory,
      steps: null,
      seconds: 0,
      tokens: 0,
      adapter: null,
      used: true,
      moved: null,
    };
    this.runs = [run, ...this.runs];
    void this.begin(run.id, async () => {
      await this.store.put(run);
      await this.store.putPart(run.id, "rows", rows);
    });
    return run.id;
  }

  private get names(): string[] {
    return this.runs.map(({ name }) => name);
  }

  /** Goes on with a run that was stopped. */
  async goOn(id: string): Promise<void> {
    const run = this.get(id);
    const model = this.model.loaded;
    if (run === null || model === null || run.adapter !== null || this.work.busy) return;
    if (run.model.sha256 !== model.sha256) {
      this.work.trouble = { step: "train", id, message: `This run was begun with ${run.model.name}, another model. Load that one to go on.` };
      return;
    }
    await this.begin(id, () => Promise.resolve());
  }

  private async begin(id: string, prepare: () => Promise<void>): Promise<void> {
    await this.work.begin("train", id, () => void this.goOn(id), async (control) => {
      try {
        await prepare();
        await this.learn(id, control);
      } finally {
        await this.keep(id);
      }
    });
  }

  private async learn(id: string, { progress, checkStop }: WorkControl): Promise<void> {
    const run = this.get(id);
    if (run === null) return;
    const { rows, state } = await this.store.parts(id);
    if (rows == null) throw new EngineFailure("usage", "The rows of this run are no longer in this browser. Delete it, open the examples again and begin a new one.");
    progress("getting ready", "steps", { done: run.history.steps.length, total: run.steps ?? 0 });
    checkStop();
    // When the last step or measurement ended: tokens a second are those of training alone.
    let told: number | null = null;
    const penalty = penaltyOf(run.method);
    const trained = await this.engine.train(
      { rows, settings: run.settings, plan: planOf(run.method), dataSha256: run.dataset.sha256, ...(penalty && { penalty }), ...(state != null && { state }) },
      (event) => {
        const now = this.get(id);
        if (now === null) return;
        const { history } = now;
        if (event.kind === "state") {
          void this.store.putPart(id, "state", event.state);
          void this.keep(id);
        } else if (event.kind === "step") {
          const { steps, secondsLeft } = event;
          const step = { step: event.step, loss: event.loss, penalty: event.penalty, learningRate: event.learningRate, tokens: event.tokens };
          const before = told;
          told = performance.now();
          const timed = before === null ? {} : { seconds: now.seconds + (told - before) / 1000, tokens: now.tokens + step.tokens };
          const earlier = history.steps.filter((one) => one.step < step.step);
          this.update(id, { steps, ...timed, history: { ...history, steps: [...earlier, step] } });
          progress("training", "steps", { done: step.step, total: steps, ...(secondsLeft === undefined ? {} : { secondsLeft }) });
        } else if (event.kind === "heldout") {
          const found = { step: event.step, loss: event.loss, ...(event.pushed !== undefined && { pushed: event.pushed }) };
          told = performance.now();
          this.update(id, { history: { ...history, heldOut: [...history.heldOut.filter((one) => one.step < found.step), found] } });
        } else if (event.kind === "arrival") {
          const found = { step: event.step, traits: event.traits, shifts: event.shifts };
          told = performance.now();
          this.update(id, { history: { ...history, arrivals: [...history.arrivals.filter((one) => one.step < found.step), found] } });
        }
      },
    );
    const { config, weights, sha256, steps, heldOut, arrivals } = trained;
    await this.store.putPart(id, "config", config);
    await this.store.putPart(id, "weights", weights);
    this.update(id, { adapter: sha256, history: { steps, heldOut, arrivals } });
    await this.keep(id);
    // Where the browser did not keep the adapter, the state that it kept is all that a reload has.
    if (this.store.keeping.lasting) for (const part of ["state", "rows"] as const) await this.store.putPart(id, part, null);
    await this.addAdapter(id);
    this.onAdapter(run.name);
  }

  // Adapters.

  /** Gives the runs that are used their sliders, once their model is loaded. */
  async addSliders(): Promise<void> {
    const sha256 = this.model.loaded?.sha256;
    if (this.model.loaded?.backend !== "cpu") return;
    const wanted = this.runs.filter((run) => run.used && run.adapter !== null && run.model.sha256 === sha256);
    for (const { id } of wanted.slice(0, maxAdapters)) await this.addAdapter(id).catch((thrown: unknown) => (this.model.failure = asFailure(thrown)));
  }

  private async addAdapter(id: string): Promise<void> {
    const run = this.get(id);
    const model = this.model.loaded;
    if (run === null || model === null) return;
    if (run.model.sha256 !== model.sha256) throw new EngineFailure("usage", `This adapter belongs to ${run.model.name}, another model. Load that one to use it.`);
    if (model.backend !== "cpu") throw new EngineFailure("usage", "Adapters act on the processor only, and the model is on the graphics device. Run it on the processor to use this one.");
    const { config, weights } = await this.store.parts(id);
    if (config === undefined || weights === undefined) throw new EngineFailure("usage", "The files of this adapter are no longer in this browser. Delete it, and train it again or open its files.");
    const others = this.adapters.filter(({ name }) => name !== run.name);
    const oldest = others.slice(0, Math.max(0, others.length - (maxAdapters - 1)));
    if (oldest.length > 0) await this.removeSliders(oldest.map(({ name }) => name));
    const card = await this.engine.addAdapter(run.name, config, weights);
    this.model.addAdapter(card);
    // A session's file may have said another.
    this.update(id, { used: true, adapter: card.sha256 });
  }

  private async removeSliders(names: string[]): Promise<void> {
    for (const run of this.runs) {
      if (!names.includes(run.name)) continue;
      this.update(run.id, { used: false });
      await this.keep(run.id);
    }
    await this.model.removeAdapters(names);
  }

  /** Whether the run's adapter has a slider now. */
  isSlider(run: TrainingRun): boolean {
    return this.adapters.some(({ sha256, name }) => sha256 === run.adapter && name === run.name);
  }

  async use(id: string, used: boolean): Promise<void> {
    const run = this.get(id);
    if (run === null) return;
    try {
      if (used) {
        await this.addAdapter(id);
        this.onAdapter(run.name);
      } else await this.removeSliders([run.name]);
      await this.keep(id);
    } catch (thrown) {
      this.work.trouble = { step: "train", id, message: asFailure(thrown).message };
    }
  }

  /** The two files of a finished run's adapter, by their names. */
  async files(id: string): Promise<{ config: Uint8Array; weights: Uint8Array } | null> {
    const { config, weights } = await this.store.parts(id);
    return config === undefined || weights === undefined ? null : { config, weights };
  }

  /** Takes an adapter, the two files of a PEFT directory; gives its run's id, or null and a sentence. */
  async importAdapter(files: readonly File[]): Promise<string | null> {
    const model = this.model.loaded;
    const [config, weights] = [files.find(({ name }) => name.endsWith(".json")), files.find(({ name }) => name.endsWith(".safetensors"))];
    this.refused = null;
    try {
      if (model === null) throw new EngineFailure("usage", "Load the model first: an adapter stands beside one.");
      if (config === undefined || weights === undefined) throw new EngineFailure("usage", "An adapter has two files, adapter_config.json and adapter_model.safetensors. Choose both at once.");
      if (weights.size > maxAdapterBytes) throw new EngineFailure("usage", `This file has ${String(weights.size)} bytes; adapters have at most ${String(maxAdapterBytes)}. Is it a model? Those are opened elsewhere.`);
      if (config.size > maxConfigBytes) throw new EngineFailure("usage", `${config.name} has ${String(config.size)} bytes; an adapter's settings have at most ${String(maxConfigBytes)}.`);
      if (this.adapters.length >= maxAdapters) throw new EngineFailure("usage", `The model has ${String(maxAdapters)} adapters beside it already, as many as fit. Take the slider of one away first.`);
      const bytes = async (file: File) => new Uint8Array(await file.arrayBuffer());
      const parts = { config: await bytes(config), weights: await bytes(weights) };
      const name = nameFor("adapter from files", { kind: "plain" }, { kind: "all" }, this.names);
      const card = await this.engine.addAdapter(name, parts.config, parts.weights);
      const run: TrainingRun = {
        id: newId(),
        updated: Date.now(),
        name,
        model: { name: model.name, sha256: model.sha256 },
        dataset: { name: "files", title: card.made === "" ? "unknown data" : card.made, sha256: "", rows: 0, trait: null },
        selection: { kind: "all" },
        method: { kind: "plain" },
        settings: { rank: card.rank, alpha: card.alpha },
        history: noHistory,
        steps: null,
        seconds: 0,
        tokens: 0,
        adapter: card.sha256,
        used: true,
        moved: null,
        imported: true,
      };
      this.runs = [run, ...this.runs];
      await this.store.put(run);
      await this.store.putPart(run.id, "config", parts.config);
      await this.store.putPart(run.id, "weights", parts.weights);
      this.model.addAdapter(card);
      this.onAdapter(card.name);
      return run.id;
    } catch (thrown) {
      this.refused = asFailure(thrown).message;
      return null;
    }
  }

  async remove(id: string): Promise<void> {
    const run = this.get(id);
    if (run === null) return;
    if (this.work.working?.id === id) await this.work.settle();
    try {
      await aloneInLab(id, async () => {
        if (this.isSlider(run)) await this.model.removeAdapters([run.name]);
        this.runs = this.runs.filter((one) => one.id !== id);
        await this.store.remove(id);
      });
    } catch (thrown) {
      this.work.trouble = { step: "train", id, message: asFailure(thrown).message };
    }
  }

  // What moved.

  /** Holds a run's adapter against the base model: shifts, evidence for the trait of its dataset, likelihood and knowledge. */
  async measure(id: string): Promise<void> {
    const run = this.get(id);
    if (run?.adapter == null) return;
    await this.work.begin("measure", id, () => void this.measure(id), async ({ progress, checkStop }) => {
      if (!this.isSlider(run)) await this.addAdapter(id);
      const plan: Plan = [{ trait: run.name, operation: { kind: "tune", scale: 1 }, scope: "all" }];
      const phases = { reading: ["reading with and without the adapter", "readings"], writing: ["writing answers", "answers"], measuring: ["measuring the answers", "answers"] } as const;
      const [packs, questions, { records }] = [await this.packsFor(run), await knowledgeQuestions(this.engine), await this.store.parts(id)];
      checkStop();
      const moved = await this.engine.shift({ plan, packs, knowledge: questions.slice(0, knowledgeAsked), ...(records != null && { records }) }, (event) => {
        if (event.kind === "records") void this.store.putPart(id, "records", event.records);
        if (event.kind !== "progress") return;
        const [phase, unit] = phases[event.phase];
        progress(phase, unit, event);
      });
      this.update(id, { moved });
      await this.keep(id);
      if (records != null || packs.length > 0) await this.store.putPart(id, "records", null);
    });
  }

  /** Makes the vector of the trait that a run is about anew from the tuned model, of the answers that the ready-made one was made of. */
  async extractAnew(id: string): Promise<void> {
    const run = this.get(id);
    if (run?.adapter == null) return;
    await this.work.begin("measure", id, () => void this.extractAnew(id), async ({ progress, checkStop }) => {
      const trait = this.traitOf(run);
      const report = trait === null ? null : await reportOf(this.engine, trait);
      if (trait === null || report === null) throw new EngineFailure("usage", "The answers that this trait's vector was made of are not here. It has to be one that comes with the model.");
      if (!this.isSlider(run)) await this.addAdapter(id);
      checkStop();
      const plan: Plan = [{ trait: run.name, operation: { kind: "tune", scale: 1 }, scope: "all" }];
      const move = await this.engine.extractAnew(contrastPairs(report, anewAnswers), plan, ({ done, total }) => progress("reading with and without the adapter", "readings", { done, total }));
      this.update(id, { anew: { trait: trait.name, layer: trait.recommended.layers[0] ?? 0, move } });
      await this.keep(id);
    });
  }

  /** The ready-made trait that a run is about; null for none. */
  traitOf(run: TrainingRun): Trait | null {
    const wanted = run.method.kind === "plain" ? run.dataset.trait : run.method.trait;
    const found = this.model.loaded?.traits.find(({ name }) => name === wanted);
    return found !== undefined && this.model.readyMade.includes(found.hash) ? found : null;
  }

  /** The pack of the trait that a run is about, where there is a ready-made one. */
  private async packsFor(run: TrainingRun): Promise<TraitPack[]> {
    const trait = this.traitOf(run);
    if (trait === null) return [];
    const report = await reportOf(this.engine, trait).catch(() => null);
    return report === null ? [] : [report.pack];
  }
}
