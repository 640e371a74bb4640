/** One file from the network into a store: resumed where it broke off, checked by length and hash. */
import { EngineFailure } from "./failure.ts";
import { PIECE } from "./store.ts";
import { BytesLost, type ArrivingFile, type StoreChain } from "./store_chain.ts";

/** A file as a manifest names it. */
export interface FileEntry {
  name: string;
  bytes: number;
  /** Lower-case hexadecimal; of the whole file, however many parts it comes in. */
  sha256: string;
  /** What lies on the server in its place, in order: some hosts take no large files. */
  parts?: FilePart[];
}

export interface FilePart {
  /** Beside where the whole file would be. */
  name: string;
  bytes: number;
}

/** SHA-256 over pieces: `crypto.subtle` hashes only what is whole in memory. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** Lower-case hexadecimal; ends the hasher's life. */
  finish(): string;
}

export interface DownloadOptions {
  store: StoreChain;
  fetch: (url: string, init: RequestInit) => Promise<Response>;
  hasher: () => Hasher;
  signal: AbortSignal;
  /** Bytes of this file at hand (kept ones included), and whether they came from the network. */
  onBytes: (bytes: number, fromNetwork: boolean) => void;
  /** Milliseconds before each further try after the connection broke. */
  retryAfter?: readonly number[];
}

export interface Downloaded {
  blob: Blob;
  fromCache: boolean;
  /** Whether the file will be there at the next visit. */
  kept: boolean;
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(bytes < 1e6 ? 2 : 0);

/** The connection broke; another try may do. */
class Interrupted extends Error {}

/** `bytes A-B/N` → A. */
function rangeStart(response: Response): number | undefined {
  const match = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "");
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}

class Download {
  #hasher: Hasher;
  /** Bytes kept and hashed. */
  #arrived = 0;

  private constructor(
    private readonly url: string,
    private readonly entry: FileEntry,
    private readonly options: DownloadOptions,
    private readonly file: ArrivingFile,
  ) {
    this.#hasher = options.hasher();
  }

  static async run(url: string, entry: FileEntry, options: DownloadOptions): Promise<Downloaded> {
    const file = await options.store.open(entry.sha256);
    try {
      const download = new Download(url, entry, options, file);
      await download.#takeUp();
      return await download.#finish();
    } finally {
      await file.close();
    }
  }

