/**
 * The recorded run that the page plays before a model is there: `generated/recording.json`,
 * written by the build from real native runs (`schema` names this file's shape).
 *
 * Every number was computed in Rust. JSON has no NaN: where a token has no value, it says `null`.
 */

export interface Recording {
  schema: "trimtab-recording-1";
  /** The program that made it, for people: `trimtab 0.1.0, CPU executor, exact`. */
  madeWith: string;
  /** Day on which it was made, `2026-11-23`. */
  madeOn: string;
  model: { name: string; sha256: string; licence: string };
  trait: {
    /** `cheerful` */
    name: string;
    /** `gloomy` */
    opposite: string;
    description: string;
    /** Hash of the vector's tensor. */
    hash: string;
    recommended: { layers: number[]; min: number; max: number };
    /** Relative dose of coefficient 1, summed over the layers that were pushed. */
    dosePerUnit: number;
  };
  /** The layer whose readings are recorded: the (first) recommended one. */
  layer: number;
  /** Tokens at which the push was added. */
  scope: "all" | "prompt" | "response";
  sampler: { temperature: number; topK: number; topP: number; repetitionPenalty: number; seed: number };
  /** The user's message; the system prompt is the chat template's own. */
  question: string;
  /** Answers at exactly five coefficients, strictly ascending, one of them 0 (the unsteered answer). */
  doses: RecordedDose[];
}

export interface RecordedDose {
  /** Factor of the raw trait vector, as in {@link SteeringTerm}. */
  coefficient: number;
  /** The answer's tokens in order, the end-of-turn token left out; 1 to 400 of them. */
  tokens: RecordedToken[];
  /** Why the answer ended. */
  end: "end-token" | "max-tokens";
}

export interface RecordedToken {
  id: number;
  /** The token's text; empty for a token that ends inside a character (the next one carries it). */
  text: string;
  part: "template" | "prompt" | "response";
  /** Natural log-probability given by the run that wrote it, the push included. */
  logprob: number | null;
  /**
   * Calibrated re-reading at {@link Recording.layer}: when the unsteered model reads this answer,
   * in standard deviations from what is ordinary for this model (0 = ordinary).
   */
  reread: number | null;
}
