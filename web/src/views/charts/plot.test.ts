import { describe, expect, it } from "vitest";
import { extent, keyRows } from "./plot.ts";

describe("a chart", () => {
  it("spans what can be drawn, and something where nothing can", () => {
    expect(extent([3, Number.NaN, undefined, -1], [0])).toEqual([-1, 3]);
    expect(extent([])).toEqual([0, 1]);
    expect(extent([2, 2])).toEqual([1.5, 2.5]);
  });

  it("breaks its key into rows that fit", () => {
    const rows = keyRows(["layer 13", "layer 16", "layer 19"], 170);
    expect(rows.map(({ row }) => row)).toEqual([0, 0, 1]);
    expect(rows[2]?.x).toBe(0);
  });
});