  async #finish(): Promise<Downloaded> {
    for (;;) {
      await this.#fetchRest();
      const found = this.#hasher.finish();
      if (found !== this.entry.sha256) {
        await this.file.close();
        await this.options.store.remove(this.entry.sha256);
        throw new EngineFailure(
          "corrupt-model",
          `${this.entry.name} arrived complete but is not the file that was promised (its SHA-256 is ${found}, not ${this.entry.sha256}). It was thrown away; try again, and if that fails too, the server has the wrong file.`,
        );
      }
      try {
        const { blob, durable } = await this.file.seal();
        return { blob, fromCache: false, kept: durable };
      } catch (error) {
        if (!(error instanceof BytesLost)) throw error;
        this.#startOver();
      }
    }
  }

  async #fetchRest(): Promise<void> {
    const retryAfter = this.options.retryAfter ?? [500, 2_000, 5_000];
    for (let attempt = 0; this.#arrived < this.entry.bytes; attempt++) {
      const before = this.#arrived;
      try {
        await this.#request();
        // The next part has all its tries before it.
        attempt = -1;
      } catch (error) {
        if (!(error instanceof Interrupted)) throw error;
        // A connection that brings something is worth as many tries as it needs.
        if (this.#arrived > before) attempt = 0;
        const wait = retryAfter[attempt];
        if (wait === undefined) throw this.#brokenOff(error);
        await pause(wait, this.options.signal);
      }
    }
  }

  /** Hashes what an earlier visit left. */
  async #takeUp(): Promise<void> {
    if (this.file.length > this.entry.bytes) await this.#restart();
    try {
      while (this.#arrived < this.file.length) {
        this.options.signal.throwIfAborted();
        const bytes = await this.file.read(this.#arrived, Math.min(PIECE, this.file.length - this.#arrived));
        this.#hasher.update(bytes);
        this.#arrived += bytes.length;
      }
    } catch (error) {
      if (!(error instanceof BytesLost)) throw error;
      this.#startOver();
    }
    this.options.onBytes(this.#arrived, false);
  }

  async #restart(): Promise<void> {
    await this.file.clear();
    this.#startOver();
  }

  #startOver(): void {
    this.#arrived = 0;
    this.#hasher = this.options.hasher();
  }

  /** What is asked for next: a part that lies at `start` in the file (the whole file, where it has no parts). */
  #next(): { url: string; start: number; bytes: number } {
    const { parts, bytes } = this.entry;
    let start = 0;
    for (const part of parts ?? []) {
      if (this.#arrived < start + part.bytes) {
        return { url: `${this.url.slice(0, this.url.lastIndexOf("/") + 1)}${part.name}`, start, bytes: part.bytes };
      }
      start += part.bytes;
    }
    return { url: this.url, start: 0, bytes };
  }

  async #request(): Promise<void> {
    const { signal } = this.options;
    const { url, start, bytes } = this.#next();
    const from = this.#arrived - start;
    // The store keeps the file; the browser's own cache would keep it a second time.
    const init: RequestInit = { signal, cache: "no-store", ...(from > 0 && { headers: { Range: `bytes=${String(from)}-` } }) };
    let response: Response;
    try {
      response = await this.options.fetch(url, init);
    } catch (error) {
      signal.throwIfAborted();
      throw new Interrupted(error instanceof Error ? error.message : String(error));
    }
    if (response.status === 416 || (response.status === 206 && rangeStart(response) !== from)) {
      // The server's file is not the one whose beginning is kept.
      await this.#restart();
      throw new Interrupted("the server could not continue the file");
    }
    if (response.status >= 500 || response.status === 429) throw new Interrupted(`the server answered ${String(response.status)}`);
    if (!response.ok || !response.body) {
      throw new EngineFailure(
        "download",
        `${this.entry.name} could not be fetched: the server answered ${String(response.status)} for ${url}. Check that the model's files are beside the page, and try again.`,
      );
    }
    // A plain server ignores Range and sends what is here already once more.
    await this.#receive(response.body.getReader(), start + bytes, response.status === 206 ? 0 : from);
  }

  /** Takes up what comes until `end` (in the file), without the first `skipped` bytes. */
  async #receive(reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>, end: number, skipped: number): Promise<void> {
    const { signal } = this.options;
    let skip = skipped;
    try {
      for (;;) {
        let step: ReadableStreamReadResult<Uint8Array<ArrayBuffer>>;
        try {
          step = await reader.read();
        } catch (error) {
          signal.throwIfAborted();
          throw new Interrupted(error instanceof Error ? error.message : String(error));
        }
        signal.throwIfAborted();
        if (step.done) break;
        const known = Math.min(skip, step.value.length);
        skip -= known;
        if (known === step.value.length) continue;
        await this.#append(step.value.subarray(known), end);
        this.options.onBytes(this.#arrived, true);
      }
    } finally {
      // Closes the connection when the loop was left early; a finished stream ignores it.
      await reader.cancel().catch(() => undefined);
    }
    if (this.#arrived < end) throw new Interrupted("the connection closed too early");
  }

  async #append(bytes: Uint8Array<ArrayBuffer>, end: number): Promise<void> {
    if (this.#arrived + bytes.length > end) {
      await this.#restart();
      throw new EngineFailure(
        "corrupt-model",
        `${this.entry.name} is longer than the ${String(this.entry.bytes)} bytes that were promised. It was thrown away; the server has the wrong file.`,
      );
    }
    try {
      await this.file.append(bytes);
    } catch (error) {
      if (!(error instanceof BytesLost)) throw error;
      this.#startOver();
      throw new Interrupted(error.message);
    }
    this.#arrived += bytes.length;
    this.#hasher.update(bytes);
  }

  #brokenOff(cause: Error): EngineFailure {
    const kept = this.file.durable ? "What has arrived is kept: try again and it goes on from there." : "Check the connection and try again.";
    return new EngineFailure(
      "download",
      `The download of ${this.entry.name} broke off after ${megabytes(this.#arrived)} of ${megabytes(this.entry.bytes)} MB (${cause.message}). ${kept}`,
    );
  }
}

/** Finds the file in the store, or brings it there. Rejects with an {@link EngineFailure} or the signal's reason. */
export async function obtain(url: string, entry: FileEntry, options: DownloadOptions): Promise<Downloaded> {
  const found = await options.store.find(entry.sha256, entry.bytes);
  if (!found) return Download.run(url, entry, options);
  options.onBytes(entry.bytes, false);
  return { blob: found.blob, fromCache: true, kept: found.durable };
}
