/** Two tabs on one conversation, over one database. */

import { IDBFactory } from "fake-indexeddb";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { answerText, shownRun } from "../conversation/conversation.ts";
import { Progress } from "../lessons/progress.svelte.ts";
import { Preferences } from "../model/preferences.svelte.ts";
import { openConversations } from "../storage/conversations.ts";
import { openRecords } from "../storage/records.ts";
import { Session } from "./session.svelte.ts";

async function tab(tokenMs = 0) {
  const session = new Session(new MockEngine({ tokenMs, loadMs: 0 }), await openConversations(), await openRecords("traits"));
  await session.model.readCatalogue();
  await session.loadAgain();
  await session.chat.restore();
  return session;
}

beforeEach(() => {
  localStorage.clear();
  globalThis.indexedDB = new IDBFactory();
});

describe("two tabs", () => {
  it("keep both turns: the second one goes on in a copy, and both tabs say so", async () => {
    const first = await tab();
    await first.chat.ask("Tell me about the moon.");
    const second = await tab();
    expect(second.chat.conversation.id).toBe(first.chat.conversation.id);

    await first.chat.ask("How far away is it?");
    await vi.waitFor(() => expect(second.chat.elsewhere?.message).toMatch(/went on in another tab/));
    await second.chat.ask("Who walked on it first?");
    expect(second.chat.conversation.id).not.toBe(first.chat.conversation.id);
    expect(second.chat.elsewhere?.message).toMatch(/goes on here in a copy/);
    await vi.waitFor(() => expect(first.chat.elsewhere?.open).toBe(second.chat.conversation.id));

    const third = await tab();
    const questions = await Promise.all(third.chat.heads.map(async ({ id }) => (await third.chat.store.get(id))?.turns.map(({ user, runs }) => [user, runs.length])));
    expect(questions).toHaveLength(2);
    expect(questions).toContainEqual([["Tell me about the moon.", 1], ["How far away is it?", 1]]);
    expect(questions).toContainEqual([["Tell me about the moon.", 1], ["Who walked on it first?", 1]]);
  });

  it("lose nothing that is written in both at once, or after the other removed it", async () => {
    const first = await tab(1);
    await first.chat.ask("One?");
    const second = await tab(1);
    await Promise.all([first.chat.ask("Two?"), second.chat.ask("Three?")]);
    const texts = async () => (await Promise.all(first.chat.heads.map(({ id }) => first.chat.store.get(id)))).map((one) => one?.turns.map(({ user }) => user).join(" "));
    await first.chat.refreshHeads();
    expect((await texts()).sort()).toEqual(["One? Three?", "One? Two?"]);

    const { id } = second.chat.conversation;
    await first.chat.remove(id);
    await second.chat.ask("Four?");
    const again = await (await tab()).chat.store.get(id);
    expect(again?.turns.map(({ user, runs }) => [user, runs.length])).toEqual([["One?", 1], ["Three?", 1], ["Four?", 1]]);
  });

  it("keep each other's choices and progress", () => {
    const [one, other] = [new Preferences(), new Preferences()];
    one.choices.maxTokens = 300;
    one.save();
    other.choices.theme = "dark";
    other.save();
    expect(new Preferences().choices).toMatchObject({ maxTokens: 300, theme: "dark" });
    one.choices.sampler.temperature = 0.2;
    one.save();
    other.newSeed();
    other.save();
    expect(new Preferences().choices.sampler).toMatchObject({ temperature: 0.2, seed: other.choices.sampler.seed });

    const [here, there] = [new Progress(), new Progress()];
    here.setDone("direction", 0, 0, true);
    there.setDone("controls", 1, 1, true);
    const kept = new Progress();
    expect([kept.isDone("direction", 0, 0), kept.isDone("controls", 1, 1)]).toEqual([true, true]);
    here.openStep("controls", 3);
    there.setDone("controls", 1, 0, true);
    here.setDone("controls", 3, 0, true);
    expect(new Progress().of("controls").done).toEqual(["1.1", "1.0", "3.0"]);
    expect([here.of("controls").step, there.of("controls").step]).toEqual([3, 0]);
    there.resetAll();
    here.setDone("direction", 0, 1, true);
    expect(new Progress().all).toEqual({ direction: { step: 0, done: ["0.1"], passed: [] } });
  });

  it("take a trait apart from each other: what one finds and what the other chooses are both kept", async () => {
    const first = await tab();
    const id = (await first.workshop.draft("merry", "Laughs.", "mournful", "Sighs."))!;
    const second = await tab();
    await second.workshop.restore();
    const of = (session: Session) => session.workshop.traits.find((trait) => trait.id === id);
    // Neither has heard of the other's change yet.
    first.workshop.change(id, { sweepSettings: { ...of(first)!.sweepSettings, questions: 4 } });
    second.workshop.change(id, { thresholds: { ...of(second)!.thresholds, deviations: 2 } });
    await vi.waitFor(() => expect([of(first)?.thresholds.deviations, of(second)?.sweepSettings.questions]).toEqual([2, 4]));
    const writing = first.workshop.write(id);
    second.workshop.change(id, { sweepSettings: { ...of(second)!.sweepSettings, questions: 5 } });
    await writing;
    await vi.waitFor(() => expect(of(second)?.extraction).not.toBeNull());
    const third = await tab();
    await third.workshop.restore();
    expect(of(third)).toMatchObject({ complete: true, thresholds: { deviations: 2 }, sweepSettings: { questions: 5 } });
    expect(of(third)?.responses.length).toBeGreaterThan(0);
  });
});

