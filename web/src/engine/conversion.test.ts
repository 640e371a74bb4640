// @vitest-environment node
import "fake-indexeddb/auto";
import { createHash } from "node:crypto";
import { describe, expect, it, vi } from "vitest";
import { choose, convert, describe as describeModel, isReady, type Prepare, type PreparedModel } from "./conversion.ts";
import { listOwnModels, removeOwnModel } from "./own_models.ts";
import type { Tools } from "./model_files.ts";
import type { LoadProgress } from "./protocol.ts";
import { MemoryStore } from "./store.ts";
import { StoreChain } from "./store_chain.ts";

const weights = Uint8Array.from({ length: 1000 }, (_, at) => at % 251);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const file = (name: string, text = name) => new File([text], name);
const signal = new AbortController().signal;
vi.stubGlobal("navigator", {});

function tools(): Tools {
  return {
    store: new StoreChain([new MemoryStore()]),
    fetch: () => Promise.reject(new Error("nothing is fetched")),
    hasher: () => {
      const hash = createHash("sha256");
      return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
    },
  };
}

/** Writes the weights in pieces of 100 bytes, and breaks off at `until` where it is given. */
function prepared(from: number[], until = weights.length): PreparedModel {
  return {
    description: () => ({ name: "Tiny", licence: "MIT", notes: ["a note"], modelType: "llama", parameters: 9, layers: 1, hiddenSize: 3, context: 64, bytes: { kept: 1000, q8: null, q4: null } }),
    room: ({ context }) => ({ kept: { fits: true, weightBytes: 1000, cacheBytesPerToken: 12, context: context ?? 64, sentences: [] }, q8: null, q4: null }),
    files: () => new Map([["config.json", new TextEncoder().encode("{}")]]),
    weightBytes: () => weights.length,
    writeWeights: async (at, write) => {
      from.push(at);
      for (let begin = at; begin < until; begin += 100) await write(weights.slice(begin, Math.min(begin + 100, until)));
      if (until < weights.length) throw new Error("the tab was closed");
    },
    free: () => undefined,
  };
}

const gguf = () => choose([file("tiny.gguf")]);

describe("a model of the visitor's own", () => {
  it("is a GGUF file where there is one, else the folder's own files", () => {
    expect(choose([file("a.GGUF"), file("notes.txt")]).gguf).toBe("a.GGUF");
    expect(() => choose([file("a.gguf"), file("b.gguf")])).toThrow(/2 GGUF files .*a\.gguf, b\.gguf/);
    const folder = choose(["config.json", "tokenizer.json", "model.safetensors"].map((name) => file(name)));
    expect(isReady(folder)).toBe(true);
    expect(isReady(choose(["config.json", "tokenizer.json", "model-00001-of-00002.safetensors"].map((name) => file(name))))).toBe(false);
    expect(isReady(gguf())).toBe(false);
  });

  it("is described from its headers, and told by its file's name", async () => {
    const prepare: Prepare = vi.fn(() => Promise.resolve(prepared([])));
    const asked = { precision: "fast", context: 32 } as const;
    expect(await describeModel(gguf(), prepare, asked)).toMatchObject({ name: "Tiny", source: "tiny.gguf", parameters: 9, room: { kept: { context: 32 } } });
    expect(prepare).toHaveBeenCalledWith(expect.any(Map), { folder: "your own model", gguf: "tiny.gguf" });
  });

  it("is converted once, kept under its source, and gone when it is removed", async () => {
    const own = tools();
    const from: number[] = [];
    const phases = new Set<LoadProgress["phase"]>();
    const prepare: Prepare = () => Promise.resolve(prepared(from));
    const run = () => convert(gguf(), undefined, own, prepare, signal, ({ phase }) => phases.add(phase));
    const made = await run();
    expect(made).toMatchObject({ name: "Tiny", licence: "MIT", sha256: sha256(weights) });
    expect(made.notices).toContain("a note");
    expect(new Uint8Array((await made.files.get("model.safetensors")?.arrayBuffer()) ?? [])).toEqual(weights);
    expect(await made.files.get("config.json")?.text()).toBe("{}");
    expect([...phases]).toEqual(["check", "convert"]);
    expect((await run()).sha256).toBe(made.sha256);
    expect(from).toEqual([0]);
    // In another form it is another model.
    const [kept] = await listOwnModels(own.store);
    expect(kept).toMatchObject({ name: "Tiny", source: "tiny.gguf", weights: { bytes: 1000, sha256: sha256(weights) } });
    await removeOwnModel(kept?.id ?? "", own.store);
    expect(await listOwnModels(own.store)).toEqual([]);
  });

  it("goes on where its conversion broke off, to the byte", async () => {
    const own = tools();
    const from: number[] = [];
    await expect(convert(gguf(), "q4", own, () => Promise.resolve(prepared(from, 430)), signal, () => undefined)).rejects.toThrow("the tab was closed");
    const made = await convert(gguf(), "q4", own, () => Promise.resolve(prepared(from)), signal, () => undefined);
    expect(from).toEqual([0, 430]);
    expect(made.sha256).toBe(sha256(weights));
    expect(new Uint8Array((await made.files.get("model.safetensors")?.arrayBuffer()) ?? [])).toEqual(weights);
  });

  it("stops when it is told to, and keeps what is there", async () => {
    const own = tools();
    const from: number[] = [];
    const abort = new AbortController();
    const stopped = convert(gguf(), "q8", own, () => Promise.resolve(prepared(from)), abort.signal, ({ phase, bytesDone }) => {
      if (phase === "convert" && bytesDone >= 100) abort.abort();
    });
    await expect(stopped).rejects.toThrow();
    await convert(gguf(), "q8", own, () => Promise.resolve(prepared(from)), signal, () => undefined);
    expect(from[1]).toBeGreaterThan(0);
  });
});
