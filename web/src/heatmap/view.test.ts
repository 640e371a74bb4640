import { describe, expect, it } from "vitest";
import type { ReadingBlock } from "../engine/protocol.ts";
import { percent, planText, readingAt, readingsThroughLayers, signed } from "./view.ts";

/** Value = token · 100 + trait · 10 + layer. */
const block: ReadingBlock = {
  tokens: 2,
  traits: 3,
  layerRows: 4,
  values: Float32Array.from({ length: 24 }, (_, i) => Math.floor(i / 12) * 100 + (Math.floor(i / 4) % 3) * 10 + (i % 4)),
};

describe("readings", () => {
  it("are found by token, trait and layer", () => {
    expect(readingAt(block, 1, 2, 3)).toBe(123);
    expect(readingAt(block, 0, 1, 0)).toBe(10);
    expect(readingsThroughLayers(block, 1, 1)).toEqual([110, 111, 112, 113]);
  });

  it("are null outside the block, where there is none, and without a block", () => {
    expect(readingAt(block, 2, 0, 0)).toBeNull();
    expect(readingAt(block, 0, 3, 0)).toBeNull();
    expect(readingAt(block, 0, 0, 4)).toBeNull();
    expect(readingAt(block, 0, -1, 0)).toBeNull();
    expect(readingAt(null, 0, 0, 0)).toBeNull();
    expect(readingAt({ ...block, values: block.values.map(() => Number.NaN) }, 0, 0, 0)).toBeNull();
  });
});

describe("numbers as people read them", () => {
  it("have a sign, and none at 0", () => {
    expect([signed(1.25), signed(-0.5), signed(0), signed(-0.04)]).toEqual(["+1.3", "−0.5", "0.0", "0.0"]);
  });

  it("are shares of 100", () => {
    expect([0, Math.log(0.5), Math.log(0.034), -20, Number.NaN].map(percent)).toEqual(["100 %", "50 %", "3.4 %", "< 0.1 %", "unknown"]);
  });

  it("name a plan", () => {
    expect(planText([])).toBe("no push");
    expect(
      planText([
        { trait: "cheerful", operation: { kind: "add", coefficient: 2 }, scope: "all" },
        { trait: "poetic", operation: { kind: "ablate" }, scope: "all" },
      ]),
    ).toBe("cheerful +2.0, poetic: ablate");
  });
});
