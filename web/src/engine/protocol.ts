/**
 * What the page and its worker say to each other. Plain objects and typed arrays only; every
 * number shown on the page was computed in Rust or WGSL and arrives here ready to draw.
 */

import type { AnswerCoherence, TraitVerbs } from "./traits_protocol.ts";

export type * from "./traits_protocol.ts";

export type Backend = "gpu" | "cpu";
export type Precision = "exact" | "fast";
export type Role = "system" | "user" | "assistant";

export interface Message {
  role: Role;
  content: string;
}

/** Where a model comes from: the catalogue (downloaded, checked, cached) or files of the visitor's own. */
export type ModelSource =
  | { kind: "catalogue"; id: string }
  | { kind: "directory"; files: File[] };

export interface LoadOptions {
  backend: Backend | "auto";
  precision: Precision;
  /** Tokens a conversation may hold; absent: as many as the model and the device allow. */
  context?: number;
}

/** `download` has bytes from the network (or the cache), `prepare` bytes given to the device. */
export interface LoadProgress {
  phase: "download" | "prepare";
  bytesDone: number;
  bytesTotal: number;
  /** Absent until it can be told. */
  secondsLeft?: number;
  fromCache: boolean;
}

export interface ModelCard {
  id: string;
  name: string;
  /** Of the weights. */
  sha256: string;
  licence: string;
  source: string;
  downloadBytes: number;
  cached: boolean;
}

export interface LoadedModel {
  name: string;
  sha256: string;
  licence: string;
  layers: number;
  hiddenSize: number;
  backend: Backend;
  precision: Precision;
  adapter: string;
  /** The adapter is a program on the CPU. */
  software: boolean;
  context: number;
  deviceBytes: number;
  /** How the graphics device did when it was tried; absent where it was not. */
  trial?: DeviceTrial;
  /** Name of a graphics device that was not tried, because it is a program on the processor and nobody asked for it. */
  untried?: string;
  /** Sentences the visitor should see (no WebGPU so the CPU is used, software adapter, shorter context…). */
  notices: string[];
  traits: Trait[];
  /** How many traits it reads at a time. */
  maxTraits: number;
}

/** The graphics device, tried out with a small stand-in for the model before it was loaded. */
export interface DeviceTrial {
  /** What compiling took; absent where the device was slower at an earlier visit, so that it was left alone. */
  compileMilliseconds?: number;
  /** What the check of every kernel against the processor took; absent where the device was the slower one, which is not used. */
  checkMilliseconds?: number;
  /** Of one answer, as far as the stand-in can tell; absent where it was not timed. */
  tokensPerSecond?: TokensPerSecond;
  /** Which of the kernels' variants the device is given: the fastest by a short timing, or the likely one where compiling them takes long. */
  variant?: string;
}

/** What is kept of a device. */
export type DeviceFigures = TokensPerSecond & Pick<DeviceTrial, "variant">;

export interface TokensPerSecond {
  gpu: number;
  cpu: number;
}

export interface Trait {
  /** `cheerful` */
  name: string;
  /** `gloomy` */
  opposite: string;
  description: string;
  /** Of the vector's tensor. */
  hash: string;
  /** How the vector was made, in words; empty where nobody knows. */
  made: string;
  recommended: { layers: number[]; min: number; max: number };
  /** Per layer: relative dose of coefficient 1, i.e. ‖v_l‖ / median neutral ‖h_l‖. */
  dosePerUnit: Float32Array;
}

/** One term of a steering plan. */
export interface SteeringTerm {
  trait: string;
  operation: { kind: "add"; coefficient: number } | { kind: "ablate" } | { kind: "clamp"; low: number; high: number };
  /** Absent: the vector's recommended layers. */
  layers?: number[];
  scope: "all" | "prompt" | "response";
}

export type Plan = SteeringTerm[];

export interface Sampler {
  temperature: number;
  topK: number;
  topP: number;
  repetitionPenalty: number;
  seed: number;
}

export interface Alternative {
  text: string;
  id: number;
  logprob: number;
}

/** One token as the page draws it. */
export interface Token {
  id: number;
  /** What it adds to the text; empty for a token that ends inside a character (the next one carries it). */
  text: string;
  /** `template` tokens are the chat template's own; they are not coloured. */
  part: "template" | "prompt" | "response";
  /**
   * Natural log-probability that the model gave it: in this run, or, for prompt tokens of a steered
   * column, when the unsteered model read it. NaN for the first token.
   */
  logprob: number;
  /** What else was likely in its place, best first, the token itself included where it is among them. */
  alternatives: Alternative[];
}

/**
 * Calibrated readings: `[tokens, traits, layers + 1]`, in standard deviations from what is ordinary
 * for this model (0 = ordinary). NaN where a token has no reading (the first token, template tokens).
 */
export interface ReadingBlock {
  tokens: number;
  traits: number;
  layerRows: number;
  values: Float32Array;
}

export interface ColumnRequest {
  /** `unsteered` and `steered` are kept in caches of their own. */
  column: "unsteered" | "steered";
  /** The whole conversation so far, ending with the user's message. */
  messages: Message[];
  plan: Plan;
}

