// @vitest-environment node
import "fake-indexeddb/auto";
import { createHash } from "node:crypto";
import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { obtain, type FileEntry } from "./download.ts";
import { IndexedDbStore } from "./indexed_db_store.ts";
import { dropUnreadable, isCached, openStores } from "./model_files.ts";
import { OpfsStore } from "./opfs.ts";
import { MemoryStore, PIECE, type FileStore, type PartialFile } from "./store.ts";
import { StoreChain } from "./store_chain.ts";

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

function fileOf(size: number): { entry: FileEntry; content: Uint8Array<ArrayBuffer> } {
  const content = Uint8Array.from({ length: size }, (_, index) => (index * 31 + (index >> 8)) % 251);
  return { content, entry: { name: "model.safetensors", bytes: size, sha256: sha256(content) } };
}

const SIZE = 300_000;
const { entry, content } = fileOf(SIZE);
/** Where stores begin to fail that fail late. */
const LATE = 150_000;
/** For stores that keep pieces. */
const large = fileOf(PIECE + 12_345);
const hashOf = async (blob: Blob) => sha256(new Uint8Array(await blob.arrayBuffer()));

/** A server that answers ranges; `asked` has where each request began. */
function server({ content } = fileOf(SIZE)) {
  const asked: number[] = [];
  const fetch = (_url: string, init: RequestInit) => {
    const from = Number(/^bytes=(\d+)-$/.exec(new Headers(init.headers).get("Range") ?? "")?.[1] ?? 0);
    asked.push(from);
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        const chunk = Math.ceil(content.length / 7);
        for (let at = from; at < content.length; at += chunk) controller.enqueue(content.slice(at, at + chunk));
        controller.close();
      },
    });
    return Promise.resolve(new Response(body, { status: from > 0 ? 206 : 200, headers: { "Content-Range": `bytes ${String(from)}-${String(content.length - 1)}/${String(content.length)}` } }));
  };
  return { asked, fetch };
}

const hasher = () => {
  const hash = createHash("sha256");
  return { update: (bytes: Uint8Array) => void hash.update(bytes), finish: () => hash.digest("hex") };
};

/** Brings the file through `stores`. */
async function bring(stores: readonly FileStore[], file = { entry, content }) {
  const { asked, fetch } = server(file);
  const store = new StoreChain(stores);
  const got = await obtain("u", file.entry, { store, fetch, hasher, signal: new AbortController().signal, onBytes: () => undefined, retryAfter: [0] });
  expect(await hashOf(got.blob)).toBe(file.entry.sha256);
  return { asked, kept: got.kept, fromCache: got.fromCache, store };
}

type Moment = "find" | "arrived" | "open" | "append" | "late append" | "flush" | "seal" | "read back" | "nothing read back";

/** Keeps files for the next visit, until it fails at a moment of its life, and then for good. */
class Durable extends MemoryStore implements FileStore {
  override readonly durable = true;

  constructor(
    private readonly moment: Moment | null = null,
    private readonly error: unknown = null,
  ) {
    super();
  }

  private fail(moment: Moment): void {
    if (moment === this.moment) throw this.error;
  }

  override async find(hash: string, bytes: number): Promise<Blob | undefined> {
    this.fail("find");
    return super.find(hash, bytes);
  }

  override async arrived(hash: string): Promise<number> {
    this.fail("arrived");
    return super.arrived(hash);
  }

  override async open(hash: string): Promise<PartialFile> {
    this.fail("open");
    const file = await super.open(hash);
    const { read, append, flush } = file;
    file.append = (bytes) => {
      this.fail("append");
      if (file.length + bytes.length > LATE) this.fail("late append");
      // What is wrong shows late, where the bytes that had arrived are wanted.
      if (file.length > LATE && this.moment === "nothing read back") throw this.error;
      return append.call(file, bytes);
    };
    file.flush = () => {
      this.fail("flush");
      return flush.call(file);
    };
    file.read = (from, count) => {
      this.fail("nothing read back");
      return read.call(file, from, count);
    };
    return file;
  }

