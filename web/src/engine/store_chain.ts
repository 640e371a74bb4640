/**
 * Several places to keep model files, the best first: a store that fails hands what it has over to the next one. Browsers offer
 * storage that then refuses to work (private windows, files that another tab holds, full or broken disks), and no such refusal is a
 * reason not to run the model.
 */
import { EngineFailure } from "./failure.ts";
import { PIECE, type FileStore, type PartialFile } from "./store.ts";

export interface StoredFile {
  blob: Blob;
  /** Whether it is there at the next visit. */
  durable: boolean;
}

/** What had arrived can no longer be read: it has to be fetched once more, into the store that is open now. */
export class BytesLost extends Error {
  constructor(cause: unknown) {
    super(`the browser's storage lost what had arrived: ${reasonOf(cause)}`, { cause });
  }
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error && thrown.message !== "" ? thrown.message : String(thrown);
}

function isQuota(error: unknown): boolean {
  return error instanceof DOMException && error.name === "QuotaExceededError";
}

/** The stores that are left when the first of them failed. */
function after(error: unknown, stores: readonly FileStore[]): readonly FileStore[] {
  const rest = stores.slice(1);
  // The browser's stores share their room: only memory has more.
  return isQuota(error) ? rest.filter(({ durable }) => !durable) : rest;
}

/** A file on its way, in the first store that takes it. */
export class ArrivingFile {
  #length: number;
  #open = true;

  private constructor(
    private readonly sha256: string,
    private store: FileStore,
    private file: PartialFile,
    /** Those that can still take over. */
    private others: readonly FileStore[],
  ) {
    this.#length = file.length;
  }

  /** Opens the file in the first of `stores` that can. */
  static async open(sha256: string, stores: readonly FileStore[]): Promise<ArrivingFile> {
    let failed: unknown = new EngineFailure("quota", "The model has no place to be kept, not even in memory. Reload the page and try again.");
    for (let left = stores; left[0] !== undefined; left = after(failed, left)) {
      try {
        return new ArrivingFile(sha256, left[0], await left[0].open(sha256), left.slice(1));
      } catch (error) {
        failed = error;
      }
    }
    throw failed;
  }

  /** Bytes at hand. */
  get length(): number {
    return this.#length;
  }

  get durable(): boolean {
    return this.store.durable;
  }

  /** At least one and at most `count` bytes from `from` on. Rejects with {@link BytesLost} where they cannot be read. */
  async read(from: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    try {
      const bytes = await this.file.read(from, count);
      if (bytes.length > 0) return bytes;
    } catch {
      // Said below, as of a file that gives nothing.
    }
    const unreadable = new Error("it could not be read back");
    this.#length = 0;
    await this.#handOver(unreadable);
    throw new BytesLost(unreadable);
  }

