import { afterEach, describe, expect, it, vi } from "vitest";
import type { ReadingBlock, Token } from "../../engine/protocol.ts";
import { emptyAnswer, givenRun } from "./conversation.ts";
import { compact, GrowingAnswer, joined } from "./growing_answer.ts";

const token = (id: number): Token => ({ id, text: ` t${id}`, part: "response", logprob: -id, alternatives: [] });
/** One trait, two layer rows, every value the token's number. */
const block = (...tokens: number[]): ReadingBlock => ({ tokens: tokens.length, traits: 1, layerRows: 2, values: Float32Array.from(tokens.flatMap((value) => [value, value])) });
const plan = (coefficient: number) => [{ trait: "cheerful", operation: { kind: "add" as const, coefficient }, scope: "all" as const }];

/** An answer of tokens 1 to `count` with all their readings. */
function written(count: number, readings = block): GrowingAnswer {
  const growing = new GrowingAnswer(emptyAnswer([]));
  for (let id = 1; id <= count; id += 1) {
    growing.take({ kind: "token", column: 0, token: token(id) });
    growing.take({ kind: "readings", column: 0, from: id - 1, block: readings(id) });
  }
  return growing;
}

afterEach(() => vi.restoreAllMocks());

describe("an answer that grows", () => {
  it("takes tokens and readings in their order, readings later than tokens", () => {
    const growing = new GrowingAnswer(emptyAnswer([]));
    growing.take({ kind: "token", column: 0, token: token(1) });
    growing.take({ kind: "token", column: 0, token: token(2) });
    growing.take({ kind: "readings", column: 0, from: 0, block: block(1) });
    growing.take({ kind: "readings", column: 0, from: 1, block: block(2) });
    const { tokens, inRun } = growing.answer;
    expect(tokens.map(({ id }) => id)).toEqual([1, 2]);
    expect(Array.from(inRun?.values ?? [])).toEqual([1, 1, 2, 2]);
  });

  it("leaves NaN where readings are missing", () => {
    const growing = written(2);
    growing.take({ kind: "readings", column: 0, from: 4, block: block(5) });
    expect(Array.from(growing.answer.inRun?.values ?? [])).toEqual([1, 1, 2, 2, Number.NaN, Number.NaN, Number.NaN, Number.NaN, 5, 5]);
  });

  it("keeps the last of two segments before the same token", () => {
    const growing = new GrowingAnswer(emptyAnswer(plan(1)));
    growing.take({ kind: "segment", column: 0, fromToken: 4, plan: plan(2) });
    growing.take({ kind: "segment", column: 0, fromToken: 4, plan: plan(3) });
    expect(growing.answer.segments).toEqual([
      { fromToken: 0, plan: plan(1) },
      { fromToken: 4, plan: plan(3) },
    ]);
  });

  it("copies no more than twice what it holds, and the list of tokens not at all", () => {
    const typed = Object.getPrototypeOf(Float32Array.prototype) as Float32Array;
    const set = vi.spyOn(typed, "set");
    const slice = vi.spyOn(typed, "slice");
    /** 14 traits at 31 layers, as the default model reads them. */
    const wide = (id: number): ReadingBlock => ({ tokens: 1, traits: 14, layerRows: 31, values: new Float32Array(14 * 31).fill(id) });
    const growing = written(1000, wide);
    const { tokens } = growing.answer;
    for (let id = 1001; id <= 2000; id += 1) {
      growing.take({ kind: "token", column: 0, token: token(id) });
      growing.take({ kind: "readings", column: 0, from: id - 1, block: wide(id) });
      expect(growing.answer.tokens).toBe(tokens);
    }
    const held = 2000 * 14 * 31;
    const copied = set.mock.calls.reduce((sum, [from]) => sum + from.length, 0);
    expect(growing.answer.inRun?.values).toHaveLength(held);
    // Every value once when it arrives, and fewer than twice all of them when memory doubles.
    expect(copied).toBeLessThanOrEqual(3 * held);
    expect(slice).not.toHaveBeenCalled();
  });
});

describe("parts of an answer", () => {
  it("hold what was added alone, and make the answer again", () => {
    const begun = givenRun([]);
    const run = { ...begun, answers: { unsteered: emptyAnswer([]), steered: emptyAnswer(plan(1)) } };
    const growing = written(5);
    const first = growing.partAfter("unsteered", 0, 0);
    growing.take({ kind: "token", column: 0, token: token(6) });
    growing.take({ kind: "segment", column: 0, fromToken: 6, plan: plan(2) });
    const second = growing.partAfter("unsteered", 5, 5);
    growing.take({ kind: "readings", column: 0, from: 5, block: block(6) });
    growing.take({ kind: "end", column: 0, reason: "end-token", tokensPerSecond: 9 });
    const third = growing.partAfter("unsteered", 6, 5);
    expect([second.added.tokens.length, second.added.inRun?.tokens]).toEqual([1, 0]);
    expect([third.added.tokens.length, third.added.inRun?.values.buffer.byteLength]).toEqual([0, 8]);

    expect(joined(run, [first, second, third]).answers).toEqual({ unsteered: growing.answer, steered: run.answers.steered });
    // A part went missing, or is older than the answer: what comes after it has no place.
    expect(joined(run, [first, third]).answers.unsteered.tokens).toHaveLength(5);
    const whole = joined(run, [first, second, third]);
    expect(joined(whole, [growing.partAfter("unsteered", 6, 6)]).answers.unsteered.end).toBe("end-token");
  });

  it("leave no room to grow in what storage keeps", () => {
    const run = { ...givenRun([]), answers: { unsteered: written(5).answer, steered: emptyAnswer([]) } };
    expect(run.answers.unsteered.inRun?.values.buffer.byteLength).toBeGreaterThan(40);
    const kept = compact(run);
    expect(kept.answers.unsteered.inRun?.values.buffer.byteLength).toBe(40);
    expect(kept).toEqual(run);
    expect(compact(kept)).toBe(kept);
  });
});
