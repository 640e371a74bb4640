import type { Plan, ReadingBlock } from "../engine/protocol.ts";

/** What the colours on the tokens stand for. */
export interface HeatView {
  /** A trait's name, or the model's surprise. */
  by: { kind: "trait"; trait: string } | { kind: "surprise" } | { kind: "nothing" };
  /** Row of the readings; null: the trait's recommended layer. */
  layer: number | null;
  /** Steered answers by what the steered run itself read, which includes the push. */
  insideRun: boolean;
}

/** Calibrated reading of one token, or null where it has none. */
export function readingAt(block: ReadingBlock | null, token: number, trait: number, layer: number): number | null {
  if (block === null || token >= block.tokens || trait < 0 || trait >= block.traits) return null;
  if (layer < 0 || layer >= block.layerRows) return null;
  const value = block.values[(token * block.traits + trait) * block.layerRows + layer];
  return value === undefined || Number.isNaN(value) ? null : value;
}

/** One token's readings of one trait through the layers. */
export function readingsThroughLayers(block: ReadingBlock | null, token: number, trait: number): (number | null)[] {
  if (block === null) return [];
  return Array.from({ length: block.layerRows }, (_, layer) => readingAt(block, token, trait, layer));
}

export function signed(value: number, digits = 1): string {
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return text;
  return value < 0 ? `−${text}` : `+${text}`;
}

/** A trait's name as people read it: the names of files and sliders have hyphens for spaces. */
export function spokenName(name: string): string {
  return name.replaceAll("-", " ");
}

/** A plan in a few words. */
export function planText(plan: Plan): string {
  if (plan.length === 0) return "no push";
  return plan.map(({ trait, operation }) => (operation.kind === "add" ? `${spokenName(trait)} ${signed(operation.coefficient)}` : `${spokenName(trait)}: ${operation.kind}`)).join(", ");
}

export function percent(logprob: number): string {
  const share = Math.exp(logprob) * 100;
  if (!Number.isFinite(share)) return "unknown";
  if (share >= 99.95) return "100 %";
  if (share >= 10) return `${share.toFixed(0)} %`;
  if (share >= 0.1) return `${share.toFixed(1)} %`;
  return "< 0.1 %";
}
