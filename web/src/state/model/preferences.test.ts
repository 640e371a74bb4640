import { describe, expect, it } from "vitest";
import { defaults, parseChoices } from "./preferences.svelte.ts";

describe("stored choices", () => {
  it("come back as they were", () => {
    const choices = { ...defaults, theme: "dark" as const, maxTokens: 33, sampler: { ...defaults.sampler, temperature: 1.5 } };
    expect(parseChoices(JSON.stringify(choices))).toEqual(choices);
  });

  it.each(["", "null", "[]", "{", '"text"', '{"sampler":7,"theme":"<b>"}', "x".repeat(200_000)])("become the defaults where they are unfit: %.30s", (text) => {
    expect(parseChoices(text)).toEqual(defaults);
  });

  it("stay within bounds", () => {
    const { sampler, maxTokens, context } = parseChoices('{"sampler":{"temperature":99,"topP":-1,"seed":-5,"topK":2.6},"maxTokens":1e9,"context":1}');
    expect(sampler).toEqual({ ...defaults.sampler, temperature: 2, topP: 0.01, seed: 0, topK: 3 });
    expect(maxTokens).toBe(2000);
    expect(context).toBe(128);
  });
});
