/** One greedy answer, as every runtime reports it. */
import type { Message } from "../../web/src/engine/protocol.ts";

export interface Question {
  messages: Message[];
  /** Rendered by the model's chat template. */
  text: string;
  /** Token ids of the text; every runtime has to read as many. */
  prompt: number[];
  maxTokens: number;
  endTokens: number[];
}

export interface Answer {
  /** Milliseconds from the call to each token of the answer. */
  times: number[];
  /** One of the two; ids are decoded by whoever reads the report. */
  text?: string;
  ids?: number[];
  promptTokens: number;
  /** As the runtime counts it, where its tokens are shown later than they are made. */
  decodeTokensPerSecond?: number;
}

/** What `pages/*.js` put on `globalThis.peer`. */
export interface Peer {
  load(options: { file: string; backend: Backend; context: number }): Promise<{ threads: number }>;
  answer(question: Question): Promise<Answer>;
}

export type Backend = "cpu" | "webgpu";

/** What is timed: a runtime on one backend with one kind of weights. */
export interface Subject {
  runtime: "trimtab" | "wllama" | "onnxruntime-web";
  backend: Backend;
  weights: "q4_1" | "q8_0" | "f32";
  /** How activations enter a weight matrix, where that can be chosen. */
  precision?: "exact" | "fast";
  /** On a page that is isolated from other origins, which gives it threads. */
  isolated?: boolean;
}

/** A subject that is loaded and waits for questions. */
export interface Contestant {
  subject: Subject;
  threads: number;
  answer(question: Question): Promise<Answer>;
  leave(): Promise<void>;
}
