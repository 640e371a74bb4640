import { beforeEach, describe, expect, it, vi } from "vitest";
import type { Engine } from "../../engine/protocol.ts";
import { MockEngine, type MockOptions, mockTraits } from "../../fixtures/mock_engine.ts";
import { memoryStore } from "../storage/conversations.ts";
import { automation } from "./automation.ts";
import { answerText, shownRun } from "../conversation/conversation.ts";
import { Session } from "./session.svelte.ts";

async function loaded(options: Partial<MockOptions> = {}) {
  const engine = new MockEngine({ tokenMs: 0, loadMs: 0, ...options });
  const store = memoryStore();
  const session = new Session(engine, store);
  await session.model.readCatalogue();
  await session.loadAgain();
  return { engine, store, session, chat: session.chat };
}

beforeEach(() => localStorage.clear());

describe("a conversation", () => {
  it("answers in both columns, coloured by what each run read", async () => {
    const { chat, session, engine } = await loaded();
    session.moveSlider("cheerful", 2);
    await chat.ask("How was your weekend?");
    const run = shownRun(chat.conversation.turns[0]!)!;
    expect(engine.requests[0]?.columns.map(({ column, plan }) => [column, plan.length])).toEqual([
      ["unsteered", 0],
      ["steered", 1],
    ]);
    expect(answerText(run.answers.unsteered)).toContain("quiet");
    expect(answerText(run.answers.steered)).toContain("wonderful");
    for (const column of ["unsteered", "steered"] as const) {
      expect(run.answers[column].reread?.tokens).toBe(run.answers[column].tokens.length);
      expect(run.answers[column].end).toBe("end-token");
    }
    expect(run.prompt?.tokens.map(({ text }) => text).join("")).toBe("How was your weekend?");
    expect(chat.announcement).toMatch(/Unsteered answer: My weekend.*Steered answer: Oh,/s);
  });

  it("goes on in each column from its own answers", async () => {
    const { chat, session, engine } = await loaded();
    session.moveSlider("cheerful", 2);
    session.chat.setSystem("Be brief.");
    await chat.ask("One?");
    await chat.ask("Two?");
    const [plain, steered] = engine.requests[1]!.columns;
    expect(plain!.messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user"]);
    expect(plain!.messages[2]!.content).toContain("quiet");
    expect(steered!.messages[2]!.content).toContain("wonderful");
    expect(steered!.messages.at(-1)).toEqual({ role: "user", content: "Two?" });
  });

  it("sends a moved slider to the answer that is being written, and marks the place", async () => {
    const { chat, session, engine } = await loaded({ tokenMs: 5 });
    session.moveSlider("cheerful", 1);
    const asked = chat.ask("How was your weekend?");
    await vi.waitFor(() => expect(chat.running?.phase.kind).toBe("writing"));
    session.moveSlider("cheerful", 1.5);
    chat.slidersMoved();
    session.moveSlider("cheerful", 2);
    chat.slidersMoved();
    await asked;
    expect(engine.plans).toHaveLength(1);
    const segments = shownRun(chat.conversation.turns[0]!)!.answers.steered.segments;
    expect(segments).toHaveLength(2);
    expect(segments[1]?.fromToken).toBeGreaterThan(0);
    expect(segments[1]?.plan[0]?.operation).toEqual({ kind: "add", coefficient: 2 });
  });

  it("takes what was wished while room was made for it", async () => {
    const { chat, session, engine } = await loaded();
    let go: () => void = () => undefined;
    session.workshop.pause = () => new Promise((resolve) => (go = () => resolve(() => undefined)));
    session.moveSlider("cheerful", 1);
    const asked = chat.ask("How was your weekend?");
    session.moveSlider("cheerful", 2);
    chat.slidersMoved();
    go();
    await asked;
    const steered = { kind: "add", coefficient: 2 };
    expect(engine.requests[0]?.columns.map(({ plan }) => plan.map(({ operation }) => operation))).toEqual([[], [steered]]);
    expect(shownRun(chat.conversation.turns[0]!)!.answers.steered.segments.map(({ plan }) => plan[0]?.operation)).toEqual([steered]);

    const again = chat.ask("And now?");
    await chat.stop();
    go();
    await again;
    expect(engine.requests).toHaveLength(1);
    expect(shownRun(chat.conversation.turns[1]!)!.answers.steered.end).toBe("stopped");
    expect(chat.running).toBeNull();
  });

  it("says why a conversation cannot be opened", async () => {
    const { chat, store, session } = await loaded();
    await chat.ask("One?");
    const id = chat.conversation.id;
    await chat.startNew();
    store.open = () => Promise.reject(new Error("the database was closed"));
    await chat.open(id);
    expect(session.model.failure?.message).toMatch(/“One\?” could not be read .*the database was closed.* Reload the page/);
    store.open = async () => null;
    await chat.open(id);
    expect(session.model.failure?.message).toMatch(/no longer here/);
  });

  it("runs only the steered column again when only a slider moved", async () => {
    const { chat, session, engine } = await loaded();
    session.moveSlider("cheerful", 2);
    await chat.ask("How was your weekend?");
    session.moveSlider("cheerful", -2);
    await chat.again(0);
    expect(engine.requests[1]?.columns.map(({ column }) => column)).toEqual(["steered"]);
    const turn = chat.conversation.turns[0]!;
    expect(turn.runs).toHaveLength(2);
    expect(answerText(shownRun(turn)!.answers.unsteered)).toContain("quiet");
    expect(answerText(shownRun(turn)!.answers.steered)).toContain("grey");
    chat.show(0, 0);
    expect(answerText(shownRun(chat.conversation.turns[0]!)!.answers.steered)).toContain("wonderful");
  });

  it("takes another seed when nothing moved, at every position of a slider", async () => {
    const { chat, session, engine } = await loaded();
    for (const position of [2.1, 0.3, -5.3]) {
      session.moveSlider("cheerful", position);
      await chat.startNew();
      await chat.ask("How was your weekend?");
      const { seed } = session.preferences.choices.sampler;
      await chat.again(0);
      expect(session.preferences.choices.sampler.seed).not.toBe(seed);
      expect(engine.requests.at(-1)?.columns).toHaveLength(2);
    }
  });

  it("shows the unsteered answer in both columns when the push is gone, and runs only where the columns part", async () => {
    const { chat, session, engine } = await loaded();
    session.moveSlider("cheerful", 2);
    await chat.ask("How was your weekend?");
    session.moveSlider("cheerful", 0);
    await chat.again(0);
    expect(engine.requests).toHaveLength(1);
    const { answers } = shownRun(chat.conversation.turns[0]!)!;
    expect(answerText(answers.unsteered)).toContain("quiet");
    expect(answers.steered).toEqual(answers.unsteered);
    expect(chat.announcement).toMatch(/Unsteered answer: My weekend.*Steered answer: My weekend/s);

    chat.show(0, 0);
    session.moveSlider("cheerful", 2);
    await chat.ask("And now?");
    session.moveSlider("cheerful", 0);
    await chat.again(1);
    expect(engine.requests.at(-1)?.columns.map(({ column, plan }) => [column, plan.length])).toEqual([["steered", 0]]);
  });

  it("runs both columns again when it goes on from another version of the answer before", async () => {
    const { chat, session, engine } = await loaded();
    await chat.ask("One?");
    await chat.again(0);
    await chat.ask("Two?");
    const seed = session.preferences.choices.sampler.seed;
    chat.show(0, 0);
    session.moveSlider("cheerful", 2);
    await chat.again(1);
    expect(engine.requests.at(-1)?.sampler.seed).toBe(seed);
    expect(engine.requests.at(-1)?.columns.map(({ column }) => column)).toEqual(["unsteered", "steered"]);
  });

  it("takes a new seed when nothing was changed, and both columns when the sampler was", async () => {
    const { chat, session, engine } = await loaded();
    await chat.ask("Hello?");
    const seed = session.preferences.choices.sampler.seed;
    await chat.again(0);
    expect(engine.requests[1]?.sampler.seed).not.toBe(seed);
    expect(engine.requests[1]?.columns).toHaveLength(2);
    session.preferences.choices.sampler.temperature = 1.2;
    session.moveSlider("cheerful", 1);
    await chat.again(0);
    expect(engine.requests[2]?.columns).toHaveLength(2);
  });

  it("keeps what it had when a question is edited", async () => {
    const { chat, store } = await loaded();
    await chat.ask("One?");
    await chat.ask("Two?");
    const before = chat.conversation.id;
    await chat.edit(0, "Other?");
    expect(chat.conversation.turns.map(({ user }) => user)).toEqual(["Other?"]);
    expect((await store.get(before))?.turns.map(({ user }) => user)).toEqual(["One?", "Two?"]);
    expect(chat.heads).toHaveLength(2);
  });

  it("keeps a growing answer by what was added, and the whole conversation only at its ends", async () => {
    const { chat, store } = await loaded();
    const puts = vi.spyOn(store, "put");
    const appends = vi.spyOn(store, "append");
    // Every look at the clock is a while after the last one, so that each frame is due to be kept.
    let now = 0;
    vi.spyOn(Date, "now").mockImplementation(() => (now += 4000));
    await chat.ask("How was your weekend?");
    vi.restoreAllMocks();
    const { unsteered, steered } = shownRun(chat.conversation.turns[0]!)!.answers;
    const parts = appends.mock.calls.map(([, , , added]) => added);
    expect(puts).toHaveBeenCalledTimes(2);
    expect(parts.length).toBeGreaterThan(0);
    for (const [column, answer] of Object.entries({ unsteered, steered })) {
      const added = parts.flat().filter((part) => part.column === column);
      const tokens = added.flatMap((part) => part.added.tokens);
      expect(tokens.map(({ id }) => id)).toEqual(answer.tokens.slice(0, tokens.length).map(({ id }) => id));
      expect(added.reduce((sum, part) => sum + (part.added.inRun?.tokens ?? 0), 0)).toBeLessThanOrEqual(answer.tokens.length);
    }
  });

  it("keeps what was written when it is stopped", async () => {
    const { chat, store } = await loaded({ tokenMs: 5 });
    const asked = chat.ask("How was your weekend?");
    await vi.waitFor(() => expect(shownRun(chat.conversation.turns[0]!)!.answers.steered.tokens.length).toBeGreaterThan(2));
    await chat.stop();
    await asked;
    const kept = await store.get(chat.conversation.id);
    const answer = shownRun(kept!.turns[0]!)!.answers.steered;
    expect(answer.end).toBe("stopped");
    expect(answer.tokens.length).toBeGreaterThan(2);
  });

  it("keeps what was written when the device is lost, says so, and can go on", async () => {
    const { chat, session } = await loaded({ loseDeviceAfter: 4 });
    await chat.ask("How was your weekend?");
    expect(session.model.failure?.kind).toBe("device-lost");
    expect(session.model.loaded).toBeNull();
    const answer = shownRun(chat.conversation.turns[0]!)!.answers.steered;
    expect([answer.end, answer.tokens.length]).toEqual(["failed", 4]);
    await session.remedy("reload-model");
    expect(session.model.loaded).not.toBeNull();
    expect(session.model.failure).toBeNull();
  });

  it("stops and keeps a running answer when another conversation is opened", async () => {
    const { chat, store } = await loaded({ tokenMs: 5 });
    await chat.ask("First?");
    const first = chat.conversation.id;
    await chat.startNew();
    const asked = chat.ask("Second?");
    await vi.waitFor(() => expect(chat.running?.phase.kind).toBe("writing"));
    const second = chat.conversation.id;
    await chat.open(first);
    await asked;
    expect(chat.conversation.id).toBe(first);
    expect(shownRun((await store.get(second))!.turns[0]!)!.answers.unsteered.end).toBe("stopped");
  });

  it("is there again after a reload", async () => {
    const { chat, store, engine } = await loaded();
    await chat.ask("How was your weekend?");
    const again = new Session(engine, store);
    await again.chat.restore();
    expect(again.chat.conversation.turns[0]?.user).toBe("How was your weekend?");
    expect(again.chat.conversation.title).toBe("How was your weekend?");
  });

  it("waits for the model when asked early", async () => {
    const engine = new MockEngine({ tokenMs: 0, loadMs: 0 });
    const session = new Session(engine, memoryStore());
    await session.model.readCatalogue();
    await session.chat.ask("Already?");
    expect(session.chat.waiting).toBe("Already?");
    await session.loadAgain();
    expect(session.chat.waiting).toBeNull();
    expect(answerText(shownRun(session.chat.conversation.turns[0]!)!.answers.unsteered)).not.toBe("");
  });
});

describe("scripts", () => {
  it("load a model and add a trait, and the page shows both", async () => {
    const engine = new MockEngine({ tokenMs: 0, loadMs: 0 });
    const trait = { ...mockTraits[0]!, name: "sleepy" };
    const session = new Session(engine, memoryStore());
    const verbs = automation(
      {
        ...(engine as unknown as Engine),
        load: (...inputs) => engine.load(...inputs),
        catalogue: () => engine.catalogue(),
        addVector: async () => trait,
      },
      session.model,
    );
    await verbs.load({ kind: "catalogue", id: "smollm2-135m-instruct" }, { backend: "cpu", precision: "exact" }, () => undefined);
    expect(session.model.loaded?.backend).toBe("cpu");
    await verbs.addVector("sleepy", new Uint8Array());
    await verbs.addVector("sleepy", new Uint8Array());
    expect(session.traits.map(({ name }) => name)).toEqual(["cheerful", "poetic", "villainous", "sleepy"]);
  });
});

describe("the model", () => {
  it("says why it could not be loaded, and can be loaded on the CPU instead", async () => {
    const { session } = await loaded({ loadFailure: { kind: "no-webgpu", message: "This browser has no WebGPU." } });
    expect(session.model.failure?.message).toBe("This browser has no WebGPU.");
    await session.remedy("use-cpu");
    expect(session.model.loaded?.backend).toBe("cpu");
  });

  it("forgets a load that was cancelled", async () => {
    const engine = new MockEngine({ tokenMs: 0, loadMs: 40 });
    const session = new Session(engine, memoryStore());
    await session.model.readCatalogue();
    const loading = session.loadAgain();
    await session.model.cancel();
    await loading;
    expect(session.model.stage.kind).toBe("idle");
    expect(session.model.failure).toBeNull();
  });
});
