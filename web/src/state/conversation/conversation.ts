/** A conversation as plain data, which the browser's storage keeps as it stands. */

import type { AnswerCoherence } from "../../engine/protocol.ts";
import type { GenerateEvent, Message, Plan, ReadingBlock, Sampler, Token } from "../../engine/protocol.ts";

export type Column = "unsteered" | "steered";
export const columns: readonly Column[] = ["unsteered", "steered"];

/** `cut`: the page was closed while the answer was being written. */
export type EndReason = Extract<GenerateEvent, { kind: "end" }>["reason"] | "failed" | "cut";

/** The model and traits that an answer was made with, so that it can be read without them. */
export interface ModelStamp {
  name: string;
  sha256: string;
  backend: string;
  precision: string;
  traits: { name: string; opposite: string; hash: string; layers: number[] }[];
  /** Adapters that plans could name; absent for none. */
  adapters?: { name: string; sha256: string }[];
}

/** One column's answer. Tokens and readings are those of the answer alone, from its first token. */
export interface Answer {
  tokens: Token[];
  /** Readings inside the run, the push included. */
  inRun: ReadingBlock | null;
  /** Readings by the unsteered model; null until it has read the answer. */
  reread: ReadingBlock | null;
  rereadLogprob: Float32Array | null;
  /** Plans, each with the answer token from which on it held; the first entry is at 0. */
  segments: { fromToken: number; plan: Plan }[];
  /** Whether the answer makes sense, by the unsteered model's reading of it; absent where that is not known. */
  coherence?: AnswerCoherence;
  /** Why the answer ended; null while it is being written. */
  end: EndReason | null;
  tokensPerSecond: number | null;
}

/** The user's message as the model read it. */
export interface PromptReading {
  tokens: Token[];
  block: ReadingBlock;
}

export interface Run {
  id: string;
  /** The runs that this one went on from: those shown in the turns before it. */
  after: string[];
  sampler: Sampler;
  maxTokens: number;
  model: ModelStamp;
  answers: Record<Column, Answer>;
  prompt: PromptReading | null;
}

export interface Turn {
  id: string;
  user: string;
  /** The runs that answered the question, the newest last. */
  runs: Run[];
  /** Index of the run on screen, which later turns go on from. */
  shown: number;
}

export interface Conversation {
  id: string;
  title: string;
  created: number;
  updated: number;
  /** The system prompt; empty for the chat template's own. */
  system: string;
  /** True if its answers keep the settings of the newest one, which came with a link. */
  lent?: boolean;
  turns: Turn[];
}

/** A conversation as the list shows it. */
export interface ConversationHead {
  id: string;
  title: string;
  updated: number;
  turns: number;
}

export function newConversation(system: string): Conversation {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, system, turns: [] };
}

/** A random id. `crypto.randomUUID` is missing on plain HTTP, where the page must work too. */
export function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function emptyAnswer(plan: Plan): Answer {
  return {
    tokens: [],
    inRun: null,
    reread: null,
    rereadLogprob: null,
    segments: [{ fromToken: 0, plan }],
    end: null,
    tokensPerSecond: null,
  };
}

export function answerText(answer: Answer): string {
  return answer.tokens
    .filter((token) => token.part === "response")
    .map((token) => token.text)
    .join("");
}

export function shownRun(turn: Turn): Run | null {
  return turn.runs[turn.shown] ?? null;
}

/** A run of an answer that nobody wrote here: the author of a link gave it. Both columns go on from it. */
export function givenRun(tokens: { id: number; text: string }[]): Run {
  const answer = (): Answer => ({
    ...emptyAnswer([]),
    tokens: tokens.map(({ id, text }) => ({ id, text, part: "response", logprob: Number.NaN, alternatives: [] })),
    end: "end-token",
  });
  return {
    id: newId(),
    after: [],
    sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 0 },
    maxTokens: tokens.length,
    model: { name: "", sha256: "", backend: "", precision: "", traits: [] },
    answers: { unsteered: answer(), steered: answer() },
    prompt: null,
  };
}

export const wasGiven = (run: Run): boolean => run.model.sha256 === "";

/** The runs that turn `last` goes on from. */
export function runsBefore(conversation: Conversation, last: number): string[] {
  return conversation.turns.slice(0, last).flatMap((turn) => shownRun(turn)?.id ?? []);
}

/** The messages that one column goes on from: shared questions, its own answers, ending with turn `last`'s question. */
export function messagesFor(conversation: Conversation, column: Column, last: number): Message[] {
  const messages: Message[] = [];
  if (conversation.system.trim() !== "") messages.push({ role: "system", content: conversation.system });
  for (const turn of conversation.turns.slice(0, last)) {
    const run = shownRun(turn);
    if (run === null) continue;
    messages.push({ role: "user", content: turn.user });
    messages.push({ role: "assistant", content: answerText(run.answers[column]) });
  }
  const turn = conversation.turns[last];
  if (turn !== undefined) messages.push({ role: "user", content: turn.user });
  return messages;
}

export function titleFrom(message: string): string {
  const line = message.trim().replace(/\s+/g, " ");
  return line.length <= 60 ? line : `${line.slice(0, 57).trimEnd()}…`;
}

/** Whether two plans do the same: the engine computes with 32-bit floats, so that −5.3 comes back as −5.300000190734863. */
export function samePlan(a: Plan, b: Plan): boolean {
  const numbers = (_: string, value: unknown) => (typeof value === "number" ? Math.fround(value) : value);
  const spelt = (plan: Plan) => plan.map(({ trait, operation, layers, scope }) => JSON.stringify([trait, Object.entries(operation).sort(), layers ?? null, scope], numbers)).join();
  return spelt(a) === spelt(b);
}

/** The columns whose answers could go on. */
export function unfinished(run: Run): Column[] {
  return wasGiven(run) ? [] : columns.filter((column) => ["max-tokens", "stopped", "failed", "cut"].includes(run.answers[column].end ?? ""));
}

/** A conversation from storage: an answer that was being written when the page closed was cut there. */
export function settled(conversation: Conversation): Conversation {
  const ended = (answer: Answer): Answer => ({ ...answer, end: answer.end ?? "cut" });
  const whole = ({ answers }: Run) => columns.every((column) => answers[column].end !== null);
  const settle = (run: Run): Run => (whole(run) ? run : { ...run, answers: { unsteered: ended(run.answers.unsteered), steered: ended(run.answers.steered) } });
  return { ...conversation, turns: conversation.turns.map((turn) => ({ ...turn, runs: turn.runs.map(settle) })) };
}

/** Answers as a screen reader says them. */
export function readAloud(conversation: Conversation, index: number, wanted: Column[]): string {
  const turn = conversation.turns[index];
  const run = turn === undefined ? null : shownRun(turn);
  if (run === null) return "";
  return wanted.map((column) => `${column === "steered" ? "Steered" : "Unsteered"} answer: ${answerText(run.answers[column])}`).join(" ");
}
