/** What charts are made of. Numbers arrive from the engine; here they only become places, marks and words. */

import { symbolCircle, symbolDiamond, symbolSquare, symbolTriangle, symbolCross, symbolStar, type SymbolType } from "d3-shape";

export interface Point {
  x: number;
  y: number;
  /** Ends of an interval around `y`. */
  low?: number;
  high?: number;
  /** Drawn hollow: what it stands for is in the chart's key. */
  open?: boolean;
  /** What a pointer finds out about it. */
  label?: string;
}

export interface Series {
  name: string;
  points: Point[];
  /** Marks alone, not joined. */
  loose?: boolean;
}

/** A chart's numbers, for the table, the CSV file and whoever cannot see the chart. */
export interface Table {
  columns: string[];
  rows: (string | number | null)[][];
}

/** After Okabe and Ito, darkened or lightened to 3 : 1 on the page; every series has a shape of its own as well. */
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
/** After the last colour the first comes again with another shape. */
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

/** RFC 4180; what a spreadsheet would run as a formula is quoted as text. */
export function csv({ columns, rows }: Table): string {
  const cell = (value: string | number | null) => {
    if (value === null) return "";
    if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [columns, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
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
