// @vitest-environment node
import "fake-indexeddb/auto";
import { createHash } from "node:crypto";
import { IDBFactory } from "fake-indexeddb";
import { openDB } from "idb";
import { describe, expect, it, vi } from "vitest";
import { IndexedDbStore } from "./indexed_db_store.ts";
import { PIECE } from "./store.ts";

const SIZE = 2 * PIECE + 12_345;
const content = Uint8Array.from({ length: SIZE }, (_, index) => (index * 31 + (index >> 8)) % 251);
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const hashOf = async (blob: Blob | undefined) => sha256(new Uint8Array((await blob?.arrayBuffer()) ?? new ArrayBuffer(0)));
const CHUNK = 900_001;

async function fill(store: IndexedDbStore, key: string, to: number): Promise<void> {
  const file = await store.open(key);
  for (let at = file.length; at < to; at += CHUNK) await file.append(content.slice(at, Math.min(to, at + CHUNK)));
  await file.flush();
  file.close();
}

describe("model files in IndexedDB", () => {
  it("are kept for the next visit, and only when they were sealed", async () => {
    const store = await IndexedDbStore.mount();
    await fill(store, "whole", SIZE);
    expect(await store.find("whole", SIZE)).toBeUndefined();
    expect(await hashOf(await store.seal("whole"))).toBe(sha256(content));
    const later = await IndexedDbStore.mount();
    expect(await hashOf(await later.find("whole", SIZE))).toBe(sha256(content));
    expect(await later.find("whole", SIZE - 1)).toBeUndefined();
    await later.remove("whole");
    expect(await later.find("whole", SIZE)).toBeUndefined();
    expect((await later.open("whole")).length).toBe(0);
  });

  it("go on where they broke off, to the byte", async () => {
    const store = await IndexedDbStore.mount();
    const broken = PIECE + 77_777;
    await fill(store, "broken", broken);
    const file = await (await IndexedDbStore.mount()).open("broken");
    expect(file.length).toBe(broken);
    expect(sha256(await file.read(PIECE - 5, 5))).toBe(sha256(content.slice(PIECE - 5, PIECE)));
    expect(sha256(await file.read(PIECE, 5))).toBe(sha256(content.slice(PIECE, PIECE + 5)));
    file.close();
    await fill(store, "broken", SIZE);
    expect(await hashOf(await store.seal("broken"))).toBe(sha256(content));
  });

  it("are whole when two tabs fetch one at the same time", async () => {
    const tabs = await Promise.all([IndexedDbStore.mount(), IndexedDbStore.mount()]);
    await Promise.all(tabs.map((store) => fill(store, "both", SIZE)));
    expect(await hashOf(await tabs[0].seal("both"))).toBe(sha256(content));
  });

  it("keep nothing of the bytes for which there was no room", async () => {
    const store = await IndexedDbStore.mount();
    const file = await store.open("full");
    await file.append(content.slice(0, PIECE - 10));
    const put = vi.spyOn(IDBObjectStore.prototype, "put").mockImplementation(() => {
      throw new DOMException("no room", "QuotaExceededError");
    });
    await expect(file.append(content.slice(PIECE - 10, PIECE + 10))).rejects.toMatchObject({ name: "QuotaExceededError" });
    put.mockRestore();
    expect(file.length).toBe(PIECE - 10);
    expect(sha256(await file.read(0, file.length))).toBe(sha256(content.slice(0, PIECE - 10)));
  });

  it("are listed with their sizes, whole or not", async () => {
    globalThis.indexedDB = new IDBFactory();
    const store = await IndexedDbStore.mount();
    await fill(store, "half", PIECE + 3);
    await fill(store, "less", 5);
    expect(await store.list()).toEqual([{ sha256: "half", bytes: PIECE + 3 }, { sha256: "less", bytes: 5 }]);
    expect(await store.arrived("half")).toBe(PIECE + 3);
    expect(await store.arrived("never")).toBe(0);
  });

  it("that an earlier version of the page kept as Blobs are found, and go on", async () => {
    globalThis.indexedDB = new IDBFactory();
    const store = await IndexedDbStore.mount();
    const database = await openDB("trimtab-model-files");
    await database.put("pieces", new Blob([content.slice(0, PIECE)]), ["old", 0]);
    await database.put("pieces", new Blob([content.slice(PIECE, PIECE + 9)]), ["old", 1]);
    expect(await store.arrived("old")).toBe(PIECE + 9);
    await fill(store, "old", SIZE);
    expect(await hashOf(await store.seal("old"))).toBe(sha256(content));
  });
});
