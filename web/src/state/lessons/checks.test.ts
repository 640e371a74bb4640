import { describe, expect, it, vi } from "vitest";
import type { Plan } from "../../engine/protocol.ts";
import { MockEngine, mockTraits } from "../../fixtures/mock_engine.ts";
import { emptyAnswer, newConversation, type Run } from "../conversation/conversation.ts";
import { Session } from "../session/session.svelte.ts";
import { isMet, type ObservedPage } from "./checks.ts";
import type { SetUp } from "./lesson.ts";
import { setUpPage } from "./set_up.ts";

const plan = (coefficients: Record<string, number>): Plan => Object.entries(coefficients).map(([trait, coefficient]) => ({ trait, operation: { kind: "add", coefficient }, scope: "all" }));

const run = (id: string, push: Record<string, number>, end: "end-token" | "failed" | null = "end-token"): Run => ({
  id,
  after: [],
  sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 },
  maxTokens: 1,
  model: { name: "m", sha256: "", backend: "cpu", precision: "exact", traits: [] },
  answers: { unsteered: emptyAnswer([]), steered: { ...emptyAnswer(plan(push)), end } },
  prompt: null,
});

const nothingBefore: ObservedPage["start"] = { runs: new Set(), layer: null, traits: new Set(), trained: new Set(), measured: new Set() };
const page = (runs: Run[], change: Partial<ObservedPage> = {}): ObservedPage => ({
  conversation: { ...newConversation(""), turns: runs.length === 0 ? [] : [{ id: "t", user: "?", runs, shown: runs.length - 1 }] },
  coefficient: () => 0,
  view: { by: { kind: "nothing" }, layer: null, insideRun: false },
  traits: [],
  cards: new Set(),
  start: nothingBefore,
  screened: false,
  trained: [],
  ...change,
});

const answered = (push: Record<string, number>) => ({ kind: "answered", push: new Map(Object.entries(push)) }) as const;

describe("an answer", () => {
  it.each<[number, number, boolean]>([
    [2, 2, true],
    [2, 2.5, true],
    [2, 1.9, false],
    [-2, -2, true],
    [-2, -3, true],
    [-2, 2, false],
    [0, 0, true],
    [0, 0.1, false],
  ])("pushed at least %s: %s", (wanted, was, met) => {
    expect(isMet(answered({ cheerful: wanted }), page([run("a", { cheerful: was })]))).toBe(met);
  });

  it.each<["end of band" | "beyond band", number, boolean]>([
    ["end of band", 2.9, true],
    ["end of band", 2.7, false],
    ["beyond band", 2.9, false],
    ["beyond band", 4.4, true],
  ])("pushed to the %s of the vector that is here: %s", (wanted, was, met) => {
    const [cheerful] = mockTraits.map((trait) => ({ ...trait, recommended: { layers: [16], min: -2.91, max: 2.91 } }));
    const check = { kind: "answered", push: new Map([["cheerful", wanted]]) } as const;
    expect(isMet(check, page([run("a", { cheerful: was })], cheerful === undefined ? {} : { traits: [cheerful] }))).toBe(met);
    expect(isMet(check, page([run("a", { cheerful: was })]))).toBe(false);
  });

  it("does not count while it is written, where it broke off, or from before the step", () => {
    expect(isMet(answered({ cheerful: 1 }), page([run("a", { cheerful: 1 }, null)]))).toBe(false);
    expect(isMet(answered({ cheerful: 1 }), page([run("a", { cheerful: 1 }, "failed")]))).toBe(false);
    const before = { ...nothingBefore, runs: new Set(["a"]) };
    expect(isMet(answered({ cheerful: 1 }), page([run("a", { cheerful: 1 })], { start: before }))).toBe(false);
    expect(isMet(answered({}), page([run("b", {})], { start: before }))).toBe(true);
  });

  it("with both signs takes two answers to one question", () => {
    const both = { kind: "both-signs", trait: "cheerful" } as const;
    expect(isMet(both, page([run("a", { cheerful: 1 })]))).toBe(false);
    expect(isMet(both, page([run("a", { cheerful: 1 }), run("b", { cheerful: -1 })]))).toBe(true);
  });
});

