import { describe, expect, it, vi } from "vitest";
import { type Cell, GrowingCells } from "./cells.ts";

describe("cells of a text that grows", () => {
  const cellOf = vi.fn((text: string, index: number): Cell | null => (text === "" ? null : { index, text, colour: undefined, label: text }));

  it("are made once for each token, and again while their reading is missing", () => {
    const growing = new GrowingCells();
    const tokens: string[] = [];
    let before: Cell[] = [];
    for (let count = 1; count <= 1000; count += 1) {
      // Some tokens end inside a character and have no text.
      tokens.push(count % 10 === 0 ? "" : `t${String(count)}`);
      const cells = growing.of(tokens, Math.max(count - 2, 0), ["cheerful"], cellOf);
      expect(cells.slice(0, Math.max(before.length - 3, 0)).every((cell, at) => cell === before[at])).toBe(true);
      before = cells;
    }
    expect(before.map(({ text }) => text)).toEqual(tokens.filter((text) => text !== ""));
    expect(cellOf.mock.calls.length).toBeLessThanOrEqual(3 * tokens.length);
  });

  it("are all made again when what they show is chosen anew", () => {
    const growing = new GrowingCells();
    const tokens = ["a", "b", "c"];
    const first = growing.of(tokens, 3, ["cheerful"], cellOf);
    expect(growing.of(tokens, 3, ["cheerful"], cellOf)).toEqual(first);
    const other = growing.of(tokens, 3, ["poetic"], cellOf);
    expect(other.some((cell) => first.includes(cell))).toBe(false);
    expect(growing.of(["a"], 1, ["poetic"], cellOf)).toHaveLength(1);
  });
});
