/** Everything on the screen that is not layout: one object, given to the components by context. */

import { createContext } from "svelte";
import { SvelteSet } from "svelte/reactivity";
import type { Adapter, Engine, Plan, Trait } from "../../engine/protocol.ts";
import { type ConversationStore, memoryStore } from "../storage/conversations.ts";
import { askToPersist } from "../storage/persistence.ts";
import type { HeatView } from "./heat_view.ts";
import { Chat } from "./chat.svelte.ts";
import type { Remedy } from "../model/failure.ts";
import { ModelState } from "../model/model.svelte.ts";
import { OpeningModel } from "../model/opening_model.svelte.ts";
import { Preferences } from "../model/preferences.svelte.ts";
import { Sliders } from "./sliders.svelte.ts";
import { recallTab, rememberTab } from "./tab_memory.ts";
import { memoryRecords, type RecordStore } from "../storage/records.ts";
import { Lab } from "../training/lab.svelte.ts";
import type { StoredScreen } from "../training/screening.svelte.ts";
import type { TrainingParts, TrainingRun } from "../training/training_run.ts";
import { type OwnTraitParts, type OwnTrait, Workshop } from "../traits/workshop.svelte.ts";

export class Session {
  readonly preferences = new Preferences();
  readonly sliders = new Sliders();
  readonly model: ModelState;
  readonly chat: Chat;
  readonly workshop: Workshop;
  readonly lab: Lab;
  /** The dialog in which a model of the visitor's own is opened. */
  readonly opening: OpeningModel;
  view: HeatView = $state({ by: { kind: "nothing" }, layer: null, insideRun: false });
  /** Colours follow the slider that moved last, until the visitor chooses what they show. */
  viewChosen = false;
  /** A plan from elsewhere that the sliders cannot show; it holds until one of them moves. */
  lentPlan: Plan | null = $state.raw(null);
  /** Columns, or the question, whose tokens' cards were opened; a lesson reads and empties the set. */
  readonly cards = new SvelteSet<"unsteered" | "steered" | "question">();

  constructor(
    readonly engine: Engine,
    store: ConversationStore = memoryStore(),
    made: RecordStore<OwnTrait, OwnTraitParts> = memoryRecords("traits"),
    runs: RecordStore<TrainingRun, TrainingParts> = memoryRecords("runs"),
    screens: RecordStore<StoredScreen, Record<string, never>> = memoryRecords("screens"),
  ) {
    this.model = new ModelState(engine, this.preferences);
    this.opening = new OpeningModel(engine, this.preferences, (source) => this.load(source));
    this.model.onRemoved = (names) => this.forget(names);
    this.model.onAdaptersRemoved = (names) => this.forgetAdapters(names);
    this.workshop = new Workshop(engine, made, this.model, (count) => this.makeRoom(count));
    this.lab = new Lab(engine, runs, screens, this.model);
    this.lab.onAdapter = (name) => this.sliders.tune(name, 1);
    const before = recallTab();
    if (before !== null) {
      for (const [trait, coefficient] of before.sliders) this.sliders.set(trait, coefficient);
      for (const [adapter, scale] of before.adapters) this.sliders.tune(adapter, scale);
      this.view = before.view;
      this.viewChosen = before.viewChosen;
    }
    this.chat = new Chat(engine, store, this.preferences, this.model, () => this.plan(), () => this.pauseOthers());
  }

  /** Remembers sliders and colours for a reload. Call it from an effect, which then follows them. */
  remember(): void {
    rememberTab({ sliders: this.sliders.moved, adapters: this.sliders.tuned, view: $state.snapshot(this.view), viewChosen: this.viewChosen });
  }

  get traits(): readonly Trait[] {
    return this.model.loaded?.traits ?? [];
  }

  /** Whether something is at work with the model that something else would have to wait for. */
  get busy(): boolean {
    return this.chat.running !== null || this.othersWork;
  }

  /** Whether traits are being made, or the training lab is at work. */
  private get othersWork(): boolean {
    return this.workshop.running !== null || this.lab.work.busy;
  }

  get adapters(): readonly Adapter[] {
    return this.model.loaded?.adapters ?? [];
  }

  plan(): Plan {
    return this.lentPlan ?? this.sliders.plan(this.traits, this.adapters, this.preferences.choices.scope);
  }

  /** Interrupts other work of the model for an answer; the result lets it go on. */
  private async pauseOthers(): Promise<() => void> {
    const [traits, training] = [await this.workshop.pause(), await this.lab.work.pause()];
    return () => {
      traits();
      training();
    };
  }

  /** Stops what belongs to a model that goes; it is kept, and can go on when that is back. */
  private async stopOthers(): Promise<void> {
    await this.workshop.pause();
    await this.lab.work.settle();
  }