describe("a trait", () => {
  it("is new when it was not there when the lesson was opened, and no control", () => {
    const trait = (name: string) => ({ name, opposite: "", description: "", hash: "", made: "", recommended: { layers: [1], min: -1, max: 1 }, tested: true, dosePerUnit: new Float32Array(1) });
    const start = { ...nothingBefore, traits: new Set(["cheerful"]) };
    expect(isMet({ kind: "new-trait" }, page([], { start, traits: [trait("cheerful"), trait("random 1 (cheerful)")] }))).toBe(false);
    expect(isMet({ kind: "new-trait" }, page([], { start, traits: [trait("cheerful"), trait("pirate")] }))).toBe(true);
  });
});

describe("a step's link", () => {
  const setUp: SetUp = { ask: null, system: "", push: new Map(), colourBy: null, layer: null, insideRun: false, control: null, temperature: 0, seed: 1, length: 48, link: "AAAABBBB" };
  const recipe = (own: boolean) => ({
    model: { name: "m", sha256: "" },
    precision: "fast" as const,
    traits: [{ name: "cheerful", hash: own ? null : "cheerful-hash", inline: own ? { opposite: "", description: "", made: "", layers: [1], min: -1, max: 1 } : null }],
    messages: [
      { role: "system" as const, text: "Be brief.", tokens: null, run: null },
      { role: "user" as const, text: "From a link?", tokens: null, run: null },
      {
        role: "assistant" as const,
        text: "Yes.",
        tokens: null,
        run: { sampler: { temperature: 0.5, topK: 0, topP: 1, repetitionPenalty: 1, seed: 7 }, maxTokens: 9, plan: plan({ cheerful: 1.5 }).map((term) => ({ ...term, layers: [16] })), changes: [], end: "max-tokens" as const },
      },
    ],
    look: { trait: "cheerful", layer: 12, token: null, insideRun: false, title: "", note: "" },
  });

  async function loaded(own: boolean) {
    const engine = new MockEngine({ tokenMs: 0, loadMs: 0 });
    const opening = { openLink: async () => ({ kind: "recipe" as const, recipe: recipe(own) }) };
    const session = new Session(Object.assign(engine, opening));
    await session.model.readCatalogue();
    await session.loadAgain();
    return { session, engine };
  }

  it("brings its question, instructions, push and settings", async () => {
    const { session, engine } = await loaded(false);
    await setUpPage(session, setUp, "T");
    expect(session.sliders.coefficient("cheerful")).toBe(1.5);
    expect(session.view).toMatchObject({ by: { kind: "trait", trait: "cheerful" }, layer: 12 });
    await vi.waitFor(() => expect(engine.requests).toHaveLength(1));
    expect(engine.requests[0]).toMatchObject({ maxTokens: 9, sampler: { seed: 7, temperature: 0.5 }, columns: [{ messages: [{ content: "Be brief." }, { content: "From a link?" }] }, {}] });
  });

  it("with a trait of its own is sent to the page Play, and changes nothing here", async () => {
    const { session, engine } = await loaded(true);
    await expect(setUpPage(session, setUp, "T")).rejects.toThrow(/trait of its own/);
    expect(engine.requests).toEqual([]);
  });
});

describe("training", () => {
  it("counts what was done since the step began", () => {
    const trained = [{ id: "old", method: "plain", measured: true }, { id: "new", method: "vaccine", measured: false }];
    const start = { ...nothingBefore, trained: new Set(["old"]), measured: new Set(["old"]) };
    const seen = page([], { start, trained });
    expect(isMet({ kind: "trained", method: "plain" }, seen)).toBe(false);
    expect(isMet({ kind: "trained", method: "vaccine" }, seen)).toBe(true);
    expect(isMet({ kind: "trained", method: "any" }, seen)).toBe(true);
    expect(isMet({ kind: "measured" }, seen)).toBe(false);
    expect(isMet({ kind: "measured" }, page([], { start, trained: trained.map((one) => ({ ...one, measured: true })) }))).toBe(true);
    expect(isMet({ kind: "screened" }, seen)).toBe(false);
    expect(isMet({ kind: "screened" }, page([], { screened: true }))).toBe(true);
  });
});
