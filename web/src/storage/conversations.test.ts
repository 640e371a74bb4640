import { beforeEach, describe, expect, it } from "vitest";
import { IDBFactory } from "fake-indexeddb";
import { newConversation } from "../session/conversation.ts";
import { type ConversationStore, memoryStore, openConversations } from "./conversations.ts";
import { exported } from "./exported.ts";

const titled = (title: string, updated: number) => ({ ...newConversation(""), title, updated });

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});

describe.each<[string, () => Promise<ConversationStore>]>([
  ["the browser's database", openConversations],
  ["memory", async () => memoryStore()],
])("conversations in %s", (_, open) => {
  it("come back whole, newest first, and go when removed", async () => {
    const store = await open();
    const old = titled("old", 1);
    const fresh = titled("fresh", 2);
    await store.put(fresh);
    await store.put(old);
    expect((await store.list()).map(({ title }) => title)).toEqual(["fresh", "old"]);
    expect(await store.get(old.id)).toEqual(old);
    await store.remove(fresh.id);
    expect((await store.list()).map(({ title }) => title)).toEqual(["old"]);
    expect(await store.get(fresh.id)).toBeNull();
  });
});

describe("the browser's database", () => {
  it("outlives the page", async () => {
    const kept = titled("kept", 1);
    await (await openConversations()).put(kept);
    const store = await openConversations();
    expect(store.lasting).toBe(true);
    expect(await store.get(kept.id)).toEqual(kept);
  });

  it("is replaced by memory where it is forbidden", async () => {
    Object.defineProperty(globalThis, "indexedDB", { configurable: true, writable: true, value: undefined });
    const store = await openConversations();
    expect(store.lasting).toBe(false);
    await store.put(titled("short-lived", 1));
    expect(await store.list()).toHaveLength(1);
  });
});

describe("a conversation as a file", () => {
  it("has plain arrays, and null where there is no number", () => {
    const conversation = { ...titled("t", 1), turns: [{ values: Float32Array.from([1.5, Number.NaN]) }] as never };
    expect(JSON.parse(exported(conversation))).toMatchObject({ title: "t", turns: [{ values: [1.5, null] }] });
  });
});
