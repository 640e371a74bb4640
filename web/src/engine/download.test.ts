import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { obtain, type DownloadOptions, type FileEntry, type Hasher } from "./download.ts";
import { EngineFailure } from "./failure.ts";
import { MemoryStore, type FileStore, type PartialFile } from "./store.ts";
import { StoreChain } from "./store_chain.ts";

const SIZE = 300_000;
const content = Uint8Array.from({ length: SIZE }, (_, index) => (index * 31 + (index >> 8)) % 251);

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

const entry: FileEntry = { name: "model.safetensors", bytes: SIZE, sha256: sha256(content) };

function hasher(): Hasher {
  const hash = createHash("sha256");
  return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
}

interface Served {
  range: string | null;
  status: number;
}

/** A server whose answers to the n-th request `plan` decides. */
class Server {
  readonly served: Served[] = [];
  /** What each request gets; the last entry holds for all that follow. */
  plan: ("whole" | "cut" | "refuse" | "error" | "ignore-range" | "wrong-range" | "missing")[] = ["whole"];
  bytes: Uint8Array = content;

  readonly fetch = (_url: string, init: RequestInit): Promise<Response> => {
    const range = new Headers(init.headers).get("Range");
    const act = this.plan[Math.min(this.served.length, this.plan.length - 1)];
    const answer = (status: number, body: BodyInit | null, headers: Record<string, string> = {}) => {
      this.served.push({ range, status });
      return Promise.resolve(new Response(body, { status, headers }));
    };
    if (act === "refuse") {
      this.served.push({ range, status: 0 });
      return Promise.reject(new TypeError("network error"));
    }
    if (act === "error") return answer(503, null);
    if (act === "missing") return answer(404, null);
    let from = range === null || act === "ignore-range" ? 0 : Number(/^bytes=(\d+)-$/.exec(range)?.[1]);
    if (act === "wrong-range") from += 1;
    const rest = this.bytes.subarray(from);
    const end = act === "cut" ? Math.ceil(rest.length / 2) : rest.length;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        for (let at = 0; at < end; at += 50_000) controller.enqueue(rest.slice(at, Math.min(end, at + 50_000)));
        if (act !== "cut") controller.close();
      },
      pull: (controller) => {
        if (act === "cut") controller.error(new TypeError("connection reset"));
      },
    });
    if (range === null || act === "ignore-range") return answer(200, body);
    return answer(206, body, { "Content-Range": `bytes ${String(from)}-${String(this.bytes.length - 1)}/${String(this.bytes.length)}` });
  };
}

const PART = 120_000;
const inParts: FileEntry = {
  ...entry,
  parts: [0, 1, 2].map((index) => ({ name: `model.part${String(index)}`, bytes: Math.min(PART, SIZE - index * PART) })),
};

/** A server for each part; `plans` by the part's number. */
function partServers(...plans: Server["plan"][]): { servers: Server[]; fetch: DownloadOptions["fetch"]; asked: string[] } {
  const asked: string[] = [];
  const servers = [0, 1, 2].map((index) => {
    const server = new Server();
    server.bytes = content.subarray(index * PART, (index + 1) * PART);
    server.plan = plans[index] ?? ["whole"];
    return server;
  });
  const fetch = (url: string, init: RequestInit) => {
    asked.push(url);
    const server = servers[Number(url.at(-1))];
    return server ? server.fetch(url, init) : Promise.resolve(new Response(null, { status: 404 }));
  };
  return { servers, fetch, asked };
}

/** Keeps files for the next visit, and has room for so many bytes. */
class DurableStore extends MemoryStore implements FileStore {
  override readonly durable = true;
  room = Number.POSITIVE_INFINITY;

  override async open(hash: string): Promise<PartialFile> {
    const file = await super.open(hash);
    const append = file.append.bind(file);
    file.append = (bytes) => {
      if (file.length + bytes.length > this.room) throw new DOMException("no room", "QuotaExceededError");
      return append(bytes);
    };
    return file;
  }
}

