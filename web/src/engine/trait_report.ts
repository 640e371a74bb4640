/** Reads the report about a ready-made trait from the file beside its vector, which `crates/persona/src/trait_report.rs` wrote. */
import type { LayerCurve, TraitReport } from "./traits_protocol.ts";

/** NaN for null: JSON has no NaN. */
type Numbers<T> = { [K in keyof T]: T[K] extends number ? number | null : T[K] };

interface WrittenCurve {
  name: string;
  values: (number | null)[];
  low?: (number | null)[];
  high?: (number | null)[];
}

const known = (value: number | null): number => value ?? NaN;

function curve({ name, values, low, high }: WrittenCurve): LayerCurve {
  const numbers = (written: (number | null)[]) => Float32Array.from(written, known);
  return { name, values: numbers(values), ...(low && { low: numbers(low) }), ...(high && { high: numbers(high) }) };
}

/** The object with NaN for null in `fields`. */
function withNaN<T extends object, K extends keyof T>(row: Numbers<T>, fields: readonly K[]): T {
  const known = { ...row } as T;
  for (const field of fields) if (known[field] === null) known[field] = NaN as T[K];
  return known;
}

const EFFECT = ["evidence", "low", "high"] as const;

/** The file was checked by its hash: it is what this project's program wrote. */
export function parseTraitReport(json: string): TraitReport {
  const report = JSON.parse(json) as TraitReport;
  const { extraction, sweep, controls, prediction } = report;
  const curves = (written: unknown) => (written as WrittenCurve[]).map(curve);
  return {
    ...report,
    extraction: {
      ...withNaN(extraction, ["witnessAuc"]),
      auc: curves(extraction.auc),
      norms: curves(extraction.norms),
      cosines: curves(extraction.cosines),
    },
    sweep: sweep && { ...sweep, rows: sweep.rows.map((row) => withNaN(row, [...EFFECT, "perplexity", "kl"])) },
    controls: controls && { ...controls, rows: controls.rows.map((row) => withNaN(row, EFFECT)) },
    prediction: prediction && { ...prediction, pooled: withNaN(prediction.pooled, ["r", "low", "high"]), within: withNaN(prediction.within, ["r", "low", "high"]) },
  };
}
