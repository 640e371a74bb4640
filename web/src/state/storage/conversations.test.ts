import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { IDBFactory } from "fake-indexeddb";
import { openDB } from "idb";
import type { Failure } from "../../engine/protocol.ts";
import { answerText, type Conversation, emptyAnswer, newConversation, type Run } from "../conversation/conversation.ts";
import { type ConversationStore, memoryStore, openConversations } from "./conversations.ts";
import { GrowingAnswer } from "../conversation/growing_answer.ts";
import { exported } from "../files/exported.ts";

const run = (id: string, seed = 1): Run => ({
  id,
  after: [],
  sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed },
  maxTokens: 1,
  model: { name: "m", sha256: "", backend: "cpu", precision: "exact", traits: [] },
  answers: { unsteered: { ...emptyAnswer([]), rereadLogprob: Float32Array.of(-1, Number.NaN) }, steered: emptyAnswer([]) },
  prompt: null,
});
const asked = (id: string, ...runs: Run[]): Conversation => ({ ...newConversation(""), id, turns: [{ id: `${id}-turn`, user: "?", runs, shown: 0 }] });

const titled = (title: string, updated: number) => ({ ...newConversation(""), title, updated });

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});
afterEach(() => {
  vi.restoreAllMocks();
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

describe.each<[string, () => Promise<ConversationStore>]>([
  ["the browser's database", openConversations],
  ["memory", async () => memoryStore()],
])("answers in %s", (_, open) => {
  it("come back with their conversation, as they were last", async () => {
    const store = await open();
    const first = run("first");
    const conversation = asked("c", first, run("second"));
    await store.put(conversation);
    const grown = asked("c", first, run("second", 2), run("third"));
    await store.put(grown);
    expect(await store.get("c")).toEqual(grown);
  });

  it("go with their conversation alone", async () => {
    const store = await open();
    const shared = run("shared");
    await store.put(asked("c", shared));
    await store.put(asked("copy", shared));
    await store.remove("c");
    expect(await store.get("c")).toBeNull();
    expect((await store.get("copy"))?.turns[0]?.runs).toEqual([shared]);
  });
});

/** What the pages before parts wrote: version 1 of the database, a run by conversation and run. */
async function writtenBefore(conversation: Conversation): Promise<void> {
  const database = await openDB("trimtab", 1, {
    upgrade(fresh) {
      fresh.createObjectStore("heads", { keyPath: "id" });
      fresh.createObjectStore("bodies", { keyPath: "id" });
      fresh.createObjectStore("runs");
    },
  });
  const { id, title, updated, turns } = conversation;
  await database.put("heads", { id, title, updated, turns: turns.length });
  await database.put("bodies", { ...conversation, turns: turns.map((turn) => ({ ...turn, runs: turn.runs.map((one) => one.id) })) });
  for (const one of turns.flatMap((turn) => turn.runs)) await database.put("runs", one, [id, one.id]);
  database.close();
}

describe("the browser's database", () => {
  it("opens what earlier pages wrote", async () => {
    const before = asked("c", run("first"), run("second"));
    await writtenBefore(before);
    const store = await openConversations();
    expect((await store.list()).map(({ id }) => id)).toEqual(["c"]);
    expect(await store.get("c")).toEqual(before);
  });

  it("keeps an answer in parts while it is written, until it is put whole", async () => {
    const store = await openConversations();
    const begun = asked("c", run("first"), run("second"));
    await store.put(begun);
    const growing = new GrowingAnswer(emptyAnswer([]));
    let kept = 0;
    for (const [number, text] of ["One", " two", " three"].entries()) {
      growing.take({ kind: "token", column: 0, token: { id: number, text, part: "response", logprob: -1, alternatives: [] } });
      await store.append("c", "second", number, [growing.partAfter("steered", kept, 0)]);
      kept += 1;
    }
    const runs = async () => (await (await openConversations()).get("c"))?.turns[0]?.runs.map(({ answers }) => answerText(answers.steered));
    expect(await runs()).toEqual(["", "One two three"]);

    const second = { ...run("second"), answers: { ...run("second").answers, steered: { ...growing.answer, end: "end-token" as const } } };
    await store.put({ ...begun, turns: [{ ...begun.turns[0]!, runs: [begun.turns[0]!.runs[0]!, second] }] });
    expect(await runs()).toEqual(["", "One two three"]);
    const database = await openDB("trimtab", 1);
    expect(await database.getAllKeys("runs")).toEqual([["c", "first"], ["c", "second"]]);
    database.close();
  });

  it("outlives the page", async () => {
    const kept = titled("kept", 1);
    await (await openConversations()).put(kept);
    const store = await openConversations();
    expect(store.keeping.lasting).toBe(true);
    expect(await store.get(kept.id)).toEqual(kept);
  });

  it("is replaced by memory where it is forbidden", async () => {
    Object.defineProperty(globalThis, "indexedDB", { configurable: true, writable: true, value: undefined });
    const store = await openConversations();
    expect(store.keeping.lasting).toBe(false);
    await store.put(titled("short-lived", 1));
    expect(await store.list()).toHaveLength(1);
  });
});

/** Makes every request of this kind fail, as a database does that was closed, or whose transactions are aborted. */
function broken(method: "put" | "get" | "getAll" | "delete", name: string): void {
  vi.spyOn(IDBObjectStore.prototype, method).mockImplementation(() => {
    throw new DOMException("the disk is gone", name);
  });
}

describe.each(["AbortError", "InvalidStateError", "UnknownError", "QuotaExceededError"])("a database that fails with %s", (name) => {
  const troubles: Failure[] = [];
  const opened = async () => {
    troubles.length = 0;
    const store = await openConversations();
    store.keeping.onTrouble = (failure) => troubles.push(failure);
    return store;
  };

  it("while it is written to leaves memory, says so once, and takes up again what it can", async () => {
    const store = await opened();
    await store.put(titled("before", 1));
    broken("put", name);
    const lost = asked("lost", run("first"));
    await store.put(lost);
    await store.put({ ...lost, updated: lost.updated + 1 });
    expect(await store.get("lost")).toMatchObject({ turns: lost.turns });
    expect((await store.list()).map(({ title }) => title)).toContain("before");
    expect(await store.list()).toHaveLength(2);
    expect(store.keeping.lasting).toBe(false);
    expect(troubles).toHaveLength(1);
    expect(troubles[0]).toMatchObject({ kind: "quota", message: expect.stringMatching(/closing this tab loses .* Save everything as a file/) as string });
    expect(troubles[0]?.message).toContain(name === "QuotaExceededError" ? "no room left" : "the disk is gone");
    vi.restoreAllMocks();
    await store.put(lost);
    expect(store.keeping.lasting).toBe(true);
    expect(await (await openConversations()).get("lost")).toEqual(lost);
  });

  it("while an answer is written says so, and wants what it did not keep once more", async () => {
    const store = await opened();
    await store.put(asked("c", run("first")));
    broken("put", name);
    expect(await store.append("c", "first", 0, [])).toBe(false);
    expect(troubles).toHaveLength(1);
    vi.restoreAllMocks();
    expect(await store.append("c", "first", 0, [])).toBe(true);
  });

  it("while it is read says so, and has what was written since", async () => {
    const store = await opened();
    await store.put(titled("kept", 1));
    broken("getAll", name);
    broken("get", name);
    expect(await store.list()).toEqual([]);
    expect(await store.list()).toEqual([]);
    expect(troubles).toMatchObject([{ kind: "internal", message: expect.stringContaining("could not be read (the disk is gone)") as string }]);
    await expect(store.get("any")).rejects.toThrow("the disk is gone");
  });

  it("while something is removed says that it may be back", async () => {
    const store = await opened();
    const one = titled("one", 1);
    await store.put(one);
    broken("delete", name);
    await store.remove(one.id);
    expect(troubles).toMatchObject([{ message: expect.stringContaining("may be back") as string }]);
  });
});

describe("where the browser keeps nothing", () => {
  it("that is said when there is something to lose, once", async () => {
    const troubles: Failure[] = [];
    const store = memoryStore();
    store.keeping.onTrouble = (failure) => troubles.push(failure);
    expect(store.keeping.lasting).toBe(false);
    await store.list();
    expect(troubles).toEqual([]);
    await store.put(titled("one", 1));
    await store.put(titled("two", 2));
    expect(troubles).toMatchObject([{ kind: "quota", message: expect.stringMatching(/keep nothing, so closing this tab loses your conversations\. Save everything as a file/) as string }]);
  });
});

describe("a conversation as a file", () => {
  it("has plain arrays, and null where there is no number", () => {
    const conversation = { ...titled("t", 1), turns: [{ values: Float32Array.from([1.5, Number.NaN]) }] as never };
    expect(JSON.parse(exported(conversation))).toMatchObject({ title: "t", turns: [{ values: [1.5, null] }] });
  });
});
