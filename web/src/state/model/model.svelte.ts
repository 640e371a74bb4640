/** The model: the catalogue, loading, and the loaded model. */

import type { Adapter, Engine, Failure, LoadedModel, LoadProgress, ModelCard, ModelSource, Precision, Trait } from "../../engine/protocol.ts";
import { asFailure } from "./failure.ts";
import type { Preferences } from "./preferences.svelte.ts";

export type Stage = { kind: "idle" } | { kind: "loading"; progress: LoadProgress | null } | { kind: "ready"; model: LoadedModel };

/** Where a listed model comes from. */
export function sourceOf({ id, own }: ModelCard): ModelSource {
  return { kind: own ? "own" : "catalogue", id };
}

export class ModelState {
  cards: ModelCard[] = $state.raw([]);
  stage: Stage = $state.raw({ kind: "idle" });
  failure: Failure | null = $state.raw(null);
  notices: string[] = $state.raw([]);
  /** Hashes of the vectors that come with the model: a link names these, and carries others inside. */
  readyMade: readonly string[] = $state.raw([]);
  readonly loaded: LoadedModel | null = $derived(this.stage.kind === "ready" ? this.stage.model : null);
  /** Precision that the open link was made with; it holds for a model that is loaded to replay it. */
  precisionOfLink: Precision | null = null;
  /** Called before traits go, so that nothing pushes or colours by them. */
  onRemoved: (names: readonly string[]) => void = () => undefined;
  /** The same for adapters. */
  onAdaptersRemoved: (names: readonly string[]) => void = () => undefined;
  #source: ModelSource | null = null;
  #attempt = 0;

  constructor(
    readonly engine: Engine,
    private readonly preferences: Preferences,
  ) {
    engine.onFailure((failure) => {
      this.failure = failure;
      if (failure.kind === "device-lost" || failure.kind === "internal") this.unload();
    });
  }

  /** Shows a model that a script loaded. */
  adopt(source: ModelSource, model: LoadedModel): void {
    this.#source = source;
    this.#attempt += 1;
    this.failure = null;
    this.ready(model);
  }

  /** Adds a trait, or replaces the one of its name. */
  addTrait(trait: Trait): void {
    const model = this.loaded;
    if (model === null) return;
    // A replaced trait keeps its place: readings come in the engine's order, which keeps it too.
    const known = model.traits.some(({ name }) => name === trait.name);
    const traits = known ? model.traits.map((one) => (one.name === trait.name ? trait : one)) : [...model.traits, trait];
    this.stage = { kind: "ready", model: { ...model, traits } };
  }

  /**
   * Lets go of traits by name. They leave the list before the engine hears of it: what is asked of it afterwards is answered in
   * the order that the list then has.
   */
  async removeTraits(names: readonly string[]): Promise<void> {
    const model = this.loaded;
    this.onRemoved(names);
    if (model === null || !model.traits.some(({ name }) => names.includes(name))) return;
    this.stage = { kind: "ready", model: { ...model, traits: model.traits.filter(({ name }) => !names.includes(name)) } };
    try {
      await this.engine.removeTraits([...names]);
    } catch (thrown) {
      this.failure = asFailure(thrown);
    }
  }

  /** Adds an adapter, or replaces the one of its name. */
  addAdapter(adapter: Adapter): void {
    const model = this.loaded;
    if (model === null) return;
    const others = model.adapters.filter(({ name }) => name !== adapter.name);
    this.stage = { kind: "ready", model: { ...model, adapters: [...others, adapter] } };
  }

  async removeAdapters(names: readonly string[]): Promise<void> {
    const model = this.loaded;
    this.onAdaptersRemoved(names);
    if (model === null || !model.adapters.some(({ name }) => names.includes(name))) return;
    this.stage = { kind: "ready", model: { ...model, adapters: model.adapters.filter(({ name }) => !names.includes(name)) } };
    try {
      await this.engine.removeAdapters([...names]);
    } catch (thrown) {
      this.failure = asFailure(thrown);
    }
  }

  /** Shows the same model in another place, after its device was lost. */
  recovered(model: LoadedModel): void {
    const place = model.backend === "cpu" ? "on the processor, which may be slower" : "there";
    const notice = `The graphics device was lost in the middle of an answer. The model was loaded again and goes on ${place}.`;
    const { adapter, trial } = this.loaded ?? {};
    this.stage = { kind: "ready", model: { ...model, adapter: model.adapter || (adapter ?? ""), ...(trial && { trial }) } };
    this.notices = [...this.notices, notice];
  }

  private ready(model: LoadedModel): void {
    this.readyMade = model.traits.map(({ hash }) => hash);
    this.stage = { kind: "ready", model };
    this.notices = model.notices;
    void this.readCatalogue();
  }

  private unload(): void {
    this.stage = { kind: "idle" };
    this.notices = [];
  }

  async readCatalogue(): Promise<void> {
    try {
      this.cards = await this.engine.catalogue();
    } catch (thrown) {
      this.failure = asFailure(thrown);
    }
  }

  /** Loads a model; true when it is there afterwards. */
  async load(source: ModelSource): Promise<boolean> {
    this.#source = source;
    this.#attempt += 1;
    const attempt = this.#attempt;
    this.failure = null;
    this.notices = [];
    this.stage = { kind: "loading", progress: null };
    const { backend, context } = this.preferences.choices;
    const precision = this.precisionOfLink ?? this.preferences.choices.precision;
    try {
      const model = await this.engine.load(
        source,
        { backend, precision, ...(context === null ? {} : { context }) },
        (progress) => {
          if (attempt === this.#attempt && this.stage.kind === "loading") this.stage = { kind: "loading", progress };
        },
      );
      if (attempt !== this.#attempt) return false;
      this.ready(model);
      return true;
    } catch (thrown) {
      if (attempt !== this.#attempt) return false;
      this.stage = { kind: "idle" };
      this.failure = asFailure(thrown);
      void this.readCatalogue();
      return false;
    }
  }

  /** Loads the model that was asked for last, or the catalogue's first. */
  async loadAgain(): Promise<boolean> {
    const first = this.cards[0];
    const source = this.#source ?? (first === undefined ? null : sourceOf(first));
    return source === null ? false : this.load(source);
  }

  async cancel(): Promise<void> {
    this.#attempt += 1;
    this.stage = { kind: "idle" };
    try {
      await this.engine.cancelLoad();
    } catch (thrown) {
      this.failure = asFailure(thrown);
    }
    await this.readCatalogue();
  }

  async removeCached(id: string): Promise<void> {
    try {
      await this.engine.removeCached(id);
    } catch (thrown) {
      this.failure = asFailure(thrown);
    }
    await this.readCatalogue();
  }
}
