/** Parts of charts. Numbers arrive from the engine; here they only become places, marks and words. */

import { symbolCircle, symbolDiamond, symbolSquare, symbolTriangle, symbolCross, symbolStar, type SymbolType } from "d3-shape";

export interface Point {
  x: number;
  y: number;
  /** Ends of an interval around `y`. */
  low?: number;
  high?: number;
  /** True for a hollow mark; the chart's key says what that stands for. */
  open?: boolean;
  /** Text that a pointer shows. */
  label?: string;
}

export interface Series {
  name: string;
  points: Point[];
  /** True for marks that no line joins. */
  loose?: boolean;
}

/** A chart's numbers, for the table, the CSV file and readers who cannot see the chart. */
export interface Table {
  columns: string[];
  rows: (string | number | null)[][];
}

/** Colours after Okabe and Ito, darkened or lightened to 3 : 1 on the page; every series has a shape of its own as well. */
const colours = [
  "light-dark(#0072b2, #62b8ea)",
  "light-dark(#c75800, #f29b5b)",
  "light-dark(#007a5a, #35c49b)",
  "light-dark(#9b4278, #e09ac4)",
  "light-dark(#4d4d4d, #c9c9c9)",
  "light-dark(#7d6400, #e0c24a)",
] as const;
const shapes: readonly SymbolType[] = [symbolCircle, symbolSquare, symbolTriangle, symbolDiamond, symbolCross, symbolStar];

export const colourOf = (series: number): string => colours[series % colours.length] ?? colours[0];
/** Shape of a series: after the last colour the first comes again with another shape. */
export const shapeOf = (series: number): SymbolType => shapes[(series + Math.floor(series / colours.length)) % shapes.length] ?? symbolCircle;

/** Smallest and largest of what can be drawn, `always` included; a little air when all are equal. */
export function extent(values: Iterable<number | undefined>, always: readonly number[] = []): [low: number, high: number] {
  let low = Infinity;
  let high = -Infinity;
  for (const value of [...values, ...always]) {
    if (value === undefined || !Number.isFinite(value)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return [0, 1];
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** Rows of a key that fit the width, each entry with where it begins; letters are taken as `0.56 em` wide. */
export function keyRows(names: readonly string[], width: number): { name: string; x: number; row: number }[] {
  let x = 0;
  let row = 0;
  return names.map((name) => {
    const needs = 24 + name.length * 6.8;
    if (x > 0 && x + needs > width) {
      x = 0;
      row += 1;
    }
    const entry = { name, x, row };
    x += needs;
    return entry;
  });
}