function options(server: Server, store: FileStore, changes: Partial<DownloadOptions> = {}): DownloadOptions {
  return {
    store: new StoreChain([store, new MemoryStore()]),
    fetch: server.fetch,
    hasher,
    signal: new AbortController().signal,
    onBytes: () => undefined,
    retryAfter: [0, 0],
    ...changes,
  };
}

/** Comparing arrays of this length number by number takes seconds. */
async function hashOf(blob: Blob): Promise<string> {
  return sha256(new Uint8Array(await blob.arrayBuffer()));
}

async function failureOf(promise: Promise<unknown>): Promise<EngineFailure> {
  const thrown: unknown = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(thrown instanceof EngineFailure)) throw new Error(`not a failure: ${String(thrown)}`);
  return thrown;
}

describe("a download", () => {
  it("brings the file, and the next visit needs no network", async () => {
    const server = new Server();
    const store = new DurableStore();
    const first = await obtain("u", entry, options(server, store));
    expect(await hashOf(first.blob)).toBe(entry.sha256);
    expect(first).toMatchObject({ fromCache: false, kept: true });
    const second = await obtain("u", entry, options(server, store));
    expect(second.fromCache).toBe(true);
    expect(await hashOf(second.blob)).toBe(entry.sha256);
    expect(server.served).toEqual([{ range: null, status: 200 }]);
  });

  it("goes on where the connection broke", async () => {
    const server = new Server();
    server.plan = ["cut", "refuse", "error", "whole"];
    const seen: number[] = [];
    const done = await obtain("u", entry, options(server, new DurableStore(), { retryAfter: [0, 0, 0], onBytes: (bytes) => seen.push(bytes) }));
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(server.served.map(({ range }) => range)).toEqual([null, "bytes=150000-", "bytes=150000-", "bytes=150000-"]);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(seen.at(-1)).toBe(SIZE);
  });

  it("goes on at a later visit, counting what is there as not from the network", async () => {
    const server = new Server();
    server.plan = ["cut", "refuse"];
    const store = new DurableStore();
    const failure = await failureOf(obtain("u", entry, options(server, store)));
    expect(failure.kind).toBe("download");
    expect(failure.message).toContain("0.15 of 0.30 MB");
    expect(failure.message).toContain("goes on from there");
    const network: number[] = [];
    const again = new Server();
    const onBytes = (bytes: number, fromNetwork: boolean) => void (fromNetwork && network.push(bytes));
    const done = await obtain("u", entry, options(again, store, { onBytes }));
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(again.served).toEqual([{ range: "bytes=150000-", status: 206 }]);
    expect(network[0]).toBe(200_000);
  });

  it("starts over when the server continues elsewhere", async () => {
    const server = new Server();
    server.plan = ["cut", "wrong-range", "whole"];
    const done = await obtain("u", entry, options(server, new DurableStore()));
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(server.served.at(-1)?.range).toBeNull();
  });

  it("passes over what it has when the server ignores Range", async () => {
    const server = new Server();
    server.plan = ["cut", "ignore-range"];
    const seen: number[] = [];
    const done = await obtain("u", entry, options(server, new DurableStore(), { onBytes: (bytes) => seen.push(bytes) }));
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(server.served).toHaveLength(2);
  });

  it("throws a file away that is not the promised one", async () => {
    const server = new Server();
    server.bytes = content.slice();
    server.bytes[123_456] = 255;
    const store = new DurableStore();
    const failure = await failureOf(obtain("u", entry, options(server, store)));
    expect(failure.kind).toBe("corrupt-model");
    expect(failure.message).toContain(sha256(server.bytes));
    expect((await store.open(entry.sha256)).length).toBe(0);
  });

  it("notices damage in what an earlier visit kept", async () => {
    const server = new Server();
    const store = new DurableStore();
    const half = await store.open(entry.sha256);
    await half.append(new Uint8Array(SIZE / 2));
    await half.close();
    const failure = await failureOf(obtain("u", entry, options(server, store)));
    expect(failure.kind).toBe("corrupt-model");
    const done = await obtain("u", entry, options(server, store));
    expect(await hashOf(done.blob)).toBe(entry.sha256);
  });

  it("refuses a file that is longer than promised", async () => {
    const server = new Server();
    server.bytes = new Uint8Array(SIZE + 1);
    const failure = await failureOf(obtain("u", entry, options(server, new DurableStore())));
    expect(failure.kind).toBe("corrupt-model");
    expect(failure.message).toContain("longer than the 300000 bytes");
  });

  it("says when the server does not have the file, without trying again", async () => {
    const server = new Server();
    server.plan = ["missing"];
    const failure = await failureOf(obtain("u", entry, options(server, new DurableStore())));
    expect(failure).toMatchObject({ kind: "download" });
    expect(failure.message).toContain("404");
    expect(server.served).toHaveLength(1);
  });

  it.each(["open", "flush"] as const)("goes on in memory when a file's %s finds no room", async (when) => {
    class Full extends DurableStore {
      override async open(hash: string): Promise<PartialFile> {
        if (when === "open") throw new DOMException("no room", "QuotaExceededError");
        const file = await super.open(hash);
        file.flush = () => {
          throw new DOMException("no room", "QuotaExceededError");
        };
        return file;
      }
    }
    const store = new Full();
    store.room = 120_000;
    const got = await obtain("u", entry, options(new Server(), store));
    expect(got.kept).toBe(false);
    expect(await hashOf(got.blob)).toBe(entry.sha256);
  });

  it("goes on in memory when there is no room", async () => {
    const server = new Server();
    const store = new DurableStore();
    store.room = 120_000;
    const done = await obtain("u", entry, options(server, store));
    expect(done.kept).toBe(false);
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(server.served).toHaveLength(1);
    expect(await store.find(entry.sha256, SIZE)).toBeUndefined();
  });

  it("stops when cancelled, and keeps what has arrived", async () => {
    const server = new Server();
    const store = new DurableStore();
    const abort = new AbortController();
    const onBytes = (bytes: number) => {
      if (bytes >= 100_000) abort.abort();
    };
    await expect(obtain("u", entry, options(server, store, { signal: abort.signal, onBytes }))).rejects.toMatchObject({ name: "AbortError" });
    expect((await store.open(entry.sha256)).length).toBe(100_000);
  });
});

