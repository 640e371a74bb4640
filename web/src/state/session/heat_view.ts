import type { ReadingBlock } from "../../engine/protocol.ts";

/** The number that tokens are coloured by. */
export interface HeatView {
  /** A trait's name, or the model's surprise. */
  by: { kind: "trait"; trait: string } | { kind: "surprise" } | { kind: "nothing" };
  /** The layer of the readings; null for the trait's recommended one. */
  layer: number | null;
  /** True to colour steered answers by what the steered run itself read, the push included. */
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
