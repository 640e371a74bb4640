/**
 * Making a trait, and finding out whether to believe it: what the page and its worker say to each other about that.
 * Evidence is in standard deviations of neutral answers' evidence, log-probabilities in nats a token.
 */

export interface TraitPack {
  name: string;
  opposite: string;
  description: string;
  instructions: { positive: string; negative: string }[];
  questions: { extraction: string[]; evaluation: string[] };
  licence: string;
}

export interface ResponseSettings {
  /** How many of the pack's pairs and questions are used, from the first on. */
  pairs: number;
  questions: number;
  maxTokens: number;
  temperature: number;
  seed: number;
}

/** Unsteered log-likelihoods that answers have which make sense, from those of neutral answers. */
export interface CoherenceBand {
  low: number;
  high: number;
  mean: number;
  deviation: number;
  /** Lowest share of different pairs of neighbouring tokens. */
  distinct2: number;
  /** Neutral answers that it comes from. */
  answers: number;
}

export type Coherence = "coherent" | "too-unlikely" | "too-likely" | "repetitive" | "empty";

/** One answer held against the band. */
export interface AnswerCoherence {
  verdict: Coherence;
  /** Mean log-probability of its tokens under the unsteered model. */
  meanLogprob: number;
  distinct2: number;
  band: CoherenceBand;
}

/** A response of the contrast set. Scores are null until it has been judged. */
export interface ContrastResponse {
  pair: number;
  question: number;
  side: 1 | -1;
  text: string;
  tokens: number;
  /** Cross-fitted: by the pairs that did not make it, minus a neutral answer's to the same question. */
  evidence: number | null;
  /** The second witness: chance of the positive side by its words alone, from questions other than its own. */
  witness: number | null;
  coherence: Coherence | null;
}

export type ResponseEvent =
  /** A response as far as it is written; the same place again as it grows. */
  | { kind: "response"; at: number; response: ContrastResponse }
  | { kind: "progress"; phase: "writing" | "judging"; done: number; total: number; secondsLeft?: number }
  /** What has been done so far, to go on from when the tab closes. */
  | { kind: "checkpoint"; contrast: Uint8Array; /** Places of the responses that are in it; others are still growing. */ written: number[] };

/** Goes into storage and back to the worker as it is. */
export interface ContrastSet {
  /** Token ids, seeds, scores and what else is needed to go on or to make vectors again. */
  bytes: Uint8Array;
  responses: ContrastResponse[];
  /** Every response is written and judged. */
  complete: boolean;
}

export interface Thresholds {
  /** A positive response needs at least this evidence, a negative one at most its negation. */
  evidence: number;
  /** Width of the coherence band to each side, in deviations. */
  deviations: number;
  distinct2: number;
}

export type Kept = "kept" | "weak-evidence" | "too-unlikely" | "too-likely" | "repetitive" | "empty";

/** One number for each layer, `[L + 1]`, NaN where there is none; `low` and `high` where there is an interval (95 %). */
export interface LayerCurve {
  name: string;
  values: Float32Array;
  low?: Float32Array;
  high?: Float32Array;
}

export interface Extraction {
  /** For each response, why it counts or does not. */
  kept: Kept[];
  keptPositive: number;
  keptNegative: number;
  /** How well the second witness tells the sides apart on held-out questions. */
  witnessAuc: number;
  /** By estimator, the mean difference first. */
  auc: LayerCurve[];
  norms: LayerCurve[];
  /** With the mean difference. */
  cosines: LayerCurve[];
  /** A vector file (safetensors). */
  vector: Uint8Array;
}

export interface SweepSettings {
  /** Empty: four fixed ones, at 37, 47, 57 and 67 % of the model's depth. */
  layers: number[];
  /** Relative doses; below 0: against the trait. */
  doses: number[];
  questions: number;
  maxTokens: number;
  /** Also all layers at once, by increments. */
  allLayers: boolean;
}

/** One setting and what came of it. */
export interface SweepRow {
  layers: number[];
  allLayers: boolean;
  /** Relative dose. */
  dose: number;
  coefficient: number;
  /** Of coherent answers, with an interval over questions; NaN where none is coherent, or none measured yet. */
  evidence: number;
  low: number;
  high: number;
  answers: number;
  /** Share of the answers. */
  incoherent: number;
  /** Of the steered text under the unsteered model. */
  perplexity: number;
  /** KL(steered‖unsteered), nats a token; NaN where the device does not measure it. */
  kl: number;
  distinct2: number;
  texts: { question: string; text: string; coherence: Coherence }[];
}

export interface Sweep {
  rows: SweepRow[];
  /** Evidence without a push. */
  neutral: number;
  /** Null where no setting moved the evidence and left the text whole. */
  recommended: { layers: number[]; min: number; max: number; sentence: string } | null;
  /** What came of it, also where nothing is recommended. */
  sentence?: string;
  /** What a reader should know before believing it. */
  caveats?: string[];
  /** The vector file with the recommendation in it. */
  vector: Uint8Array;
}

