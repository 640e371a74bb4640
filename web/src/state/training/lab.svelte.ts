/** The training lab: a dataset and its screen, runs of training, and the adapters that they leave. */

import type { Adapter, Engine, Plan, ScreenedRow, ScreenedTrait, ScreenOverview, TrainSettings, TraitPack } from "../../engine/protocol.ts";
import { EngineFailure } from "../../engine/failure.ts";
import { newId } from "../conversation/conversation.ts";
import { asFailure } from "../model/failure.ts";
import type { ModelState } from "../model/model.svelte.ts";
import { aloneWith } from "../storage/one_tab.ts";
import type { RecordStore, StoredRecord } from "../storage/records.ts";
import { reportOf } from "../traits/reports.ts";
import { chosenRows, notScreened } from "./choosing.ts";
import { type Dataset, knowledgeQuestions, openOwn, openShipped, type ShippedSet } from "./datasets.ts";
import { type Method, nameFor, noHistory, penaltyOf, planOf, type Selection, type TrainingParts, type TrainingRun } from "./training_run.ts";

/** Rows that were screened of one dataset by one model. */
export interface StoredScreen extends StoredRecord {
  traits: ScreenedTrait[];
  rows: ScreenedRow[];
}

export type LabStep = "screen" | "train" | "measure";

export interface LabWork {
  step: LabStep;
  /** The run's; the dataset's hash for a screen. */
  id: string;
  phase: string;
  done: number;
  total: number;
  unit: string;
  secondsLeft: number | null;
}

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
/** Questions of knowledge that a measurement on the page asks: some hundred readings. */
const knowledgeAsked = 40;
/** Rows between two summaries of a screen under way. */
const summariseEvery = 24;
const keepScreenMs = 5000;

export class Lab {
  dataset: Dataset | null = $state.raw(null);
  /** Why a dataset could not be opened. */
  refused: string | null = $state(null);
  screen: StoredScreen | null = $state.raw(null);
  overview: ScreenOverview | null = $state.raw(null);
  /** Runs, the newest first. */
  runs: TrainingRun[] = $state.raw([]);
  working: LabWork | null = $state.raw(null);
  /** Why a step ended without a result. */
  trouble: { step: LabStep; id: string; message: string } | null = $state.raw(null);
  /** Hears of an adapter that is to act from now on. */
  onAdapter: (name: string) => void = () => undefined;
  #active: Promise<void> = Promise.resolve();
  /** Starts again what an answer in Play interrupted. */
  #again: (() => void) | null = null;

