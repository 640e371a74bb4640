import { describe, expect, it } from "vitest";
import { readFileSync } from "node:fs";
import { hubModels } from "./hub_models.ts";
import { largerModel } from "./larger_model.ts";

describe("a larger model", () => {
  it("is the smallest that is much larger, and as much slower as it has more numbers", () => {
    const next = largerModel({ parameters: 135e6 }, 40);
    expect(next?.title).toBe("Qwen2.5 0.5B");
    expect(next?.tokensPerSecond).toBeCloseTo(40 * (135 / 500));
    expect(largerModel({ parameters: 494e6 }, 12)?.title).toBe("Qwen2.5 1.5B");
  });

  it("is not offered where there is none, or where nothing was measured", () => {
    expect(largerModel({ parameters: 1.5e9 }, 4)).toBeNull();
    for (const speed of [0, -1, Number.NaN]) expect(largerModel({ parameters: 135e6 }, speed)).toBeNull();
    expect(largerModel({ parameters: 0 }, 40)).toBeNull();
  });

  it("is found among the models that people choose, each with its source and licence", () => {
    const catalogue = JSON.parse(readFileSync("../models/catalog.json", "utf8")) as { models: { name: string }[] };
    const names = [...catalogue.models.map(({ name }) => name), ...hubModels.map(({ title }) => title)];
    const wanted = [/SmolLM2.135M/, /SmolLM2 360M/, /Qwen2.5 0.5B/, /Qwen2.5 1.5B/, /Llama 3.2 1B/, /Gemma 3 270M/, /Gemma 3 1B/, /Qwen3 0.6B/];
    for (const name of wanted) expect(names.filter((one) => name.test(one))).toHaveLength(1);
    for (const { name, licence, note, parameters } of hubModels) {
      expect(name).toMatch(/^[\w.-]+\/[\w.-]+$/);
      expect(licence.length * note.length).toBeGreaterThan(0);
      expect(parameters).toBeGreaterThan(1e8);
    }
    // Lengths and hashes come from the hub itself.
    expect(hubModels.flatMap((one) => Object.keys(one)).filter((key) => /bytes|sha256/.test(key))).toEqual([]);
  });
});
