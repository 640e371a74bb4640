import { describe, expect, it } from "vitest";
import type { ReadingBlock } from "../../engine/protocol.ts";
import { readingAt, readingsThroughLayers } from "./heat_view.ts";

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