  async append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await this.#attempt((file) => file.append(bytes));
    this.#length += bytes.length;
  }

  async clear(): Promise<void> {
    this.#length = 0;
    await this.#attempt((file) => file.clear());
  }

  /** Lets go of the file; what has arrived is kept as long as the store that has it can. */
  async close(): Promise<void> {
    if (!this.#open) return;
    await this.#attempt((file) => file.flush()).catch(() => undefined);
    this.#letGo();
  }

  /** Declares the file whole and checked, and closes it. Rejects with {@link BytesLost} where it has to be fetched once more. */
  async seal(): Promise<StoredFile> {
    for (;;) {
      await this.#attempt((file) => file.flush());
      this.#letGo();
      try {
        const blob = await this.store.seal(this.sha256);
        if (blob.size !== this.#length) throw new Error("the file was removed from storage while it arrived, perhaps by another tab");
        return { blob, durable: this.durable };
      } catch (error) {
        try {
          this.file = await this.store.open(this.sha256);
          this.#open = true;
        } catch {
          // Then it cannot be read either, and is fetched once more.
        }
        await this.#handOver(error);
      }
    }
  }

  #letGo(): void {
    if (this.#open) this.file.close();
    this.#open = false;
  }

  /** Does `act` in the first store that can, after handing over what has arrived. */
  async #attempt(act: (file: PartialFile) => void | Promise<void>): Promise<void> {
    for (;;) {
      try {
        return await act(this.file);
      } catch (error) {
        await this.#handOver(error);
      }
    }
  }

  /**
   * Moves what has arrived into the next store that takes it. Rejects with `error` where there is none, with {@link BytesLost} where
   * the old store does not give it back.
   */
  async #handOver(error: unknown): Promise<void> {
    const old = this.store;
    let failed = error;
    for (let left = after(error, [old, ...this.others]); left[0] !== undefined; left = after(failed, left)) {
      let next: PartialFile;
      try {
        next = await left[0].open(this.sha256);
        await next.clear();
        const whole = await this.#copied(next);
        this.#letGo();
        [this.store, this.file, this.others, this.#open] = [left[0], next, left.slice(1), true];
        await old.remove(this.sha256).catch(() => undefined);
        if (whole) return;
      } catch (again) {
        failed = again;
        continue;
      }
      await next.clear();
      this.#length = 0;
      throw new BytesLost(error);
    }
    this.#letGo();
    throw error;
  }

  /** Whether everything that has arrived could be read and is in `next` now. Rejects where `next` does not take it. */
  async #copied(next: PartialFile): Promise<boolean> {
    while (next.length < this.#length) {
      let bytes: Uint8Array<ArrayBuffer>;
      try {
        bytes = await this.file.read(next.length, Math.min(PIECE, this.#length - next.length));
      } catch {
        return false;
      }
      if (bytes.length === 0) return false;
      await next.append(bytes);
    }
    return true;
  }
}

/** The stores of this browser, the best first; the last one is memory. */
export class StoreChain {
  /** Hashes of files that a durable store did not give back whole: they go to memory. */
  readonly #unreadable = new Set<string>();

  constructor(private readonly stores: readonly FileStore[]) {}

  /** The whole file, its hash once checked, where a store has it and gives it back. */
  async find(sha256: string, bytes: number): Promise<StoredFile | undefined> {
    for (const store of this.stores) {
      try {
        const blob = await store.find(sha256, bytes);
        // A file may be listed and yet be gone, which only reading tells.
        if (blob !== undefined && (await blob.slice(-1).arrayBuffer()).byteLength === Math.min(1, bytes)) return { blob, durable: store.durable };
      } catch {
        // The next store may have it.
      }
    }
    return undefined;
  }

  /** The file as far as it has arrived, in the store that has most of it; the others can take over. */
  async open(sha256: string): Promise<ArrivingFile> {
    const usable = this.stores.filter(({ durable }) => !durable || !this.#unreadable.has(sha256));
    const found = await Promise.all(usable.map(async (store) => ({ store, arrived: await store.arrived(sha256).catch(() => 0) })));
    const best = found.toSorted((one, other) => other.arrived - one.arrived);
    return ArrivingFile.open(sha256, best.map(({ store }) => store));
  }

  /** For a whole file that turned out not to be readable: it is fetched anew, into memory. */
  async distrust(sha256: string): Promise<void> {
    this.#unreadable.add(sha256);
    await this.remove(sha256).catch(() => undefined);
  }

  /** Rejects with an {@link EngineFailure} where a store does not let go of the file. */
  async remove(sha256: string): Promise<void> {
    const results = await Promise.allSettled(this.stores.map((store) => store.remove(sha256)));
    const failed = results.find((result) => result.status === "rejected");
    if (failed) {
      throw new EngineFailure("quota", `The browser's storage did not remove the file (${reasonOf(failed.reason)}). Close other tabs of this page and try again, or clear this site's data in the browser's settings.`);
    }
  }

  /** Everything that outlives the page, files that have not arrived whole included. */
  async list(): Promise<{ sha256: string; bytes: number }[]> {
    const sizes = new Map<string, number>();
    for (const found of await Promise.all(this.stores.map((store) => store.list().catch(() => [])))) {
      for (const { sha256, bytes } of found) sizes.set(sha256, (sizes.get(sha256) ?? 0) + bytes);
    }
    return [...sizes].map(([sha256, bytes]) => ({ sha256, bytes }));
  }
}
