// @vitest-environment node
import "fake-indexeddb/auto";
import { createHash } from "node:crypto";
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
  await file.close();
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
    expect(sha256(await file.read(PIECE - 5, 10))).toBe(sha256(content.slice(PIECE - 5, PIECE + 5)));
    await file.close();
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

  it("say when they were removed while they arrived", async () => {
    const store = await IndexedDbStore.mount();
    await expect(store.seal("never")).rejects.toMatchObject({ kind: "download" });
  });
});
