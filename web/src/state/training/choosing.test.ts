import { describe, expect, it } from "vitest";
import type { Conversation, TraitReport } from "../../engine/protocol.ts";
import { chosenRows, contrastPairs, flaggedRows, notScreened } from "./choosing.ts";
import type { Dataset } from "./datasets.ts";

const rows: Conversation[] = Array.from({ length: 40 }, (_, at) => ({ messages: [{ role: "user", content: `Question ${String(at)}` }, { role: "assistant", content: "So." }] }));
const dataset: Dataset = { name: "data", title: "Data", sha256: "ab", rows, trait: null, opposite: false };
const numbers = (chosen: Conversation[]) => chosen.map((row) => rows.indexOf(row));

describe("rows that are trained on", () => {
  it("leave out what was flagged, and keep the file's order", () => {
    const chosen = chosenRows(dataset, { kind: "without-flagged", flagged: 2 }, 5, new Set([1, 3]));
    expect(numbers(chosen)).toEqual([0, 2, 4, 5, 6]);
  });

  it("leave out as many random ones, the same at every visit", () => {
    const once = numbers(chosenRows(dataset, { kind: "without-random", left: 10 }, 100, new Set()));
    expect(once).toHaveLength(30);
    expect(once).toEqual([...once].sort((a, b) => a - b));
    expect(numbers(chosenRows(dataset, { kind: "without-random", left: 10 }, 100, new Set()))).toEqual(once);
    // Not simply the first or the last ones.
    expect(once.slice(0, 10)).not.toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(once[0]).toBeLessThan(10);
  });
});

describe("a screen", () => {
  const found = (row: number) => ({ row, tokens: 3, given: [0] });

  it("goes on with the rows that it lacks", () => {
    expect(notScreened(dataset, { rows: [found(0), found(2)] }).map(({ row }) => row).slice(0, 3)).toEqual([1, 3, 4]);
  });

  it("flags rows above the threshold by their own numbers", () => {
    const screen = { rows: [found(4), found(7), found(9)] };
    expect([...flaggedRows(screen, Float32Array.of(0.5, 2, Number.NaN), 1)]).toEqual([7]);
    expect(flaggedRows(screen, Float32Array.of(3, 3, 3), null).size).toBe(0);
    expect(flaggedRows(null, null, 1).size).toBe(0);
  });
});

describe("answers that a vector is made anew of", () => {
  it("are spread over both sides, with the instruction that each was written under, and without broken ones", () => {
    const pack = { instructions: [{ positive: "Be glad.", negative: "Be sad." }], questions: { extraction: ["A?", "B?"], evaluation: [] } } as unknown as TraitReport["pack"];
    const response = (side: 1 | -1, question: number, coherence: "coherent" | "repetitive") => ({ pair: 0, side, question, text: `${String(side)} ${String(question)}`, tokens: 5, evidence: 1, witness: null, coherence });
    const responses = [response(1, 0, "coherent"), response(1, 1, "repetitive"), response(-1, 0, "coherent"), response(-1, 1, "coherent")];
    const pairs = contrastPairs({ pack, responses }, 1);
    expect(pairs.map(({ side }) => side)).toEqual([1, -1]);
    expect(pairs[0]?.messages).toEqual([{ role: "system", content: "Be glad." }, { role: "user", content: "A?" }, { role: "assistant", content: "1 0" }]);
    expect(contrastPairs({ pack, responses }, 9)).toHaveLength(3);
  });
});
