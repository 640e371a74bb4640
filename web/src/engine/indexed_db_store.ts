/**
 * Model files in IndexedDB, for pages on plain HTTP, which have no file system of their own: pieces of {@link PIECE} bytes, so
 * that a download goes on where it broke off. Piece i is always the same bytes of the same file, so that two tabs
 * that fetch one file at once do each other no harm.
 */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import { PIECE, type FileStore, type PartialFile } from "./store.ts";

interface Schema extends DBSchema {
  /** All but a file's last are {@link PIECE} long. Earlier versions of the page wrote Blobs, which some browsers' databases do not take. */
  pieces: { key: [sha256: string, index: number]; value: ArrayBuffer | Blob };
  /** Bytes of files whose hash was checked. */
  whole: { key: string; value: number };
}

const NAME = "trimtab-model-files";

/** An array sorts after every number. */
const piecesOf = (sha256: string) => IDBKeyRange.bound([sha256], [sha256, []]);

const sizeOf = (piece: ArrayBuffer | Blob | undefined) => (piece instanceof Blob ? piece.size : (piece?.byteLength ?? 0));

class IndexedDbFile implements PartialFile {
  /** Pieces in the database that are full. */
  #full = 0;
  /** What comes after them. */
  readonly #tail = new Uint8Array(PIECE);
  #tailBytes = 0;

  private constructor(
    private readonly database: IDBPDatabase<Schema>,
    private readonly sha256: string,
  ) {}

  /** Takes a last piece that is not full back into memory. */
  static async open(database: IDBPDatabase<Schema>, sha256: string): Promise<IndexedDbFile> {
    const file = new IndexedDbFile(database, sha256);
    const last = (await database.count("pieces", piecesOf(sha256))) - 1;
    if (last < 0) return file;
    const piece = await file.#piece(last);
    file.#full = piece.length === PIECE ? last + 1 : last;
    if (piece.length < PIECE) {
      file.#tail.set(piece);
      file.#tailBytes = piece.length;
    }
    return file;
  }

  get length(): number {
    return this.#full * PIECE + this.#tailBytes;
  }

  async read(from: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const index = Math.floor(from / PIECE);
    const piece = index < this.#full ? await this.#piece(index) : this.#tail.subarray(0, this.#tailBytes);
    const start = from - index * PIECE;
    return piece.slice(start, start + count);
  }

  async append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const taken = bytes.subarray(at, at + PIECE - this.#tailBytes);
      this.#tail.set(taken, this.#tailBytes);
      if (this.#tailBytes + taken.length < PIECE) this.#tailBytes += taken.length;
      else {
        await this.#put(PIECE);
        this.#full += 1;
        this.#tailBytes = 0;
      }
      at += taken.length;
    }
  }

  async clear(): Promise<void> {
    this.#full = 0;
    this.#tailBytes = 0;
    await this.database.delete("pieces", piecesOf(this.sha256));
  }

  async flush(): Promise<void> {
    if (this.#tailBytes > 0) await this.#put(this.#tailBytes);
  }

  close(): void {
    // The database stays open for the other files.
  }

  async #piece(index: number): Promise<Uint8Array<ArrayBuffer>> {
    const piece = await this.database.get("pieces", [this.sha256, index]);
    return new Uint8Array(piece instanceof Blob ? await piece.arrayBuffer() : (piece ?? new ArrayBuffer(0)));
  }

  /** Writes the first `count` bytes of the tail after the full pieces. */
  async #put(count: number): Promise<void> {
    await this.database.put("pieces", this.#tail.slice(0, count).buffer, [this.sha256, this.#full]);
  }
}

export class IndexedDbStore implements FileStore {
  readonly durable = true;

  private constructor(private readonly database: IDBPDatabase<Schema>) {}

  /** Fails where the browser keeps nothing (some private windows). */
  static async mount(): Promise<IndexedDbStore> {
    const database = await openDB<Schema>(NAME, 1, {
      upgrade(fresh) {
        fresh.createObjectStore("pieces");
        fresh.createObjectStore("whole");
      },
    });
    return new IndexedDbStore(database);
  }

  async find(sha256: string, bytes: number): Promise<Blob | undefined> {
    if ((await this.database.get("whole", sha256)) !== bytes) return undefined;
    const blob = await this.#whole(sha256);
    return blob.size === bytes ? blob : undefined;
  }

  async arrived(sha256: string): Promise<number> {
    const last = (await this.database.count("pieces", piecesOf(sha256))) - 1;
    return last < 0 ? 0 : last * PIECE + sizeOf(await this.database.get("pieces", [sha256, last]));
  }

  async open(sha256: string): Promise<PartialFile> {
    await this.database.delete("whole", sha256);
    return IndexedDbFile.open(this.database, sha256);
  }

  async seal(sha256: string): Promise<Blob> {
    const blob = await this.#whole(sha256);
    await this.database.put("whole", blob.size, sha256);
    return blob;
  }

  async list(): Promise<{ sha256: string; bytes: number }[]> {
    const files = new Set((await this.database.getAllKeys("pieces")).map(([sha256]) => sha256));
    return Promise.all([...files].map(async (sha256) => ({ sha256, bytes: await this.arrived(sha256) })));
  }

  /** One Blob of all pieces. Each is read alone and becomes a Blob at once: browsers keep a Blob's bytes outside the page's memory. */
  async #whole(sha256: string): Promise<Blob> {
    const pieces: Blob[] = [];
    for (const key of await this.database.getAllKeys("pieces", piecesOf(sha256))) {
      const piece = await this.database.get("pieces", key);
      pieces.push(piece instanceof Blob ? piece : new Blob([piece ?? new ArrayBuffer(0)]));
    }
    return new Blob(pieces);
  }

  async remove(sha256: string): Promise<void> {
    const transaction = this.database.transaction(["pieces", "whole"], "readwrite");
    await Promise.all([transaction.objectStore("pieces").delete(piecesOf(sha256)), transaction.objectStore("whole").delete(sha256), transaction.done]);
  }
}
