import { describe, expect, it } from "vitest";
import type { ColumnResult, ReadingBlock, Token } from "../../engine/protocol.ts";
import { finish, promptReading, rows } from "./answer.ts";
import { emptyAnswer } from "./conversation.ts";

const token = (id: number, part: Token["part"] = "response"): Token => ({ id, text: ` t${id}`, part, logprob: -id, alternatives: [] });
/** One trait, two layer rows, every value the token's number. */
const block = (...tokens: number[]): ReadingBlock => ({
  tokens: tokens.length,
  traits: 1,
  layerRows: 2,
  values: Float32Array.from(tokens.flatMap((value) => [value, value])),
});

describe("a finished run", () => {
  const result: ColumnResult = {
    column: "unsteered",
    text: " t7 t8",
    tokens: [token(1, "template"), token(2, "prompt"), token(3, "template"), token(4, "prompt"), token(5, "prompt"), token(6, "template"), token(7), token(8)],
    answerStart: 6,
    inRun: block(1, 2, 3, 4, 5, 6, 7, 8),
    reread: block(11, 12, 13, 14, 15, 16, 17, 18),
    rereadLogprob: Float32Array.from([Number.NaN, -2, -3, -4, -5, -6, -7, -8]),
    segments: [
      { fromToken: 0, plan: [] },
      { fromToken: 7, plan: [{ trait: "poetic", operation: { kind: "ablate" }, scope: "all" }] },
    ],
  };

  it("gives the answer its own rows", () => {
    const answer = finish(emptyAnswer([]), result);
    expect(answer.tokens.map(({ id }) => id)).toEqual([7, 8]);
    expect(Array.from(answer.inRun?.values ?? [])).toEqual([7, 7, 8, 8]);
    expect(Array.from(answer.reread?.values ?? [])).toEqual([17, 17, 18, 18]);
    expect(Array.from(answer.rereadLogprob ?? [])).toEqual([-7, -8]);
  });

  it("counts segments from the answer's first token", () => {
    expect(finish(emptyAnswer([]), result).segments.map(({ fromToken, plan }) => [fromToken, plan.length])).toEqual([
      [0, 0],
      [1, 1],
    ]);
  });

  it("knows of a slider that moved while the prompt was read", () => {
    const moved = { ...result, segments: [{ fromToken: 0, plan: [] }, { fromToken: 4, plan: result.segments[1]?.plan ?? [] }] };
    expect(finish(emptyAnswer([]), moved).segments.map(({ fromToken, plan }) => [fromToken, plan.length])).toEqual([
      [-6, 0],
      [-2, 1],
    ]);
  });

  it("holds no memory of the rows that were left out", () => {
    expect(rows(result.inRun, 6, 8).values.buffer.byteLength).toBe(16);
  });

  it("finds the last user message", () => {
    const prompt = promptReading(result);
    expect(prompt?.tokens.map(({ id }) => id)).toEqual([4, 5]);
    expect(Array.from(prompt?.block.values ?? [])).toEqual([4, 4, 5, 5]);
  });
});
