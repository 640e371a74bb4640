import { expect, test } from "vitest";
import { parseTraitReport } from "./trait_report.ts";

const written = {
  pack: { name: "calm", opposite: "restless", description: "", instructions: [], questions: { extraction: [], evaluation: [] }, licence: "CC0-1.0" },
  made: "by hand",
  settings: { pairs: 3, questions: 20, maxTokens: 40, temperature: 0.8, seed: 1 },
  responses: [],
  extraction: { kept: ["kept"], keptPositive: 1, keptNegative: 0, witnessAuc: null, auc: [{ name: "response_avg", values: [null, 0.5], low: [null, 0.25], high: [null, 0.75] }], norms: [], cosines: [] },
  sweep: { rows: [{ layers: [16], allLayers: false, dose: 0.1, coefficient: 1, evidence: null, low: null, high: null, answers: 8, incoherent: 1, perplexity: 3.5, kl: null, distinct2: 1, texts: [] }], neutral: 0, recommended: null, sentence: "", caveats: [] },
  controls: null,
  prediction: { layer: 16, points: [], pooled: { r: 0.5, low: 0.25, high: 0.75 }, within: { r: null, low: null, high: null }, sentence: "", caveats: [] },
};

test("what is not known is NaN, and curves are typed arrays", () => {
  const report = parseTraitReport(JSON.stringify(written));
  expect(report.extraction.witnessAuc).toBeNaN();
  const [auc] = report.extraction.auc;
  expect(auc?.values).toEqual(Float32Array.of(NaN, 0.5));
  expect(auc?.low).toEqual(Float32Array.of(NaN, 0.25));
  const [row] = report.sweep?.rows ?? [];
  expect(row).toMatchObject({ evidence: NaN, kl: NaN, perplexity: 3.5, dose: 0.1 });
  expect(report.controls).toBeNull();
  expect(report.prediction?.pooled.r).toBe(0.5);
  expect(report.prediction?.within.r).toBeNaN();
});
