/**
 * Model files in IndexedDB, for pages on plain HTTP, which have no file system of their own: pieces of {@link PIECE} bytes, so
 * that a download goes on where it broke off. Piece i is always the same bytes of the same file, so that two tabs
 * that fetch one file at once do each other no harm.
 */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import { EngineFailure } from "./failure.ts";
import { PIECE, type FileStore, type PartialFile } from "./store.ts";

interface Schema extends DBSchema {
  /** Blobs, because the browser keeps their bytes outside memory. All but a file's last are {@link PIECE} long. */
  pieces: { key: [sha256: string, index: number]; value: Blob };
  /** Bytes of files whose hash was checked. */
  whole: { key: string; value: number };
}

const NAME = "trimtab-model-files";

/** An array sorts after every number. */
const piecesOf = (sha256: string) => IDBKeyRange.bound([sha256], [sha256, []]);

class IndexedDbFile implements PartialFile {
  /** After the pieces in the database. */
  #tail: Uint8Array<ArrayBuffer>[] = [];
  #tailBytes = 0;

  constructor(
    private readonly database: IDBPDatabase<Schema>,
    private readonly sha256: string,
    private pieces: Blob[],
  ) {}

  /** Takes a last piece that is not full back into memory. */
  static async open(database: IDBPDatabase<Schema>, sha256: string): Promise<IndexedDbFile> {
    const pieces = await database.getAll("pieces", piecesOf(sha256));
    const file = new IndexedDbFile(database, sha256, pieces);
    const last = pieces.at(-1);
    if (last && last.size < PIECE) {
      pieces.pop();
      file.#keep(new Uint8Array(await last.arrayBuffer()));
    }
    return file;
  }

  get length(): number {
    return this.pieces.length * PIECE + this.#tailBytes;
  }

  async read(from: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const whole = new Blob([...this.pieces, ...this.#tail]);
    return new Uint8Array(await whole.slice(from, from + count).arrayBuffer());
  }

  async append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.#tailBytes + bytes.length < PIECE) {
      this.#keep(bytes);
      return;
    }
    const rest = new Blob([...this.#tail, bytes]);
    const full: Blob[] = [];
    for (let at = 0; at + PIECE <= rest.size; at += PIECE) full.push(rest.slice(at, at + PIECE));
    await this.#put(full);
    this.pieces.push(...full);
    this.#tail = [];
    this.#tailBytes = 0;
    this.#keep(new Uint8Array(await rest.slice(full.length * PIECE).arrayBuffer()));
  }

  async clear(): Promise<void> {
    this.pieces = [];
    this.#tail = [];
    this.#tailBytes = 0;
    await this.database.delete("pieces", piecesOf(this.sha256));
  }

  async close(): Promise<void> {
    if (this.#tailBytes === 0) return;
    await this.#put([new Blob(this.#tail)]);
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.length === 0) return;
    this.#tail.push(bytes);
    this.#tailBytes += bytes.length;
  }

  /** All or none of them, after the pieces that are there. */
  async #put(pieces: Blob[]): Promise<void> {
    const transaction = this.database.transaction("pieces", "readwrite");
    const puts = pieces.map((piece, index) => transaction.store.put(piece, [this.sha256, this.pieces.length + index]));
    await Promise.all([...puts, transaction.done]);
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
    const blob = new Blob(await this.database.getAll("pieces", piecesOf(sha256)));
    return blob.size === bytes ? blob : undefined;
  }

  async open(sha256: string): Promise<PartialFile> {
    await this.database.delete("whole", sha256);
    return IndexedDbFile.open(this.database, sha256);
  }

  async seal(sha256: string): Promise<Blob> {
    const blob = new Blob(await this.database.getAll("pieces", piecesOf(sha256)));
    if (blob.size === 0) {
      throw new EngineFailure("download", "The file was removed from this browser's storage while it arrived, perhaps by another tab. Try again.");
    }
    await this.database.put("whole", blob.size, sha256);
    return blob;
  }

  async list(): Promise<{ sha256: string; bytes: number }[]> {
    const sizes = new Map<string, number>();
    for (let cursor = await this.database.transaction("pieces").store.openCursor(); cursor; cursor = await cursor.continue()) {
      const [sha256] = cursor.key;
      sizes.set(sha256, (sizes.get(sha256) ?? 0) + cursor.value.size);
    }
    return [...sizes].map(([sha256, bytes]) => ({ sha256, bytes }));
  }

  async remove(sha256: string): Promise<void> {
    const transaction = this.database.transaction(["pieces", "whole"], "readwrite");
    await Promise.all([transaction.objectStore("pieces").delete(piecesOf(sha256)), transaction.objectStore("whole").delete(sha256), transaction.done]);
  }
}