  constructor(
    private readonly engine: Engine,
    private readonly store: RecordStore<TrainingRun, TrainingParts>,
    private readonly screens: RecordStore<StoredScreen, Record<string, never>>,
    private readonly model: ModelState,
  ) {
    for (const one of [store, screens]) one.keeping.onTrouble = (failure) => (model.failure = failure);
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
    if (this.working?.id === id) return;
    const found = (await this.store.list()).find((run) => run.id === id);
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

  // The dataset.

  async openShipped(set: ShippedSet): Promise<void> {
    await this.take(() => openShipped(this.engine, set));
  }

  async openOwn(file: File): Promise<void> {
    await this.take(() => openOwn(this.engine, file));
  }

  private async take(open: () => Promise<Dataset>): Promise<void> {
    this.refused = null;
    try {
      this.dataset = await open();
      this.screen = this.overview = null;
      await this.recallScreen();
    } catch (thrown) {
      this.refused = asFailure(thrown).message;
    }
  }

  // Screening.

  private screenId(): string | null {
    const { dataset } = this;
    const model = this.model.loaded;
    return dataset === null || model === null ? null : `${dataset.sha256} ${model.sha256}`;
  }

  /** What an earlier visit found of this dataset with this model and its traits. */
  async recallScreen(): Promise<void> {
    const id = this.screenId();
    const found = (await this.screens.list()).find((one) => one.id === id);
    const hashes = (traits: readonly { hash: string }[]) => traits.map(({ hash }) => hash).join();
    if (found === undefined || hashes(found.traits) !== hashes(this.model.loaded?.traits ?? [])) return;
    this.screen = found;
    await this.summarise();
  }

  private async summarise(): Promise<void> {
    const { dataset, screen } = this;
    if (dataset === null || screen === null || screen.rows.length === 0) return;
    try {
      this.overview = await this.engine.summariseScreen({ screened: { traits: screen.traits, rows: screen.rows }, rows: dataset.rows });
    } catch (thrown) {
      this.trouble = { step: "screen", id: dataset.sha256, message: asFailure(thrown).message };
    }
  }

  /** Screens the rows that are not screened yet. The model writes its own answer to every `ownEvery`th row; 0: to none. */
  async screenRows(ownEvery: number): Promise<void> {
    const { dataset } = this;
    const id = this.screenId();
    if (dataset === null || id === null || this.working !== null) return;
    const begun = this.screen ?? { id, updated: Date.now(), traits: [], rows: [] };
    const rows = notScreened(dataset, begun);
    const [before, total] = [begun.rows.length, dataset.rows.length];
    await this.perform("screen", dataset.sha256, () => this.screenRows(ownEvery), async (progress) => {
      progress("screening", "rows", { done: before, total });
      let kept = Date.now();
      let summarised = before;
      let current = begun;
      const save = async () => {
        if (this.dataset === dataset) this.screen = current;
        await this.screens.put(current);
      };
      try {
        const found = await this.engine.screen({ rows, ownEvery }, (event) => {
          if (event.kind === "traits") current = { ...current, traits: event.traits };
          else if (event.kind === "progress") progress("screening", "rows", { done: before + event.done, total, ...(event.secondsLeft === undefined ? {} : { secondsLeft: event.secondsLeft }) });
          else {
            current = { ...current, updated: Date.now(), rows: [...current.rows, event.row] };
            if (Date.now() - kept < keepScreenMs) return;
            kept = Date.now();
            void save();
            if (current.rows.length - summarised >= summariseEvery) {
              summarised = current.rows.length;
              void this.summarise();
            }
          }
        });
        current = { ...current, traits: found.traits, updated: Date.now() };
      } finally {
        current = { ...current, rows: [...current.rows].sort((a, b) => a.row - b.row) };
        await save();
        await this.summarise();
      }
    });
  }

  /** Throws away what was found, to screen in another way. */
  async forgetScreen(): Promise<void> {
    const { screen } = this;
    this.screen = this.overview = null;
    if (screen !== null) await this.screens.remove(screen.id);
  }

  // Training.

  /** Begins a run on rows of the dataset; gives its id. */
  async train(draft: Draft, flagged: ReadonlySet<number>): Promise<string | null> {
    const { dataset } = this;
    const model = this.model.loaded;
    if (dataset === null || model === null || this.working !== null) return null;
    const rows = chosenRows(dataset, draft.selection, draft.most, flagged);
    const taken = [...this.runs.map(({ name }) => name), ...model.traits.map(({ name }) => name)];
    const run: TrainingRun = {
      id: newId(),
      updated: Date.now(),
      name: nameFor(dataset.name, draft.method, draft.selection, taken),
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
    await this.store.put(run);
    await this.store.putPart(run.id, "rows", rows);
    void this.goOn(run.id);
    return run.id;
  }

  /** Goes on with a run that was stopped, or begins it. */
  async goOn(id: string): Promise<void> {
    const run = this.get(id);
    const model = this.model.loaded;
    if (run === null || model === null || run.adapter !== null || this.working !== null) return;
    if (run.model.sha256 !== model.sha256) {
      this.trouble = { step: "train", id, message: `This run was begun with ${run.model.name}, another model. Load that one to go on.` };
      return;
    }
    const { rows = [], state = null } = await this.store.parts(id);
    await this.perform("train", id, () => this.goOn(id), async (progress) => {
      progress("getting ready", "steps", { done: run.history.steps.length, total: run.steps ?? 0 });
      // Tokens a second are those of training alone, without what is read and measured between steps.
      let told = performance.now();
      const penalty = penaltyOf(run.method);
      const trained = await this.engine.train(
        { rows, settings: run.settings, plan: planOf(run.method), dataSha256: run.dataset.sha256, ...(penalty && { penalty }), ...(state && { state }) },
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
            const seconds = (performance.now() - told) / 1000;
            told = performance.now();
            const earlier = history.steps.filter((one) => one.step < step.step);
            this.update(id, { steps, seconds: now.seconds + seconds, tokens: now.tokens + step.tokens, history: { ...history, steps: [...earlier, step] } });
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
      await this.store.putPart(id, "state", null);
      this.update(id, { adapter: sha256, history: { steps, heldOut, arrivals } });
      await this.addAdapter(id);
      this.onAdapter(run.name);
    });
  }

  // Adapters.

  /** Gives the runs that are used their sliders, once their model is loaded. */
  async addSliders(): Promise<void> {
    const sha256 = this.model.loaded?.sha256;
    if (this.model.loaded?.backend !== "cpu") return;
    const wanted = this.runs.filter((run) => run.used && run.adapter !== null && run.model.sha256 === sha256);
    for (const { id } of wanted.slice(0, maxAdapters)) await this.addAdapter(id).catch((thrown: unknown) => (this.model.failure = asFailure(thrown)));
    await this.recallScreen();
  }

  private async addAdapter(id: string): Promise<void> {
    const run = this.get(id);
    const { config, weights } = await this.store.parts(id);
    if (run === null || config === undefined || weights === undefined) return;
    const oldest = this.adapters.filter(({ name }) => name !== run.name).slice(maxAdapters - 1);
    if (oldest.length > 0) await this.removeSliders(oldest.map(({ name }) => name));
    this.model.addAdapter(await this.engine.addAdapter(run.name, config, weights));
    this.update(id, { used: true });
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
      this.trouble = { step: "train", id, message: asFailure(thrown).message };
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
      const bytes = async (file: File) => new Uint8Array(await file.arrayBuffer());
      const parts = { config: await bytes(config), weights: await bytes(weights) };
      const taken = [...this.runs.map(({ name }) => name), ...model.traits.map(({ name }) => name)];
      const name = nameFor("adapter from files", { kind: "plain" }, { kind: "all" }, taken);
      const oldest = this.adapters.slice(maxAdapters - 1);
      if (oldest.length > 0) await this.removeSliders(oldest.map((one) => one.name));
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
    if (this.working?.id === id) await this.stop();
    await this.#active;
    this.runs = this.runs.filter((one) => one.id !== id);
    if (this.isSlider(run)) await this.model.removeAdapters([run.name]);
    await this.store.remove(id);
  }

  // What moved.

  /** Holds a run's adapter against the base model: shifts, evidence for the trait of its dataset, likelihood and knowledge. */
  async measure(id: string): Promise<void> {
    const run = this.get(id);
    if (run?.adapter == null || this.working !== null) return;
    await this.perform("measure", id, () => this.measure(id), async (progress) => {
      progress("getting ready", "readings", { done: 0, total: 0 });
      if (!this.isSlider(run)) await this.addAdapter(id);
      const plan: Plan = [{ trait: run.name, operation: { kind: "tune", scale: 1 }, scope: "all" }];
      const phases = { reading: ["reading with and without the adapter", "readings"], writing: ["writing answers", "answers"], measuring: ["measuring the answers", "answers"] } as const;
      const moved = await this.engine.shift(
        { plan, packs: await this.packsFor(run), knowledge: (await knowledgeQuestions(this.engine)).slice(0, knowledgeAsked) },
        (event) => {
          if (event.kind !== "progress") return;
          const [phase, unit] = phases[event.phase];
          progress(phase, unit, event);
        },
      );
      this.update(id, { moved });
    });
  }

  /** The pack of the trait that a run is about, where there is a ready-made one. */
  private async packsFor(run: TrainingRun): Promise<TraitPack[]> {
    const wanted = run.method.kind === "plain" ? run.dataset.trait : run.method.trait;
    const trait = this.model.loaded?.traits.find(({ name }) => name === wanted);
    if (trait === undefined) return [];
    const report = await reportOf(this.engine, trait).catch(() => null);
    return report === null ? [] : [report.pack];
  }

  // One thing at a time.

  private perform(
    step: LabStep,
    id: string,
    again: () => Promise<void>,
    work: (progress: (phase: string, unit: string, at: { done: number; total: number; secondsLeft?: number }) => void) => Promise<void>,
  ): Promise<void> {
    this.trouble = null;
    this.#again = () => void again();
    this.#active = (async () => {
      try {
        await aloneWith(`trimtab-lab-${id}`, "Another tab of this page is at work on this. Go on there, or stop it there and press the button again.", () =>
          work((phase, unit, { done, total, secondsLeft }) => {
            this.working = { step, id, phase, unit, done, total, secondsLeft: secondsLeft ?? null };
          }),
        );
      } catch (thrown) {
        this.trouble = { step, id, message: asFailure(thrown).message };
      } finally {
        this.working = null;
        if (step !== "screen") await this.keep(id);
      }
    })();
    return this.#active;
  }

  async stop(): Promise<void> {
    if (this.working === null) return;
    try {
      await this.engine.stop();
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
    }
  }

  /** All work here goes on where it stopped, so it makes room for an answer in Play; the result lets it go on. */
  async pause(): Promise<() => void> {
    if (this.working === null) return () => undefined;
    const again = this.#again;
    await this.stop();
    await this.#active;
    // It was stopped for a while, which is no trouble.
    this.trouble = null;
    return () => again?.();
  }
}