export interface GenerateRequest {
  columns: ColumnRequest[];
  sampler: Sampler;
  maxTokens: number;
}

export type GenerateEvent =
  | { kind: "prompt"; done: number; total: number; secondsLeft?: number }
  /** A token of the answer, as soon as it is chosen. */
  | { kind: "token"; column: number; token: Token }
  /** Readings of answer tokens `from..from + tokens` inside the run (includes the push). */
  | { kind: "readings"; column: number; from: number; block: ReadingBlock }
  /** A slider moved: answer tokens from `fromToken` (0 = the answer's first) on ran under another plan. */
  | { kind: "segment"; column: number; fromToken: number; plan: Plan }
  | { kind: "end"; column: number; reason: "end-token" | "max-tokens" | "context-full" | "stopped"; tokensPerSecond: number }
  /** The unsteered model is reading the steered answer. */
  | { kind: "reread-progress"; column: number; done: number; total: number }
  /** The graphics device was lost: the weights are being loaded again, and the answers then go on with their next tokens. */
  | { kind: "recovering"; bytesDone: number; bytesTotal: number }
  /** They go on, here. */
  | { kind: "recovered"; model: LoadedModel };

/** One column's finished run: every token of the conversation and what was read. */
export interface ColumnResult {
  column: "unsteered" | "steered";
  text: string;
  /** All tokens of the conversation, template and prompt included. */
  tokens: Token[];
  /** Index into `tokens` of the answer's first token. */
  answerStart: number;
  /** Inside the run (includes the push), for all `tokens`. */
  inRun: ReadingBlock;
  /** By the unsteered model, for all `tokens`; what heatmaps show by default. Equal to `inRun` for an unsteered run. */
  reread: ReadingBlock;
  /** Log-probability of each token under the unsteered model (the first is NaN). */
  rereadLogprob: Float32Array;
  /** `fromToken` is an index into `tokens`; the first segment begins at 0. */
  segments: { fromToken: number; plan: Plan }[];
  /** Of the answer; absent where there are no neutral answers to hold it against. */
  coherence?: AnswerCoherence;
}

export interface ScoreResult {
  /** `[T − 1]`, entry i about `ids[i + 1]`, natural log, negated. */
  nll: Float32Array;
  /** `[T − 1]`, the model's first choice in each place. */
  top1: Uint32Array;
  meanNll: number;
}

export interface TraceResult {
  ids: Uint32Array;
  /** `[L + 1, T, d]`, row-major. */
  residual: Float32Array;
  shape: [number, number, number];
}

/** A recipe as a link carries it: texts, tokens and coarse readings show before any model is there. */
export interface SharedRecipe {
  model: { name: string; sha256: string };
  precision: Precision;
  traits: SharedTrait[];
  messages: SharedMessage[];
  /** Whose tokens earlier messages had in a run's prompt. Leave it out for what this page's runs made. */
  context?: "tokens" | "text";
  look: {
    trait: string | null;
    layer: number | null;
    /** A token of a message, both counted from 0. */
    token: { message: number; token: number } | null;
    /** Readings inside the run (includes the push) rather than the unsteered model's. */
    insideRun: boolean;
    /** Plain text, as the note is. */
    title: string;
    note: string;
  };
}

/** Either the hash of a vector that everybody has, or the card of one that travels in the link. */
export interface SharedTrait {
  name: string;
  hash: string | null;
  /** To share one: its name as this page's trait, the layers to carry, and how it was made. */
  inline: { opposite: string; description: string; made: string; layers: number[]; min: number; max: number } | null;
}

export interface SharedMessage {
  role: Role;
  text: string;
  /** Null: not known. `reading` is in deviations, in steps of 0.5 up to ±3.5. */
  tokens: { id: number; text: string; reading: number | null }[] | null;
  /** Of an answer: how it was written. */
  run: {
    sampler: Sampler;
    maxTokens: number;
    plan: SharedTerm[];
    /** `fromToken` counts from the answer's first token, and is negative inside the prompt. */
    changes: { fromToken: number; plan: SharedTerm[] }[];
    end: "end-token" | "max-tokens" | "context-full" | "stopped";
  } | null;
}

export type SharedTerm = SteeringTerm & { layers: number[] };

export type OpenedLink =
  | { kind: "recipe"; recipe: SharedRecipe }
  /** Made by a newer page: a sentence for the visitor, and what could be read of it. */
  | { kind: "newer"; version: number; sentence: string; model: string; title: string; note: string; messages: { role: Role; text: string }[] };

/** Of the tokens of all answers, each read twice: in its run, and by the unsteered model. */
export interface ReplayEvent {
  kind: "replay";
  done: number;
  total: number;
}

/** What this machine makes of a link. */
export interface Replayed {
  tokens: number;
  /** Tokens that this machine would have chosen too. */
  agreed: number;
  /** Largest distance from the link's own readings, which are half a step coarse; null where it has none. */
  readingsApart: number | null;
  /** Whether messages became the author's tokens; null where the link does not say. */
  samePrompts: boolean | null;
  sentence: string;
  /** What the link's traits are called in this page, in its order. */
  traits: string[];
  /** All traits of the page, in the order of the readings. */
  directions: string[];
  /** Traits that came with the link and were not here before. */
  added: Trait[];
  answers: ReplayedAnswer[];
}