  override async seal(hash: string): Promise<Blob> {
    this.fail("seal");
    return super.seal(hash);
  }
}

const errors = ["QuotaExceededError", "AbortError", "DataCloneError", "InvalidStateError", "NoModificationAllowedError", "NotReadableError", "SecurityError"];

describe.each(errors)("a store that fails with %s", (name) => {
  const error = new DOMException("so it is", name);
  // Who has no room gets none elsewhere in the browser either.
  const kept = name !== "QuotaExceededError";

  it.each<Moment>(["open", "append", "late append", "flush", "seal"])("at %s hands over to the next one, and nothing is fetched twice", async (moment) => {
    const next = new Durable();
    const got = await bring([new Durable(moment, error), next, new MemoryStore()]);
    expect(got.asked).toEqual([0]);
    expect(got.kept).toBe(kept);
    expect(await next.find(entry.sha256, SIZE) !== undefined).toBe(kept);
  });

  it.each<Moment>(["open", "append", "late append", "flush", "seal"])("at %s leaves memory, where the next one fails as well", async (moment) => {
    for (const second of ["open", "append", "late append", "flush", "seal"] as const) {
      const got = await bring([new Durable(moment, error), new Durable(second, error), new MemoryStore()]);
      expect(got).toMatchObject({ asked: [0], kept: false });
    }
  });

  it.each<Moment>(["find", "arrived"])("at %s is no reason to ask no other", async (moment) => {
    const next = new Durable();
    await bring([next]);
    expect(await bring([new Durable(moment, error), next, new MemoryStore()])).toMatchObject({ asked: [], fromCache: true });
  });
});

describe("what has arrived", () => {
  it("is fetched once more where the store that failed does not give it back, into the next one", async () => {
    const got = await bring([new Durable("nothing read back", new DOMException("gone", "NotReadableError")), new Durable(), new MemoryStore()]);
    expect(got).toMatchObject({ asked: [0, 0], kept: true });
  });

  it("is fetched once more where it was removed meanwhile", async () => {
    class Emptied extends Durable {
      override async seal(hash: string): Promise<Blob> {
        await this.remove(hash);
        return super.seal(hash);
      }
    }
    expect(await bring([new Emptied(), new Durable(), new MemoryStore()])).toMatchObject({ asked: [0, 0], kept: true });
  });

  it("at an earlier visit, in whichever store, is where the download goes on", async () => {
    const second = new Durable();
    const file = await second.open(entry.sha256);
    await file.append(content.slice(0, LATE));
    expect(await bring([new Durable(), second, new MemoryStore()])).toMatchObject({ asked: [LATE], kept: true });
  });

  it("at an earlier visit and cannot be read is fetched once more", async () => {
    const first = new Durable("nothing read back", new DOMException("gone", "NotReadableError"));
    await (await first.open(entry.sha256)).append(content.slice(0, LATE));
    expect(await bring([first, new MemoryStore()])).toMatchObject({ asked: [0], kept: false });
  });

  it("outlives a cancelled download in a store whose flush fails, as long as the page lives", async () => {
    const chain = new StoreChain([new Durable("flush", new DOMException("no", "AbortError")), new MemoryStore()]);
    const file = await chain.open(entry.sha256);
    await file.append(content.slice(0, 100));
    await file.close();
    expect((await chain.open(entry.sha256)).length).toBe(100);
  });
});

