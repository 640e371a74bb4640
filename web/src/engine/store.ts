/** Where model files are kept between visits, by the SHA-256 of what they hold. */

/** Too large for one wasm copy: bytes are handed on in pieces of at most this many. */
export const PIECE = 4 * 1024 * 1024;

/** A file on its way: what has arrived, from the first byte on. */
export interface PartialFile {
  /** Bytes kept so far. */
  readonly length: number;
  /** Bytes `from..from + count`, which must be there. */
  read(from: number, count: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Throws (or rejects with) a `QuotaExceededError` when there is no room; nothing of these bytes is kept then. */
  append(bytes: Uint8Array<ArrayBuffer>): void | Promise<void>;
  /** Forgets everything. */
  clear(): void | Promise<void>;
  /** Keeps what has arrived. Must be called once. */
  close(): void | Promise<void>;
}

export interface FileStore {
  /** Whether what it keeps is there at the next visit. */
  readonly durable: boolean;
  /** The whole file, its hash once checked; absent if it is not there. */
  find(sha256: string, bytes: number): Promise<Blob | undefined>;
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

  read(from: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    return new Blob(this.parts)
      .slice(from, from + count)
      .arrayBuffer()
      .then((buffer) => new Uint8Array(buffer));
  }

  append(bytes: Uint8Array<ArrayBuffer>): void {
    this.parts.push(bytes);
    this.length += bytes.length;
  }

  clear(): void {
    this.parts.length = 0;
    this.length = 0;
  }

  close(): void {
    // Nothing is held that would have to be let go.
  }
}

/** Keeps files as long as the worker lives: where the browser offers no storage, or has no room. */
export class MemoryStore implements FileStore {
  readonly durable: boolean = false;
  readonly #partial = new Map<string, MemoryFile>();
  readonly #whole = new Map<string, Blob>();

  find(sha256: string, bytes: number): Promise<Blob | undefined> {
    const blob = this.#whole.get(sha256);
    return Promise.resolve(blob?.size === bytes ? blob : undefined);
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