  /** Steers by a plan that was not made here: with the sliders where they can show it, else as it is. */
  takePlan(plan: Plan): void {
    const { scope } = this.preferences.choices;
    const asSlider = (term: Plan[number]) => {
      if (term.operation.kind === "tune") return this.adapters.some(({ name }) => name === term.trait);
      const recommended = this.traits.find(({ name }) => name === term.trait)?.recommended.layers;
      const usual = term.layers === undefined || term.layers.join() === recommended?.join();
      return term.operation.kind === "add" && term.scope === scope && usual;
    };
    const one = plan.every(({ trait }, at) => plan.findIndex((term) => term.trait === trait) === at);
    this.sliders.show(plan);
    this.lentPlan = one && plan.every(asSlider) ? null : plan;
    if (this.lentPlan !== null) this.sliders.reset();
  }

  moveSlider(trait: string, coefficient: number): void {
    this.lentPlan = null;
    this.sliders.set(trait, coefficient);
    if (!this.viewChosen) this.view.by = { kind: "trait", trait };
  }

  moveAdapter(adapter: string, scale: number): void {
    this.lentPlan = null;
    this.sliders.tune(adapter, scale);
  }

  /** Sliders that did not come with the model, and can go again: random directions, traits from links, the visitor's own. */
  get addedTraits(): readonly Trait[] {
    return this.traits.filter(({ hash }) => !this.model.readyMade.includes(hash));
  }

  /**
   * Lets go of random directions and traits of links, the oldest first, until the model has room for `count` more. What pushes or
   * colours now stays, and so does what the visitor made; the engine says what to do where that is not enough.
   */
  async makeRoom(count: number): Promise<void> {
    const model = this.model.loaded;
    if (model === null) return;
    const { by } = this.view;
    const used = (name: string) => this.plan().some(({ trait }) => trait === name) || (by.kind === "trait" && by.trait === name);
    const idle = this.addedTraits.filter(({ name }) => !this.workshop.owns(name) && !used(name));
    const over = Math.max(0, model.traits.length + count - model.maxTraits);
    await this.model.removeTraits(idle.slice(0, over).map(({ name }) => name));
  }

  /** Makes sure that nothing pushes or colours by a trait that went. */
  private forget(names: readonly string[]): void {
    for (const name of names) this.sliders.forget(name);
    if (this.lentPlan?.some(({ trait, operation }) => operation.kind !== "tune" && names.includes(trait)) === true) this.lentPlan = null;
    const { by } = this.view;
    if (by.kind === "trait" && names.includes(by.trait)) {
      const other = this.traits.find(({ name }) => !names.includes(name));
      this.view.by = other === undefined ? { kind: "surprise" } : { kind: "trait", trait: other.name };
      this.view.layer = null;
    }
  }

  private forgetAdapters(names: readonly string[]): void {
    for (const name of names) this.sliders.forgetAdapter(name);
    if (this.lentPlan?.some(({ trait, operation }) => operation.kind === "tune" && names.includes(trait)) === true) this.lentPlan = null;
  }

  chooseView(by: HeatView["by"]): void {
    this.viewChosen = true;
    this.view.by = by;
  }

  /** Loads a model; true when it is there afterwards. */
  async load(source: Parameters<ModelState["load"]>[0]): Promise<boolean> {
    if (this.othersWork) await this.stopOthers();
    const loaded = await this.model.load(source);
    if (loaded) await this.afterLoad();
    return loaded;
  }

  async loadAgain(): Promise<void> {
    if (this.othersWork) await this.stopOthers();
    if (await this.model.loadAgain()) await this.afterLoad();
  }

  private async afterLoad(): Promise<void> {
    await this.workshop.addSliders();
    await this.lab.addSliders();
    const first = this.traits[0];
    const by = this.view.by;
    const known = by.kind !== "trait" || this.traits.some((trait) => trait.name === by.trait);
    if (by.kind === "nothing" || !known) this.view.by = first === undefined ? { kind: "surprise" } : { kind: "trait", trait: first.name };
    this.chat.announcement = "The model is ready.";
    // A browser that runs out of room would else throw the download away.
    void askToPersist();
    await this.chat.answerWaiting();
  }

  async remedy(remedy: Exclude<Remedy, "save-session">): Promise<void> {
    const choices = this.preferences.choices;
    switch (remedy) {
      case "use-cpu":
        choices.backend = "cpu";
        return this.loadAgain();
      case "shorter-context":
        choices.context = Math.max(256, Math.floor((choices.context ?? 2048) / 2));
        return this.loadAgain();
      case "download-again":
        for (const card of this.model.cards) await this.model.removeCached(card.id);
        return this.loadAgain();
      case "reload-model":
        return this.loadAgain();
      case "new-conversation":
        this.model.failure = null;
        return this.chat.startNew();
      case "reload-page":
        location.reload();
    }
  }
}

export const [getSession, setSession] = createContext<Session>();
