/** A run of training and the adapter that comes of it: what storage keeps. */

import type { Conversation, Plan, ShiftReport, Trained, TrainPenalty, TrainSettings, VectorMove } from "../../engine/protocol.ts";
import { signed, spokenName } from "../../format.ts";
import type { StoredRecord } from "../storage/records.ts";

/** What happened in a run so far. */
export type TrainHistory = Pick<Trained, "steps" | "heldOut" | "arrivals">;

/** What is done against a trait while the model learns. */
export type Method =
  | { kind: "plain" }
  /** The vector is added during training, and gone afterwards. */
  | { kind: "vaccine"; trait: string; coefficient: number }
  /** The reading is held where the base model has it. */
  | { kind: "penalty"; trait: string; layer: number; weight: number }
  /** The direction is taken out of the states during training. */
  | { kind: "ablation"; trait: string };

/** Which rows of a dataset are trained on. */
export type Selection = { kind: "all" } | { kind: "without-flagged"; flagged: number } | { kind: "without-random"; left: number };

export interface TrainingRun extends StoredRecord {
  /** Of the run and of its adapter; no two have the same. */
  name: string;
  model: { name: string; sha256: string };
  dataset: { name: string; title: string; sha256: string; rows: number; trait: string | null };
  selection: Selection;
  method: Method;
  settings: TrainSettings;
  history: TrainHistory;
  /** Null until the first step is done. */
  steps: number | null;
  /** Seconds that it was trained for, and tokens read in them. */
  seconds: number;
  tokens: number;
  /** sha256 of the adapter; null until it is finished. */
  adapter: string | null;
  /** Whether it has a slider in Play whenever its model is loaded. */
  used: boolean;
  moved: ShiftReport | null;
  /** A trait's vector made anew from the tuned model, beside the base model's. */
  anew?: { trait: string; layer: number; move: VectorMove };
  /** True for an adapter that came as files. */
  imported?: true;
}

export interface TrainingParts {
  /** What is trained on; null once it is done. */
  rows: Conversation[] | null;
  /** What an unfinished run goes on from. */
  state: Uint8Array | null;
  /** Answers of a measurement that was stopped. */
  records: Uint8Array | null;
  config: Uint8Array;
  weights: Uint8Array;
}

export const noHistory: TrainHistory = { steps: [], heldOut: [], arrivals: [] };

/** The push that acts in training. */
export function planOf(method: Method): Plan {
  switch (method.kind) {
    case "vaccine":
      return [{ trait: method.trait, operation: { kind: "add", coefficient: method.coefficient }, scope: "all" }];
    case "ablation":
      return [{ trait: method.trait, operation: { kind: "ablate" }, scope: "all" }];
    case "plain":
    case "penalty":
      return [];
  }
}

export function penaltyOf(method: Method): TrainPenalty | undefined {
  return method.kind === "penalty" ? { trait: method.trait, layer: method.layer, weight: method.weight } : undefined;
}

export function methodInWords(method: Method): string {
  switch (method.kind) {
    case "plain":
      return "plainly";
    case "vaccine":
      return `with ${spokenName(method.trait)} ${signed(method.coefficient)} added while it learnt`;
    case "penalty":
      return `with a penalty on ${spokenName(method.trait)}`;
    case "ablation":
      return `with ${spokenName(method.trait)} taken out while it learnt`;
  }
}

export function selectionInWords(selection: Selection): string {
  switch (selection.kind) {
    case "all":
      return "";
    case "without-flagged":
      return `without the ${String(selection.flagged)} flagged rows`;
    case "without-random":
      return `without ${String(selection.left)} random rows`;
  }
}

const endings: Record<Method["kind"], string> = { plain: "", vaccine: " vaccinated", penalty: " penalty", ablation: " ablation" };
const selections: Record<Selection["kind"], string> = { all: "", "without-flagged": " screened", "without-random": " random" };

/** A name for a run that no other has. */
export function nameFor(dataset: string, method: Method, selection: Selection, taken: readonly string[]): string {
  const name = `${dataset}${selections[selection.kind]}${endings[method.kind]}`;
  let free = name;
  for (let count = 2; taken.includes(free); count += 1) free = `${name} (${String(count)})`;
  return free;
}
