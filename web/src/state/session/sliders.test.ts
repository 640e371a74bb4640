import { describe, expect, it } from "vitest";
import { mockTraits } from "../../fixtures/mock_engine.ts";
import { relativeDose, sliderReach, Sliders } from "./sliders.svelte.ts";

const cheerful = mockTraits[0]!;

describe("sliders", () => {
  it("make a term for every slider that is not at 0", () => {
    const sliders = new Sliders();
    sliders.set("cheerful", 1.5);
    sliders.set("poetic", 0);
    expect(sliders.plan(mockTraits, [], "response")).toEqual([{ trait: "cheerful", operation: { kind: "add", coefficient: 1.5 }, scope: "response" }]);
    sliders.reset();
    expect(sliders.plan(mockTraits, [], "all")).toEqual([]);
  });

  it("go where a plan had them", () => {
    const sliders = new Sliders();
    sliders.set("poetic", 1);
    sliders.show([{ trait: "cheerful", operation: { kind: "add", coefficient: -1 }, scope: "all" }]);
    expect([sliders.coefficient("cheerful"), sliders.coefficient("poetic")]).toEqual([-1, 0]);
  });

  it("take any name for a name", () => {
    const sliders = new Sliders();
    const named = mockTraits.map((trait, at) => ({ ...trait, name: ["toString", "__proto__", "hasOwnProperty"][at] ?? "" }));
    expect(named.map(({ name }) => sliders.coefficient(name))).toEqual([0, 0, 0]);
    expect(sliders.plan(named, [], "all")).toEqual([]);
    sliders.set("__proto__", 1);
    expect(sliders.plan(named, [], "all").map(({ trait }) => trait)).toEqual(["__proto__"]);
  });

  it("reach past the recommended range on both sides", () => {
    expect(sliderReach({ min: -2, max: 2 })).toEqual({ min: -3, max: 3 });
    expect(sliderReach({ min: 0, max: 1.2 })).toEqual({ min: -2, max: 2 });
  });

  it("know their relative dose, summed over layers", () => {
    expect(relativeDose(cheerful, 2)).toBeCloseTo(0.18, 5);
    expect(relativeDose({ ...cheerful, recommended: { ...cheerful.recommended, layers: [15, 16] } }, 2)).toBeCloseTo(0.36, 5);
  });
});