describe("a whole file that cannot be read back", () => {
  const broken = () => {
    const blob = new Blob([content]);
    blob.slice = () => ({ arrayBuffer: () => Promise.reject(new DOMException("gone", "NotReadableError")) }) as unknown as Blob;
    return blob;
  };

  it("at its end is not found, so that it is fetched", async () => {
    const store = new Durable();
    store.find = () => Promise.resolve(broken());
    expect(await bring([store, new MemoryStore()])).toMatchObject({ asked: [0] });
  });

  it("somewhere inside is let go and fetched into memory", async () => {
    const first = new Durable();
    const { store } = await bring([first, new MemoryStore()]);
    const model = { id: "m", name: "M", licence: "MIT", source: "", files: [entry], vectors: [], reports: [], replaced: [], neutral: [] };
    expect(await dropUnreadable(model, new Map([[entry.name, new Blob([content])]]), store)).toBe(false);
    expect(await isCached(model, store)).toBe(true);
    expect(await dropUnreadable(model, new Map([[entry.name, broken()]]), store)).toBe(true);
    expect(await isCached(model, store)).toBe(false);
    const { fetch } = server();
    const again = await obtain("u", entry, { store, fetch, hasher, signal: new AbortController().signal, onBytes: () => undefined });
    expect(again.kept).toBe(false);
    expect(await hashOf(again.blob)).toBe(entry.sha256);
  });
});

describe("removing a file", () => {
  it("says when a store does not let go of it, and removes it from the others", async () => {
    const stuck = new Durable();
    stuck.remove = () => Promise.reject(new DOMException("it is in use", "NoModificationAllowedError"));
    const other = new Durable();
    await bring([other]);
    await expect(new StoreChain([stuck, other]).remove(entry.sha256)).rejects.toMatchObject({ kind: "quota", message: expect.stringContaining("it is in use") as string });
    expect(await other.find(entry.sha256, SIZE)).toBeUndefined();
  });
});

