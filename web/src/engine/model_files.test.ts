import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { ModelEntry } from "./catalogue.ts";
import { Meter } from "./meter.ts";
import { directFiles } from "./folder_paths.ts";
import { NOT_KEPT, isCached, obtainModel, removeModel, type Tools } from "./model_files.ts";
import { ownModel } from "./own_folder.ts";
import type { LoadProgress } from "./protocol.ts";
import { MemoryStore } from "./store.ts";
import { StoreChain } from "./store_chain.ts";

const contents: Record<string, string> = {
  "config.json": "{}",
  "tokenizer.json": "{\"a\":1}",
  "model.safetensors": "weights".repeat(100),
};

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

const entry: ModelEntry = {
  id: "tiny",
  name: "Tiny",
  licence: "MIT",
  source: "nowhere",
  files: Object.entries(contents).map(([name, text]) => ({ name, bytes: text.length, sha256: sha256(text) })),
  vectors: [],
  reports: [],
  replaced: [],
  neutral: [],
};

function tools(requests: string[]): Tools {
  return {
    store: new StoreChain([new MemoryStore()]),
    fetch: (url) => {
      requests.push(url);
      return Promise.resolve(new Response(contents[url.replace("models/tiny/", "")] ?? null));
    },
    hasher: () => {
      const hash = createHash("sha256");
      return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest("hex") };
    },
  };
}

const signal = new AbortController().signal;

describe("a catalogue model", () => {
  it("arrives whole, is found again, and can be removed", async () => {
    const requests: string[] = [];
    const own = tools(requests);
    const reports: LoadProgress[] = [];
    expect(await isCached(entry, own.store)).toBe(false);
    const found = await obtainModel(entry, "models/", own, signal, () => undefined, (progress) => reports.push(progress));
    expect(await found.files.get("model.safetensors")?.text()).toBe(contents["model.safetensors"]);
    expect(found.sha256).toBe(sha256(contents["model.safetensors"] ?? ""));
    // Memory forgets, and the visitor is told.
    expect(found.notices).toEqual([NOT_KEPT]);
    expect(requests).toHaveLength(3);
    expect(reports.at(-1)).toMatchObject({ phase: "download", bytesDone: 709, bytesTotal: 709, fromCache: false });

    expect(await isCached(entry, own.store)).toBe(true);
    await obtainModel(entry, "models/", own, signal, () => undefined, (progress) => reports.push(progress));
    expect(requests).toHaveLength(3);
    expect(reports.at(-1)).toMatchObject({ bytesDone: 709, fromCache: true });

    await removeModel(entry, own.store);
    expect(await isCached(entry, own.store)).toBe(false);
  });
});

describe("a folder of the visitor's own", () => {
  const files = (changes: Record<string, string> = {}) => Object.entries({ ...contents, ...changes }).map(([name, text]) => new File([text], name));
  const manifest = JSON.stringify({
    format: 1,
    name: "Mine",
    licence: "CC0-1.0",
    files: entry.files.map(({ name, bytes, sha256: hash }) => ({ path: name, bytes, sha256: hash })),
  });
  const open = (chosen: File[]) => ownModel(chosen, tools([]), signal, () => undefined);

  it("is named by its manifest and by the hash of its weights", async () => {
    expect(await open(files({ "manifest.json": manifest, "notes.txt": "x" }))).toMatchObject({ name: "Mine", licence: "CC0-1.0", sha256: entry.files[2]?.sha256 });
    expect(await open(files())).toMatchObject({ name: "your own model", sha256: entry.files[2]?.sha256 });
  });

  it("is refused where it is not what its manifest describes", async () => {
    await expect(open(files({ "manifest.json": manifest, "model.safetensors": "other" }))).rejects.toMatchObject({ kind: "corrupt-model" });
    await expect(open(files({ "manifest.json": "null" }))).rejects.toMatchObject({ kind: "corrupt-model" });
  });

  it("does not include its subfolders", () => {
    const at = (path: string) => Object.defineProperty(new File([], "config.json"), "webkitRelativePath", { value: path });
    expect(directFiles([at("model/onnx/config.json"), at("model/config.json")]).map((file) => file.webkitRelativePath)).toEqual(["model/config.json"]);
    expect(directFiles(files())).toHaveLength(3);
  });

  it("says what is missing", async () => {
    await expect(open(files().slice(0, 2))).rejects.toMatchObject({ kind: "usage", message: expect.stringContaining("no model.safetensors") as string });
  });
});

describe("the meter", () => {
  it("tells the time left from the rate of what had to be worked for", () => {
    let now = 0;
    const reports: LoadProgress[] = [];
    const meter = new Meter("download", 1_000, (progress) => reports.push(progress), () => now);
    // Half was there already and took no time.
    meter.update(500, 0, false);
    now = 1_000;
    meter.update(600, 100, false);
    expect(reports[0]).not.toHaveProperty("secondsLeft");
    expect(reports[1]).toMatchObject({ bytesDone: 600, secondsLeft: 4 });
    now = 1_010;
    meter.update(610, 110, false);
    expect(reports).toHaveLength(2);
    meter.update(1_000, 500, false);
    expect(reports).toHaveLength(3);
  });
});
