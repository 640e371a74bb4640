import { describe, expect, it } from "vitest";
import { parseFigures } from "./measured.ts";

describe("kept speeds", () => {
  it("are forgotten where they are not fit to choose by", () => {
    for (const broken of ["", "[", "3", "null"]) expect(parseFigures(broken)).toEqual({});
    const figures = { a: { gpu: 3, cpu: 4 }, b: { gpu: -1, cpu: 4 }, c: { gpu: 2 }, d: null, e: { gpu: "3", cpu: 4 }, f: 7, g: { gpu: 3, cpu: 4, variant: 5 }, h: { gpu: 3, cpu: 4, variant: "merged narrow float, shared" } };
    expect(parseFigures(JSON.stringify(figures))).toEqual({ a: figures.a, h: figures.h });
  });

  it("are those of the last devices", () => {
    const many = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`adapter ${String(index)}`, { gpu: 1, cpu: 2 }]));
    expect(Object.keys(parseFigures(JSON.stringify(many)))).toHaveLength(20);
  });
});
