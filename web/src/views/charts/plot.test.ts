import { describe, expect, it } from "vitest";
import { csv, extent, keyRows } from "./plot.ts";

describe("a chart's numbers as a file", () => {
  it("keep all digits, leave gaps where there is no number, and quote what needs it", () => {
    const text = csv({ columns: ["layer", 'a "b", c'], rows: [[16, 0.123456789], [17, null], [18, Number.NaN]] });
    expect(text).toBe('layer,"a ""b"", c"\r\n16,0.123456789\r\n17,\r\n18,\r\n');
  });

  it("never begin a text like a formula", () => {
    expect(csv({ columns: ["q"], rows: [["=HYPERLINK(1)"], ["-1"]] })).toBe("q\r\n'=HYPERLINK(1)\r\n'-1\r\n");
  });
});

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