export interface ReplayedAnswer {
  /** Index of the recipe's message. */
  message: number;
  /** The author's, of the whole conversation up to and with the answer. `logprob` is NaN for a token that was too unlikely here to be listed. */
  tokens: Token[];
  answerStart: number;
  /** What this machine would have chosen in place of each token of the answer. */
  chosen: { id: number; text: string }[];
  /** Whether it would have ended there too; null where the author's answer did not end by itself. */
  ends: boolean | null;
  inRun: ReadingBlock;
  reread: ReadingBlock;
  rereadLogprob: Float32Array;
  segments: { fromToken: number; plan: Plan }[];
}

/** A file of a model in the browser's storage. */
export interface StoredFile {
  sha256: string;
  bytes: number;
  /** The catalogue's id of its model; null where no model of the catalogue has it. */
  model: string | null;
}

/** Bytes in use. WebAssembly memory never shrinks, so `wasmBytes` is also its peak. */
export interface Memory {
  wasmBytes: number;
  /** What the engine counts as allocated on the graphics device (weights, caches, buffers); 0 without a model, and on the processor, whose memory is `wasmBytes`. */
  deviceBytes: number;
}

/** Seconds, bytes and multiply-adds of one decoded token, and what the device was measured to do at most. */
export interface ProfileResult {
  tokens: number;
  context: number;
  seconds: number;
  bytesPerSecond: number;
  productsPerSecond: number;
  /** `share` is of all kernels' time, `roofline` the least time at the device's peak over the time taken. */
  kernels: { kernel: string; dispatches: number; seconds: number; share: number; bytes: number; products: number; roofline: number }[];
}

/** An error as the visitor reads it: what happened, and what to do next. */
export interface Failure {
  kind: "no-webgpu" | "device-lost" | "out-of-memory" | "wrong-numbers" | "download" | "corrupt-model" | "context-full" | "quota" | "internal" | "usage";
  message: string;
}

/** The client's methods. Implemented by `client.ts` over the worker; also what `globalThis.trimtab` offers. */
export interface Engine extends TraitVerbs {
  /** What could be loaded, and what is already cached. */
  catalogue(): Promise<ModelCard[]>;
  load(source: ModelSource, options: LoadOptions, onProgress: (progress: LoadProgress) => void): Promise<LoadedModel>;
  cancelLoad(): Promise<void>;
  /** Runs the columns together, token by token. */
  generate(request: GenerateRequest, onEvent: (event: GenerateEvent) => void): Promise<ColumnResult[]>;
  /** Changes the steered column's plan while it runs, from the next token not yet queued. */
  setPlan(plan: Plan): Promise<void>;
  stop(): Promise<void>;
  /** Token ids of a rendered conversation. */
  tokenize(messages: Message[], addGenerationPrompt: boolean): Promise<Uint32Array>;
  score(ids: Uint32Array): Promise<ScoreResult>;
  trace(ids: Uint32Array, plan?: Plan): Promise<TraceResult>;
  /** Where the time of a token after `context` others (100) goes on a graphics device with timestamps, over `tokens` (4) of them. */
  profile(context?: number, tokens?: number): Promise<ProfileResult>;
  /** Mean-difference vectors from given conversations; the bytes are a safetensors vector file. */
  extract(pairs: { side: 1 | -1; prompt_ids: number[]; full_ids: number[] }[]): Promise<Uint8Array>;
  /** Adds a vector file as a trait of this page. */
  addVector(name: string, file: Uint8Array): Promise<Trait>;
  /**
   * Adds a control, `random SEED (LIKE)`: a direction drawn by chance, at each layer as long as the trait
   * `like`. Tokens have no readings of it.
   */
  addRandomTrait(like: string, seed: number): Promise<Trait>;
  /** Lets go of traits of this page, so that there is room for others; the rest keep their order. */
  removeTraits(names: string[]): Promise<void>;
  /** Opens a link or its code alone; no model is needed. */
  openLink(link: string): Promise<OpenedLink>;
  /** A recipe as a link's code, to be put after `#r=`. A trait that travels in it has to be one of this page. */
  makeLink(recipe: SharedRecipe): Promise<string>;
  /** Forces a link's tokens through the loaded model, which must be the link's. */
  replayLink(link: string, onEvent: (event: ReplayEvent) => void): Promise<Replayed>;
  removeCached(id: string): Promise<void>;
  /** Model files in the browser's storage, also of models that the catalogue no longer has and of downloads that broke off. */
  storedFiles(): Promise<StoredFile[]>;
  /** Removes such files by their SHA-256. */
  removeStored(sha256: string[]): Promise<void>;
  memory(): Promise<Memory>;
  /** Called when the device is lost or the worker dies. */
  onFailure(listener: (failure: Failure) => void): void;
}