describe("IndexedDB", () => {
  beforeEach(() => {
    globalThis.indexedDB = new IDBFactory();
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("whose values are refused leaves memory", async () => {
    vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(() => {
      throw new DOMException("Error preparing Blob/File data to be stored in object store", "DataCloneError");
    });
    expect(await bring([await IndexedDbStore.mount(), new MemoryStore()], large)).toMatchObject({ asked: [0], kept: false });
  });

  it("whose transactions are aborted in the middle leaves memory", async () => {
    const { put } = IDBObjectStore.prototype;
    let puts = 0;
    vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(function (this: IDBObjectStore, value: unknown, key?: IDBValidKey) {
      const request = put.call(this, value, key);
      puts += 1;
      if (puts > 1) this.transaction.abort();
      return request;
    });
    expect(await bring([await IndexedDbStore.mount(), new MemoryStore()], large)).toMatchObject({ asked: [0], kept: false });
    expect(puts).toBeGreaterThan(1);
  });

  it("whose connection the browser closes leaves memory", async () => {
    const store = await IndexedDbStore.mount();
    (store as unknown as { database: IDBDatabase }).database.close();
    expect(await bring([store, new MemoryStore()], large)).toMatchObject({ asked: [0], kept: false });
  });
});

/** The private file system as far as it is used here. */
class Folder {
  readonly files = new Map<string, Uint8Array<ArrayBuffer>>();
  handle: (name: string) => unknown = (name) => this.syncHandle(name);

  syncHandle(name: string) {
    const now = () => this.files.get(name) ?? new Uint8Array(0);
    return {
      read: (buffer: Uint8Array, { at }: { at: number }) => {
        const bytes = now().subarray(at, at + buffer.length);
        buffer.set(bytes);
        return bytes.length;
      },
      write: (buffer: Uint8Array, { at }: { at: number }) => {
        const whole = new Uint8Array(Math.max(now().length, at + buffer.length));
        whole.set(now());
        whole.set(buffer, at);
        this.files.set(name, whole);
        return buffer.length;
      },
      truncate: (size: number) => void this.files.set(name, now().slice(0, size)),
      getSize: () => now().length,
      flush: () => undefined,
      close: () => undefined,
    };
  }

  getFileHandle(name: string, { create = false } = {}): Promise<unknown> {
    if (!this.files.has(name) && !create) return Promise.reject(new DOMException("none", "NotFoundError"));
    this.files.set(name, this.files.get(name) ?? new Uint8Array(0));
    return Promise.resolve({
      kind: "file",
      getFile: () => Promise.resolve(new File([this.files.get(name) ?? ""], name)),
      createSyncAccessHandle: () => Promise.resolve().then(() => this.handle(name)),
    });
  }

  removeEntry(name: string): Promise<void> {
    return this.files.delete(name) ? Promise.resolve() : Promise.reject(new DOMException("none", "NotFoundError"));
  }
}

describe("the private file system", () => {
  const opfs = (folder: Folder) => new OpfsStore(folder as unknown as FileSystemDirectoryHandle);

  it("keeps a file for the next visit", async () => {
    const folder = new Folder();
    expect(await bring([opfs(folder), new MemoryStore()], large)).toMatchObject({ asked: [0], kept: true });
    expect(await bring([opfs(folder), new MemoryStore()], large)).toMatchObject({ asked: [], kept: true, fromCache: true });
  });

  it.each<[string, (handle: ReturnType<Folder["syncHandle"]>) => unknown]>([
    ["has no sync access handles", () => { throw new TypeError("createSyncAccessHandle is not a function"); }],
    ["has handed the file to another tab", () => { throw new DOMException("busy", "NoModificationAllowedError"); }],
    ["cannot write", (handle) => ({ ...handle, write: () => { throw new DOMException("disk", "InvalidStateError"); } })],
    ["cannot write after a while", (handle) => {
      let writes = 0;
      return { ...handle, write: (buffer: Uint8Array, at: { at: number }) => { writes += 1; if (writes > 3) throw new DOMException("disk", "UnknownError"); return handle.write(buffer, at); } };
    }],
    ["cannot flush", (handle) => ({ ...handle, flush: () => { throw new DOMException("disk", "InvalidStateError"); } })],
    ["cannot even close", (handle) => ({ ...handle, flush: () => { throw new DOMException("disk", "InvalidStateError"); }, close: () => { throw new DOMException("disk", "InvalidStateError"); } })],
  ])("that %s hands over to IndexedDB", async (_, broken) => {
    globalThis.indexedDB = new IDBFactory();
    const folder = new Folder();
    folder.handle = (name) => broken(folder.syncHandle(name));
    const database = await IndexedDbStore.mount();
    expect(await bring([opfs(folder), database, new MemoryStore()], large)).toMatchObject({ asked: [0], kept: true });
    expect(await database.find(large.entry.sha256, large.content.length)).toBeDefined();
    expect(await bring([opfs(folder), database, new MemoryStore()], large)).toMatchObject({ asked: [], fromCache: true });
  });

  it("that has no room when half of the file is there leaves memory, and its room is free again", async () => {
    const folder = new Folder();
    folder.handle = (name) => {
      const handle = folder.syncHandle(name);
      return { ...handle, write: (buffer: Uint8Array, at: { at: number }) => (at.at > LATE ? 0 : handle.write(buffer, at)) };
    };
    globalThis.indexedDB = new IDBFactory();
    expect(await bring([opfs(folder), await IndexedDbStore.mount(), new MemoryStore()], large)).toMatchObject({ asked: [0], kept: false });
    expect([...folder.files.keys()]).toEqual([]);
  });
});

describe("the browser's stores", () => {
  it("end in memory where the browser has no other", async () => {
    vi.stubGlobal("navigator", {});
    vi.stubGlobal("indexedDB", undefined);
    const chain = await openStores();
    vi.unstubAllGlobals();
    const { fetch } = server();
    const got = await obtain("u", entry, { store: chain, fetch, hasher, signal: new AbortController().signal, onBytes: () => undefined });
    expect(got.kept).toBe(false);
    expect(await chain.list()).toEqual([]);
  });
});
