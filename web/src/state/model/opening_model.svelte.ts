/** A model of the visitor's own that is about to be opened: from where, what its files are, and in which form it is to be kept. */
import type { Engine, Failure, HubFile, HubModel, LoadOptions, LoadProgress, ModelDescription, ModelSource, Quantisation, Room } from "../../engine/protocol.ts";
import { asFailure } from "./failure.ts";
import type { Preferences } from "./preferences.svelte.ts";

export type Form = "kept" | Quantisation;

/** The form that most people take: four bits a number where it is there. */
function usualForm(forms: readonly HubFile[]): string {
  const usual = forms.find(({ path }) => /q4_k_m/i.test(path)) ?? forms[0];
  return usual?.path ?? "";
}

export class OpeningModel {
  /** Whether the dialog is open. */
  open: boolean = $state(false);
  looking: boolean = $state(false);
  description: ModelDescription | null = $state.raw(null);
  failure: Failure | null = $state.raw(null);
  form: Form = $state("kept");
  /** What was typed as a name on the hub. */
  name: string = $state("");
  /** What the hub has under it. */
  found: HubModel | null = $state.raw(null);
  /** The file that was chosen among several forms. */
  path: string = $state("");
  fetching: LoadProgress | "begun" | null = $state.raw(null);
  #files: File[] = [];
  /** Hashes of what was fetched: once the model is converted nobody needs it. */
  #fetched: string[] = [];

  constructor(
    private readonly engine: Engine,
    private readonly preferences: Preferences,
    /** True when the model is there afterwards. */
    private readonly load: (source: ModelSource) => Promise<boolean>,
  ) {}

  /** Bytes that are kept. */
  get bytes(): number | null {
    return this.description?.bytes[this.form] ?? null;
  }

  /** What the chosen form needs where it would run. */
  get room(): Room | null {
    return this.description?.room[this.form] ?? null;
  }

  /** Forms that the model can have, the recommended one first. */
  get forms(): Form[] {
    const { bytes } = this.description ?? {};
    const all: Form[] = ["q4", "q8", "kept"];
    return bytes === undefined ? [] : all.filter((form) => bytes[form] !== null);
  }

  /** How the model would be loaded. */
  get #options(): LoadOptions {
    const { backend, precision, context } = this.preferences.choices;
    return { backend, precision, ...(context === null ? {} : { context }) };
  }

  show(): void {
    this.open = true;
    this.description = this.failure = this.found = null;
    this.#files = this.#fetched = [];
  }

  /** Files to be fetched; none before one of several forms is chosen. */
  get wanted(): readonly HubFile[] {
    const files = this.found?.files;
    if (files === undefined) return [];
    return "model" in files ? files.model : files.oneOf.filter(({ path }) => path === this.path);
  }

  /** Asks the hub what it has under the name: the typed one, or a suggested one, which is then there to be changed. */
  async lookUp(suggested: string = this.name): Promise<void> {
    this.name = suggested;
    this.failure = this.found = null;
    this.looking = true;
    try {
      const found = await this.engine.lookUpModel(this.name, this.#options);
      this.path = "oneOf" in found.files ? usualForm(found.files.oneOf) : "";
      this.found = found;
    } catch (thrown) {
      this.failure = asFailure(thrown);
    } finally {
      this.looking = false;
    }
  }

  /** Fetches what was looked up, and looks at it as if it had been chosen. */
  async fetch(): Promise<void> {
    const { found, wanted } = this;
    if (found === null || wanted.length === 0) return;
    this.failure = null;
    this.fetching = "begun";
    try {
      const files = await this.engine.fetchModel(found.name, $state.snapshot(wanted) as HubFile[], (progress) => (this.fetching = progress));
      this.fetching = null;
      await this.take(files);
      this.#fetched = wanted.flatMap(({ sha256 }) => (sha256 === null ? [] : [sha256]));
    } catch (thrown) {
      this.failure = asFailure(thrown);
    } finally {
      this.fetching = null;
    }
  }

  /** What has arrived is kept: another try goes on from there. */
  async stop(): Promise<void> {
    await this.engine.cancelLoad();
  }

  /** Looks at files that were chosen or dropped. What says itself what it is, and is in our form, is loaded at once. */
  async take(chosen: readonly File[]): Promise<void> {
    if (chosen.length === 0) return;
    this.show();
    this.looking = true;
    try {
      const description = await this.engine.describeModel([...chosen], this.#options);
      this.#files = [...chosen];
      this.description = description;
      if (description === null) this.start();
      else this.form = description.bytes.q4 === null ? "kept" : "q4";
    } catch (thrown) {
      this.failure = asFailure(thrown);
    } finally {
      this.looking = false;
    }
  }

  start(): void {
    this.open = false;
    const { form } = this;
    const asked = this.description === null || form === "kept" ? {} : { quantisation: form };
    void this.#loadAndTidy({ kind: "directory", files: this.#files, ...asked }, this.#fetched);
  }

  async #loadAndTidy(source: ModelSource, fetched: string[]): Promise<void> {
    if ((await this.load(source)) && fetched.length > 0) await this.engine.removeStored(fetched).catch(() => undefined);
  }
}
