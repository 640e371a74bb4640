import { beforeEach, describe, expect, it } from "vitest";
import { OfflineFiles } from "./offline_files.ts";

/** What the page uses of a browser's Cache API. */
function storage(): CacheStorage {
  const kept = new Map<string, string>();
  const cache = {
    match: async (url: string) => (kept.has(url) ? new Response(kept.get(url)) : undefined),
    put: async (url: string, response: Response) => void kept.set(url, await response.text()),
    delete: async (url: string) => kept.delete(url),
    keys: async () => [...kept.keys()].map((url) => ({ url })),
  };
  return { open: async () => cache } as unknown as CacheStorage;
}

const catalogue = "https://example.org/models/catalog.json";
const vector = (hash: string) => `https://example.org/models/vectors/cheerful.safetensors?sha256=${hash}`;
let answers: (() => Response)[];
let asked: string[];
const network = async (url: string) => {
  asked.push(url);
  const answer = answers.shift();
  if (answer === undefined) throw new TypeError("Failed to fetch");
  return answer();
};
const says = (text: string, status = 200) => () => new Response(text, { status });
const read = async (files: OfflineFiles, url: string) => (await files.fetch(url)).text();

beforeEach(() => {
  answers = [];
  asked = [];
});

describe("files that are kept", () => {
  it("the catalogue is the server's newest, and the last known one without it", async () => {
    const files = new OfflineFiles(network, storage());
    answers = [says("old"), says("new"), says("bad gateway", 502)];
    expect(await read(files, catalogue)).toBe("old");
    expect(await read(files, catalogue)).toBe("new");
    expect(await read(files, catalogue)).toBe("new");
    expect(await read(files, catalogue)).toBe("new");
    expect(asked).toHaveLength(4);
  });

  it("what is named by its content is fetched once; another version takes its place", async () => {
    const files = new OfflineFiles(network, storage());
    answers = [says("a"), says("b")];
    expect([await read(files, vector("1")), await read(files, vector("1"))]).toEqual(["a", "a"]);
    expect(await read(files, vector("2"))).toBe("b");
    expect(asked).toHaveLength(2);
    await expect(read(files, vector("1"))).rejects.toThrow("Failed to fetch");
    answers = [says("simd"), says("relaxed"), says("other vector")];
    await read(files, "https://example.org/assets/trimtab-abc.wasm");
    await read(files, "https://example.org/assets/trimtab-def.wasm");
    await expect(read(files, "https://example.org/assets/trimtab-abc.wasm")).resolves.toBe("other vector");
  });

  it("a wrong one is forgotten", async () => {
    const files = new OfflineFiles(network, storage());
    answers = [says("wrong"), says("right")];
    await read(files, vector("1"));
    await files.forget(vector("1"));
    expect(await read(files, vector("1"))).toBe("right");
  });

  it("nothing else, no error, and nothing where there is no storage", async () => {
    const files = new OfflineFiles(network, storage());
    answers = [says("weights"), says("not there", 404), says("there")];
    await read(files, "https://example.org/models/m/model.safetensors");
    await read(files, vector("1"));
    expect(await read(files, vector("1"))).toBe("there");
    const bare = new OfflineFiles(network, undefined);
    answers = [says("once")];
    await read(bare, catalogue);
    await expect(read(bare, catalogue)).rejects.toThrow("Failed to fetch");
  });
});