describe("a file in parts", () => {
  it("is put together and checked as one", async () => {
    const { fetch, asked } = partServers();
    const done = await obtain("models/tiny/model.safetensors", inParts, { ...options(new Server(), new DurableStore()), fetch });
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(asked).toEqual(["models/tiny/model.part0", "models/tiny/model.part1", "models/tiny/model.part2"]);
  });

  it("goes on inside the part in which the connection broke, with or without Range", async () => {
    for (const answer of ["whole", "ignore-range"] as const) {
      const { servers, fetch, asked } = partServers(["whole"], ["cut", "refuse", answer]);
      const store = new DurableStore();
      const done = await obtain("m/model.safetensors", inParts, { ...options(new Server(), store), fetch });
      expect(await hashOf(done.blob)).toBe(entry.sha256);
      expect(servers[1]?.served.map(({ range }) => range)).toEqual([null, "bytes=60000-", "bytes=60000-"]);
      expect(asked.filter((url) => url.endsWith("part0"))).toHaveLength(1);
    }
  });

  it("does not begin again for parts that are here from an earlier visit", async () => {
    const store = new DurableStore();
    const first = partServers(["whole"], ["whole"], ["missing"]);
    await failureOf(obtain("m/model.safetensors", inParts, { ...options(new Server(), store), fetch: first.fetch }));
    const second = partServers();
    const done = await obtain("m/model.safetensors", inParts, { ...options(new Server(), store), fetch: second.fetch });
    expect(await hashOf(done.blob)).toBe(entry.sha256);
    expect(second.asked).toEqual(["m/model.part2"]);
  });

  it("refuses a part that is longer than promised", async () => {
    const { servers, fetch } = partServers();
    if (servers[1]) servers[1].bytes = content.subarray(PART, 2 * PART + 1);
    const failure = await failureOf(obtain("m/model.safetensors", inParts, { ...options(new Server(), new DurableStore()), fetch }));
    expect(failure.kind).toBe("corrupt-model");
  });
});
