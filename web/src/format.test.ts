import { describe, expect, it } from "vitest";
import { planText, probability, short, signed } from "./format.ts";

describe("numbers as people read them", () => {
  it("have the digits that matter and a true minus", () => {
    expect([short(-0.123), short(12.34), short(1234.5), short(-0.001), short(null)]).toEqual(["−0.12", "12.3", "1235", "0.00", "–"]);
  });

  it("have a sign, and none at 0", () => {
    expect([signed(1.25), signed(-0.5), signed(0), signed(-0.04)]).toEqual(["+1.3", "−0.5", "0.0", "0.0"]);
  });

  it("are shares of 100", () => {
    expect([0, Math.log(0.5), Math.log(0.034), -20, Number.NaN].map(probability)).toEqual(["100 %", "50 %", "3.4 %", "< 0.1 %", "unknown"]);
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
