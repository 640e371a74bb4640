/** A model of the visitor's own that is about to be opened: what its files are, and in which form it is to be kept. */
import { directFiles } from "../../engine/folder_paths.ts";
import type { Engine, Failure, ModelDescription, ModelSource, Quantisation } from "../../engine/protocol.ts";
import { asFailure } from "./failure.ts";

export type Form = "kept" | Quantisation;

/** Most memory that a browser gives a page's program, in bytes: pointers of WebAssembly have 32 bits. */
const MOST_BYTES = 4 * 2 ** 30;
/** Tokens of conversation that have to fit beside the weights. */
const LEAST_CONTEXT = 512;

export class OpeningModel {
  /** Whether the dialog is open. */
  open: boolean = $state(false);
  looking: boolean = $state(false);
  description: ModelDescription | null = $state.raw(null);
  failure: Failure | null = $state.raw(null);
  form: Form = $state("kept");
  #files: File[] = [];

  constructor(
    private readonly engine: Engine,
    private readonly load: (source: ModelSource) => void,
  ) {}

  /** Bytes that are kept, and that the weights take while the model runs. */
  get bytes(): number | null {
    return this.description?.bytes[this.form] ?? null;
  }

  /** Whether a program in a browser has room for it on the processor. */
  get fits(): boolean {
    const { description, bytes } = this;
    return description === null || bytes === null || bytes + LEAST_CONTEXT * description.cacheBytesPerToken < MOST_BYTES;
  }

  /** Forms that the model can have, the recommended one first. */
  get forms(): Form[] {
    const { bytes } = this.description ?? {};
    const all: Form[] = ["q4", "q8", "kept"];
    return bytes === undefined ? [] : all.filter((form) => bytes[form] !== null);
  }

  show(): void {
    this.open = true;
    this.description = this.failure = null;
    this.#files = [];
  }

  /** Looks at files that were chosen or dropped. What says itself what it is, and is in our form, is loaded at once. */
  async take(chosen: readonly File[]): Promise<void> {
    if (chosen.length === 0) return;
    this.show();
    // Here, because paths inside the folder may be lost on the way to the worker.
    const files = directFiles(chosen);
    this.looking = true;
    try {
      const description = await this.engine.describeModel(files);
      this.#files = files;
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
    this.load({ kind: "directory", files: this.#files, ...asked });
  }
}
