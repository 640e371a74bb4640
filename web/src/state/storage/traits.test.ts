import { IDBFactory } from "fake-indexeddb";
import { beforeEach, describe, expect, it } from "vitest";
import { type Kept, memoryTraits, openTraits, type TraitStore } from "./traits.ts";

interface Parts {
  vector: Uint8Array;
  rows: { text: string }[];
}

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});

describe.each<[string, () => Promise<TraitStore<Kept, Parts>>]>([
  ["the browser's database", openTraits],
  ["memory", async () => memoryTraits()],
])("traits in %s", (_, open) => {
  it("come back with their parts, newest first, and go whole", async () => {
    const store = await open();
    await store.put({ id: "old", updated: 1 });
    await store.put({ id: "new", updated: 2 });
    await store.putPart("old", "vector", Uint8Array.of(1, 2));
    await store.putPart("old", "rows", [{ text: "a" }]);
    await store.putPart("new", "rows", [{ text: "b" }]);
    expect((await store.list()).map(({ id }) => id)).toEqual(["new", "old"]);
    expect(await store.parts("old")).toEqual({ vector: Uint8Array.of(1, 2), rows: [{ text: "a" }] });
    await store.remove("old");
    expect((await store.list()).map(({ id }) => id)).toEqual(["new"]);
    expect(await store.parts("old")).toEqual({});
    expect(await store.parts("new")).toEqual({ rows: [{ text: "b" }] });
  });
});

describe("the browser's database", () => {
  it("outlives the page", async () => {
    await (await openTraits<Kept, Parts>()).put({ id: "kept", updated: 1 });
    const store = await openTraits<Kept, Parts>();
    expect(store.lasting).toBe(true);
    expect(await store.list()).toHaveLength(1);
  });

  it("is replaced by memory where it is forbidden", async () => {
    Object.defineProperty(globalThis, "indexedDB", { configurable: true, writable: true, value: undefined });
    expect((await openTraits()).lasting).toBe(false);
  });
});
