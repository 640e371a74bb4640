import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { readCatalogue } from "./catalogue.ts";

const hash = "a".repeat(64);
const model = {
  id: "tiny",
  name: "Tiny",
  licence: "MIT",
  source: "nowhere",
  package: { requirement: "x" },
  files: [
    { path: "config.json", bytes: 10, sha256: hash },
    { path: "README.md", bytes: 10, sha256: hash },
    { path: "model.safetensors", bytes: 20, sha256: hash },
  ],
  vectors: [{ path: "cheerful.safetensors", bytes: 5, sha256: hash }],
};

const read = (json: unknown, status = 200) =>
  readCatalogue(() => Promise.resolve(new Response(typeof json === "string" ? json : JSON.stringify(json), { status })), "http://here/models/");

describe("the catalogue", () => {
  it("knows files in parts, which have to be the whole file together", async () => {
    const inParts = (...bytes: unknown[]) => ({
      format: 1,
      models: [{ ...model, files: [{ path: "model.safetensors", bytes: 20, sha256: hash, parts: bytes.map((bytes, index) => ({ path: `m.part${String(index)}`, bytes })) }] }],
    });
    const [entry] = await read(inParts(12, 8));
    expect(entry?.files[0]?.parts).toEqual([
      { name: "m.part0", bytes: 12 },
      { name: "m.part1", bytes: 8 },
    ]);
    for (const wrong of [inParts(12, 7), inParts(), inParts(21, -1), inParts("20")]) {
      await expect(read(wrong)).rejects.toMatchObject({ kind: "download" });
    }
  });

  it("lists models with the files that a model is made of", async () => {
    const [entry] = await read({ format: 1, models: [model] });
    expect(entry).toEqual({
      id: "tiny",
      name: "Tiny",
      licence: "MIT",
      source: "nowhere",
      files: [
        { name: "config.json", bytes: 10, sha256: hash },
        { name: "model.safetensors", bytes: 20, sha256: hash },
      ],
      vectors: [{ name: "cheerful.safetensors", bytes: 5, sha256: hash }],
      reports: [],
      replaced: [],
      neutral: [],
    });
  });

  it.each([
    ["no JSON", "<html>"],
    ["another format", { format: 2, models: [] }],
    ["an id that leaves the folder", { format: 1, models: [{ ...model, id: "../x" }] }],
    ["a file name that leaves the folder", { format: 1, models: [{ ...model, files: [{ path: "../x", bytes: 1, sha256: hash }] }] }],
    ["a vector elsewhere", { format: 1, models: [{ ...model, vectors: [{ path: "http://x/y", bytes: 1, sha256: hash }] }] }],
    ["a hash that is none", { format: 1, models: [{ ...model, files: [{ path: "model.safetensors", bytes: 1, sha256: "A" }] }] }],
    ["a negative length", { format: 1, models: [{ ...model, files: [{ path: "model.safetensors", bytes: -1, sha256: hash }] }] }],
    ["no weights", { format: 1, models: [{ ...model, files: [] }] }],
    ["too much", { format: 1, models: [], padding: "x".repeat(2 ** 20) }],
  ])("refuses %s", async (_what, json) => {
    await expect(read(json)).rejects.toMatchObject({ kind: "download", message: expect.stringContaining("catalog.json is not usable") as string });
  });

  it("says that a page without one was not copied completely", async () => {
    await expect(read({}, 404)).rejects.toMatchObject({ message: expect.stringContaining("404") as string });
  });

  it("describes the vectors that are in the repository", async () => {
    const models = resolve(import.meta.dirname, "../../../models");
    const [entry] = await read(readFileSync(`${models}/catalog.json`, "utf8"));
    const there = readdirSync(`${models}/vectors`);
    const listed = [entry?.vectors ?? [], entry?.reports ?? [], entry?.replaced ?? [], entry?.neutral ?? []].flat();
    expect(listed.map(({ name }) => name).sort()).toEqual(there.filter((name) => /\.(safetensors|report\.json)$|^neutral\.json$/.test(name)).sort());
    for (const { name, bytes, sha256 } of listed) {
      const file = readFileSync(`${models}/vectors/${name}`);
      expect({ name, bytes: file.length, sha256: createHash("sha256").update(file).digest("hex") }).toEqual({ name, bytes, sha256 });
    }
  });
});