export type StudyEvent =
  /** All answers are written before the first is measured; `reading` counts responses of the contrast set instead. */
  | { kind: "progress"; phase: "reading" | "writing" | "measuring"; done: number; total: number; secondsLeft?: number }
  /** A setting as far as its answers are measured; the same setting again as more of them are. */
  | { kind: "row"; row: SweepRow }
  /** What has been done so far. Given to the same study later, it goes on from there; another study begins from nothing. */
  | { kind: "records"; records: Uint8Array };

export interface ControlRow {
  kind: "vector" | "flipped" | "shuffled" | "random" | "other";
  /** The other trait's. Directions of one kind are told apart by their order. */
  name: string;
  /** Change of evidence against no push, with a 95 % interval. */
  evidence: number;
  low: number;
  high: number;
  incoherent: number;
}

export interface Controls {
  rows: ControlRow[];
  verdict: "works" | "does-not" | "not-enough-data";
  sentence: string;
  caveats?: string[];
  /** The recommendation, opened against the trait as far as the flipped push left the text whole, and the vector file with it. */
  recommended?: { layers: number[]; min: number; max: number };
  vector?: Uint8Array;
}

/** Pearson's r with its 95 % interval. */
export interface Correlation {
  r: number;
  low: number;
  high: number;
}

export interface Prediction {
  layer: number;
  /** Readings are in deviations of neutral prompt tokens; where it is absent or false, they are `h·v̂` in the residual stream's own unit. */
  calibrated?: boolean;
  points: { system: string; question: string; reading: number; evidence: number }[];
  pooled: Correlation;
  within: Correlation;
  sentence?: string;
  caveats?: string[];
}

/** Cosines between all traits of the page, `[n, n]`. */
export interface TraitCosines {
  layer: number;
  names: string[];
  values: Float32Array;
}

/** Making a trait. */
export interface MakingVerbs {
  /** A pack to edit, from templates. No model is needed. */
  draftTrait(name: string, description: string, opposite: string): Promise<TraitPack>;
  /** Parses and checks a pack's JSON; an error begins with the field's name. No model is needed. */
  checkTrait(json: string): Promise<TraitPack>;
  /** Writes and judges the responses, or goes on with a set that was stopped. `stop()` ends it with what is there. */
  writeResponses(request: { pack: TraitPack; settings: ResponseSettings; contrast?: Uint8Array }, onEvent: (event: ResponseEvent) => void): Promise<ContrastSet>;
  /** Vectors by every estimator from the responses that pass. Other thresholds write nothing anew. */
  makeVector(
    request: { pack: TraitPack; contrast: Uint8Array; thresholds: Thresholds },
    onEvent?: (event: { kind: "progress"; phase: "vector"; done: number; total: number; secondsLeft?: number }) => void,
  ): Promise<Extraction>;
  /** What a contrast set's bytes hold, for a set that comes from a file. No model is needed. */
  openContrast(bytes: Uint8Array): Promise<ContrastSet & { pack: TraitPack; settings: ResponseSettings }>;
  /**
   * One tensor of a vector file (the mean difference where none is named) as a GGUF control vector for llama.cpp and repeng.
   * Its layers begin at our layer 2: layers 0 and 1 cannot be exported. No model is needed.
   */
  exportControlVector(vector: Uint8Array, tensor?: string): Promise<Uint8Array>;
  /** A GGUF control vector as a vector file for the loaded model. Layers that it leaves out are zero. */
  importControlVector(gguf: Uint8Array): Promise<Uint8Array>;
}

/** Whether it works, what it costs, and whether it is really this direction. */
export interface StudyVerbs {
  /** `stop()` ends a study with a failure of kind `usage`, after the event with its `records`. */
  sweepTrait(request: { pack: TraitPack; vector: Uint8Array; settings: SweepSettings; records?: Uint8Array }, onEvent: (event: StudyEvent) => void): Promise<Sweep>;
  controlTrait(request: { pack: TraitPack; vector: Uint8Array; contrast: Uint8Array; thresholds: Thresholds; questions: number; records?: Uint8Array }, onEvent: (event: StudyEvent) => void): Promise<Controls>;
  predictTrait(request: { pack: TraitPack; vector: Uint8Array; questions: number; records?: Uint8Array }, onEvent: (event: StudyEvent) => void): Promise<Prediction>;
  compareTraits(layer?: number): Promise<TraitCosines>;
  /** Everything known about a ready-made trait: null where no report was made yet. */
  traitReport(name: string): Promise<TraitReport | null>;
}

export type TraitVerbs = MakingVerbs & StudyVerbs;

export interface TraitReport {
  pack: TraitPack;
  made: string;
  settings: ResponseSettings;
  responses: ContrastResponse[];
  extraction: Omit<Extraction, "vector">;
  sweep: Omit<Sweep, "vector"> | null;
  controls: Controls | null;
  prediction: Prediction | null;
}

