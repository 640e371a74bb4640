/** The dataset, what a screen found in it, and which of its rows are flagged. */

import type { Engine, ScreenedRow, ScreenedTrait, ScreenOverview } from "../../engine/protocol.ts";
import { asFailure } from "../model/failure.ts";
import type { ModelState } from "../model/model.svelte.ts";
import type { RecordStore, StoredRecord } from "../storage/records.ts";
import { flaggedRows, notScreened } from "./choosing.ts";
import { type Dataset, openOwn, openShipped, type ShippedSet } from "./datasets.ts";
import type { OneAtATime } from "./one_at_a_time.svelte.ts";

/** Rows that were screened of one dataset by one model with its traits; the identifier names all three. */
export interface StoredScreen extends StoredRecord {
  /** The model wrote its own answer to every so many-th row; 0: to none. */
  ownEvery: number;
  traits: ScreenedTrait[];
  rows: ScreenedRow[];
}

/** Rows between two summaries of a screen under way. */
const summariseEvery = 24;
const keepScreenMs = 5000;
/** Letters of a trait's hash in the identifier of a screen. */
const hashLetters = 12;

export class Screening {
  dataset: Dataset | null = $state.raw(null);
  /** Why a dataset could not be opened. */
  refused: string | null = $state(null);
  screen: StoredScreen | null = $state.raw(null);
  /** What the screened rows came to when they were summarised last, with those rows: values are in their order. */
  summarised: { rows: readonly ScreenedRow[]; overview: ScreenOverview } | null = $state.raw(null);
  /** Whether rows that lie lowest are the ones to look for. */
  opposite = $state(false);
  /** Rows above this are flagged; null: none are. */
  threshold: number | null = $state(null);
  #trait: string | null = $state(null);

  /** Identifier of what a screen of this dataset would be kept as. */
  readonly id: string | null = $derived.by(() => {
    const { dataset } = this;
    const model = this.model.loaded;
    if (dataset === null || model === null) return null;
    return [dataset.sha256, model.sha256, ...model.traits.map(({ hash }) => hash.slice(0, hashLetters))].join(" ");
  });

  /** The trait that rows are ranked by: as chosen, else the dataset's own, else the model's first. */
  readonly trait: string | null = $derived.by(() => {
    const names = this.model.loaded?.traits.map(({ name }) => name) ?? [];
    return [this.#trait, this.dataset?.trait ?? null].find((name) => name !== null && names.includes(name)) ?? names[0] ?? null;
  });

  /** What rows are ranked by, in the order of the summarised rows. */
  readonly values: Float32Array | null = $derived.by(() => {
    const { summarised, trait } = this;
    if (summarised === null) return null;
    const { overview } = summarised;
    const found = overview.values[overview.summary.traits.findIndex(({ name }) => name === trait)];
    if (found === undefined) return null;
    const along = overview.summary.withOwn < overview.summary.rows ? found.given : found.differences;
    return this.opposite ? along.map((value) => -value) : along;
  });

  /** Numbers of the flagged rows. */
  readonly flagged: ReadonlySet<number> = $derived(flaggedRows(this.summarised, this.values, this.threshold));

  constructor(
    private readonly engine: Engine,
    private readonly screens: RecordStore<StoredScreen, Record<string, never>>,
    private readonly model: ModelState,
    private readonly work: OneAtATime,
  ) {
    screens.keeping.onTrouble = (failure) => (model.failure = failure);
  }

  async openShipped(set: ShippedSet): Promise<void> {
    await this.take(() => openShipped(this.engine, set));
  }

  async openOwn(file: File): Promise<void> {
    await this.take(() => openOwn(this.engine, file));
  }

  private async take(open: () => Promise<Dataset>): Promise<void> {
    this.refused = null;
    if (this.work.busy) {
      this.refused = "The page is at work on other rows. Stop that, or wait until it is done, and open the file again.";
      return;
    }
    try {
      const dataset = await open();
      this.dataset = dataset;
      this.screen = this.summarised = this.threshold = this.#trait = null;
      this.opposite = dataset.opposite;
      await this.recall();
    } catch (thrown) {
      this.refused = asFailure(thrown).message;
    }
  }

  rankBy(trait: string): void {
    this.#trait = trait;
    this.threshold = null;
  }

  rankFromBelow(opposite: boolean): void {
    this.opposite = opposite;
    this.threshold = null;
  }

  private get underWay(): boolean {
    return this.work.working?.step === "screen";
  }

  /** Shows what an earlier screen found of this dataset with this model and its traits. */
  async recall(): Promise<void> {
    const { id } = this;
    if (this.screen?.id === id || this.underWay) return;
    const found = id === null ? undefined : (await this.screens.list()).find((one) => one.id === id);
    // The model or the dataset may have changed meanwhile.
    if (this.id !== id || this.underWay) return;
    this.screen = found ?? null;
    this.summarised = this.threshold = null;
    await this.summarise();
  }

  private async summarise(): Promise<void> {
    const { dataset, screen } = this;
    if (dataset === null || screen === null || screen.rows.length === 0) return;
    try {
      const overview = await this.engine.summariseScreen({ screened: { traits: screen.traits, rows: screen.rows }, rows: dataset.rows });
      if (this.screen?.id === screen.id) this.summarised = { rows: screen.rows, overview };
    } catch (thrown) {
      this.work.trouble = { step: "screen", id: dataset.sha256, message: asFailure(thrown).message };
    }
  }

  /** Screens the rows that are not screened yet. The model writes its own answer to every `ownEvery`th row, or to none (0). */
  async screenRows(ownEvery: number): Promise<void> {
    const { dataset, id } = this;
    if (dataset === null || id === null) return;
    const begun: StoredScreen = this.screen?.id === id ? this.screen : { id, updated: Date.now(), ownEvery, traits: [], rows: [] };
    const every = begun.rows.length > 0 ? begun.ownEvery : ownEvery;
    const rows = notScreened(dataset, begun);
    const [before, total] = [begun.rows.length, dataset.rows.length];
    await this.work.begin("screen", dataset.sha256, () => void this.screenRows(every), async ({ progress, checkStop }) => {
      progress("screening", "rows", { done: before, total });
      let kept = Date.now();
      let summarised = before;
      let current: StoredScreen = { ...begun, ownEvery: every };
      const save = async () => {
        if (this.id === id) this.screen = current;
        await this.screens.put(current);
      };
      try {
        checkStop();
        const found = await this.engine.screen({ rows, ownEvery: every }, (event) => {
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
    // The model's traits changed while it ran.
    await this.recall();
  }

  /** Throws away what was found, to screen in another way. */
  async forget(): Promise<void> {
    const { screen } = this;
    this.screen = this.summarised = this.threshold = null;
    if (screen !== null) await this.screens.remove(screen.id);
  }

  /** Every screen that is kept, of any dataset. */
  async all(): Promise<StoredScreen[]> {
    return this.screens.list();
  }

  async forgetAll(): Promise<void> {
    for (const { id } of await this.all()) await this.screens.remove(id);
    await this.forget();
  }
}
