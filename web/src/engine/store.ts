/** Where model files are kept between visits, by the SHA-256 of what they hold. */

/** Most bytes that are handed on at once: files are too large for one copy in WebAssembly's memory. */
export const PIECE = 4 * 1024 * 1024;

/** A file on its way in one store: what has arrived, from the first byte on. Any method but `close` may fail. */
export interface PartialFile {
  /** Bytes kept so far. */
  readonly length: number;
  /** At least one and at most `count` bytes from `from` on, which must be there. */
  read(from: number, count: number): Uint8Array<ArrayBuffer> | Promise<Uint8Array<ArrayBuffer>>;
  /** Adds bytes at the end. After a failure what was there before can still be read. */
  append(bytes: Uint8Array<ArrayBuffer>): void | Promise<void>;
  /** Forgets everything. */
  clear(): void | Promise<void>;
  /** Makes what has arrived outlive the page. After a failure it can still be read. */
  flush(): void | Promise<void>;
  /** Lets go of the file; must be called once. */
  close(): void;
}

/** One place where files can be kept. Any method may fail at any time: {@link StoreChain} then goes on with the next store. */
export interface FileStore {
  /** Whether what it keeps is there at the next visit. */
  readonly durable: boolean;
  /** The whole file, its hash once checked; absent if it is not there. */
  find(sha256: string, bytes: number): Promise<Blob | undefined>;
  /** Bytes of the file that have arrived here, also at an earlier visit. */
  arrived(sha256: string): Promise<number>;
  /** The file as far as it has arrived. Only one at a time may be open under one hash. */
  open(sha256: string): Promise<PartialFile>;
  /** Declares a closed partial file whole and checked. */
  seal(sha256: string): Promise<Blob>;
  remove(sha256: string): Promise<void>;
  /** Everything that outlives the page, files that have not arrived whole included. */
  list(): Promise<{ sha256: string; bytes: number }[]>;
}

class MemoryFile implements PartialFile {
  length = 0;
  readonly parts: Uint8Array<ArrayBuffer>[] = [];

  async read(from: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    return new Uint8Array(await new Blob(this.parts).slice(from, from + count).arrayBuffer());
  }

  append(bytes: Uint8Array<ArrayBuffer>): void {
    this.parts.push(bytes);
    this.length += bytes.length;
  }

  clear(): void {
    this.parts.length = 0;
    this.length = 0;
  }

  flush(): void {
    // Memory ends with the page.
  }

  close(): void {
    // Nothing is held that would have to be let go.
  }
}

/** Keeps files as long as the worker lives: where the browser offers no storage, or it fails. */
export class MemoryStore implements FileStore {
  readonly durable: boolean = false;
  readonly #partial = new Map<string, MemoryFile>();
  readonly #whole = new Map<string, Blob>();

  find(sha256: string, bytes: number): Promise<Blob | undefined> {
    const blob = this.#whole.get(sha256);
    return Promise.resolve(blob?.size === bytes ? blob : undefined);
  }

  arrived(sha256: string): Promise<number> {
    return Promise.resolve(this.#partial.get(sha256)?.length ?? 0);
  }

  open(sha256: string): Promise<PartialFile> {
    const file = this.#partial.get(sha256) ?? new MemoryFile();
    this.#partial.set(sha256, file);
    return Promise.resolve(file);
  }

  seal(sha256: string): Promise<Blob> {
    const blob = new Blob(this.#partial.get(sha256)?.parts ?? []);
    this.#partial.delete(sha256);
    this.#whole.set(sha256, blob);
    return Promise.resolve(blob);
  }

  remove(sha256: string): Promise<void> {
    this.#partial.delete(sha256);
    this.#whole.delete(sha256);
    return Promise.resolve();
  }

  list(): Promise<{ sha256: string; bytes: number }[]> {
    return Promise.resolve([]);
  }
}
