import { IDBFactory } from "fake-indexeddb";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { Failure } from "../../engine/protocol.ts";
import { memoryRecords, openRecords, type RecordStore, type StoredRecord } from "./records.ts";

const openTraits = <T extends StoredRecord, P extends object>() => openRecords<T, P>("traits");

interface Parts {
  vector: Uint8Array;
  rows: { text: string }[];
}

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});
afterEach(() => {
  vi.restoreAllMocks();
});

describe.each<[string, () => Promise<RecordStore<StoredRecord, Parts>>]>([
  ["the browser's database", openTraits],
  ["memory", async () => memoryRecords("traits")],
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
    await (await openTraits<StoredRecord, Parts>()).put({ id: "kept", updated: 1 });
    const store = await openTraits<StoredRecord, Parts>();
    expect(store.keeping.lasting).toBe(true);
    expect(await store.list()).toHaveLength(1);
  });

  it("is replaced by memory where it is forbidden", async () => {
    Object.defineProperty(globalThis, "indexedDB", { configurable: true, writable: true, value: undefined });
    expect((await openTraits()).keeping.lasting).toBe(false);
  });
});

describe("a database that fails", () => {
  const failing = (method: "put" | "getAll" | "delete") =>
    vi.spyOn(IDBObjectStore.prototype, method).mockImplementation(() => {
      throw new DOMException("The transaction was aborted.", "AbortError");
    });

  it("leaves memory, part by part, and takes up again what it can", async () => {
    const store = await openTraits<StoredRecord, Parts>();
    const troubles: Failure[] = [];
    store.keeping.onTrouble = (failure) => troubles.push(failure);
    await store.put({ id: "a", updated: 1 });
    await store.putPart("a", "rows", [{ text: "kept" }]);
    failing("put");
    await store.put({ id: "a", updated: 2 });
    await store.putPart("a", "vector", Uint8Array.of(7));
    expect(await store.parts("a")).toEqual({ rows: [{ text: "kept" }], vector: Uint8Array.of(7) });
    expect(await store.list()).toEqual([{ id: "a", updated: 2 }]);
    expect(troubles).toMatchObject([{ kind: "quota", message: expect.stringMatching(/The transaction was aborted.*closing this tab loses/) as string }]);
    vi.restoreAllMocks();
    await store.put({ id: "a", updated: 3 });
    await store.putPart("a", "vector", Uint8Array.of(8));
    const later = await openTraits<StoredRecord, Parts>();
    expect(await later.list()).toEqual([{ id: "a", updated: 3 }]);
    expect(await later.parts("a")).toEqual({ rows: [{ text: "kept" }], vector: Uint8Array.of(8) });
  });

  it("says what cannot be read or removed", async () => {
    const store = await openTraits<StoredRecord, Parts>();
    const troubles: Failure[] = [];
    store.keeping.onTrouble = (failure) => troubles.push(failure);
    failing("getAll");
    expect(await store.list()).toEqual([]);
    expect(await store.parts("a")).toEqual({});
    failing("delete");
    await store.remove("a");
    expect(troubles.map(({ message }) => message)).toEqual([expect.stringContaining("could not be read"), expect.stringContaining("may be back")]);
  });
});