describe("an answer that did not come to its end", () => {
  it("goes on where it met its limit, in place, as it was written", async () => {
    const { chat, engine, preferences } = await tab();
    preferences.choices.maxTokens = 5;
    await chat.ask("How was your weekend?");
    const before = answerText(shownRun(chat.conversation.turns[0]!)!.answers.steered);
    expect(shownRun(chat.conversation.turns[0]!)!.answers.steered.end).toBe("max-tokens");
    await chat.goOn();
    const turn = chat.conversation.turns[0]!;
    const after = shownRun(turn)!;
    expect(turn.runs).toHaveLength(1);
    expect((engine as MockEngine).requests[1]).toMatchObject({ maxTokens: 10, sampler: after.sampler });
    expect((engine as MockEngine).requests[1]!.columns.map(({ begun }) => begun?.ids.length)).toEqual([5, 5]);
    for (const column of ["unsteered", "steered"] as const) {
      expect(after.answers[column].tokens).toHaveLength(10);
      expect(after.answers[column].reread?.tokens).toBe(10);
    }
    expect(answerText(after.answers.steered).startsWith(before)).toBe(true);
    expect((await chat.store.get(chat.conversation.id))?.turns[0]?.runs[0]?.answers.steered.tokens).toHaveLength(10);
  });

  it("goes on under the plans that it had, whatever the sliders say now", async () => {
    const session = await tab(40);
    const { chat, engine } = session;
    session.preferences.choices.maxTokens = 12;
    session.moveSlider("cheerful", 2);
    const asked = chat.ask("How was your weekend?");
    await vi.waitFor(() => expect(chat.running?.phase.kind).toBe("writing"));
    session.moveSlider("cheerful", -1);
    chat.slidersMoved();
    await asked;
    const { segments } = shownRun(chat.conversation.turns[0]!)!.answers.steered;
    expect(segments).toHaveLength(2);
    session.moveSlider("cheerful", 3);
    await chat.goOn();
    const [, steered] = (engine as MockEngine).requests[1]!.columns;
    expect([steered?.plan, steered?.begun?.changes]).toEqual([segments[0]?.plan, segments.slice(1)]);
  });

  it("keeps what was added when a reload cuts it while it goes on, and is not offered to another model", async () => {
    const first = await tab(40);
    first.preferences.choices.maxTokens = 12;
    first.preferences.save();
    await first.chat.ask("How was your weekend?");
    const now = vi.spyOn(Date, "now").mockImplementation(() => performance.now() * 1000);
    const going = first.chat.goOn();
    const before = () => shownRun(first.chat.conversation.turns[0]!)!.answers.steered.tokens.length;
    await vi.waitFor(() => expect(before()).toBeGreaterThan(14));
    const { chat } = await tab();
    now.mockRestore();
    const cut = shownRun(chat.conversation.turns[0]!)!;
    expect(cut.answers.steered.end).toBe("cut");
    expect(cut.answers.steered.tokens.length).toBeGreaterThan(12);
    await first.chat.stop();
    await going;
    expect(chat.goesOn(cut)).toBe(true);
    expect(chat.goesOn({ ...cut, model: { ...cut.model, traits: [] } })).toBe(false);
  });

  it("says after a reload that it was cut, and goes on", async () => {
    const first = await tab(20);
    first.moveSlider("cheerful", 2);
    const asked = first.chat.ask("How was your weekend?");
    await vi.waitFor(() => expect(shownRun(first.chat.conversation.turns[0]!)?.answers.steered.tokens.length).toBeGreaterThan(3));
    const { chat } = await tab();
    expect(shownRun(chat.conversation.turns[0]!)!.answers.steered.end).toBe("cut");
    await first.chat.stop();
    await asked;
    await chat.goOn();
    const { steered } = shownRun(chat.conversation.turns[0]!)!.answers;
    expect(steered.end).toBe("end-token");
    expect(answerText(steered)).toMatch(/wonderful.*bright little moment!$/s);
  });
});
