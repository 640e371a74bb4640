/** An answer while it is being written: what arrives is added at its end, and what is there is not copied for it. */

import type { GenerateEvent, ReadingBlock, Token } from "../../engine/protocol.ts";
import { rows, withSegment } from "./answer.ts";
import { type Answer, type Column, columns, type Run } from "./conversation.ts";

/** Readings in memory that doubles when it is full: n tokens cost the copying of fewer than 2n. */
class GrowingReadings {
  #tokens = 0;
  #values = new Float32Array(0);

  constructor(
    readonly traits: number,
    readonly layerRows: number,
  ) {}

  /** Writes rows from token `from` on. Rows between the last one and `from` have no reading (NaN). */
  put(from: number, { tokens, values }: ReadingBlock): void {
    const stride = this.traits * this.layerRows;
    const end = Math.max(this.#tokens, from + tokens);
    const old = this.#values;
    if (end * stride > old.length) {
      this.#values = new Float32Array(Math.max(2 * old.length, end * stride)).fill(Number.NaN, old.length);
      this.#values.set(old);
    }
    this.#values.set(values.subarray(0, tokens * stride), from * stride);
    this.#tokens = end;
  }

  /** The rows so far; the memory behind them is larger. */
  get block(): ReadingBlock {
    const { traits, layerRows } = this;
    return { tokens: this.#tokens, traits, layerRows, values: this.#values.subarray(0, this.#tokens * traits * layerRows) };
  }
}

/** Everything that was added to an answer since the part before; storage gets these while the answer is being written. */
export interface AnswerPart {
  column: Column;
  /** Numbers of tokens and of rows of readings that earlier parts hold. */
  tokensBefore: number;
  rowsBefore: number;
  /** The answer with the added tokens and readings alone. */
  added: Answer;
}

export class GrowingAnswer {
  /** Everything but the tokens and readings. */
  #rest: Answer;
  readonly #tokens: Token[];
  #readings: GrowingReadings | null = null;

  constructor(begun: Answer) {
    this.#rest = begun;
    this.#tokens = [...begun.tokens];
    if (begun.inRun !== null) this.#put(0, begun.inRun);
  }

  /** The answer so far. Its tokens are the same list in every later one, which is longer by then. */
  get answer(): Answer {
    return { ...this.#rest, tokens: this.#tokens, inRun: this.#readings?.block ?? null };
  }

  take(event: GenerateEvent): void {
    switch (event.kind) {
      case "token":
        this.#tokens.push(event.token);
        break;
      case "readings":
        this.#put(event.from, event.block);
        break;
      case "segment":
        this.#rest = { ...this.#rest, segments: withSegment(this.#rest.segments, event.fromToken, event.plan) };
        break;
      case "end":
        this.#rest = { ...this.#rest, end: event.reason, tokensPerSecond: Number.isFinite(event.tokensPerSecond) ? event.tokensPerSecond : null };
        break;
      case "prompt":
      case "reread-progress":
      case "recovering":
      case "recovered":
    }
  }

  /** The part that follows so many tokens and rows of readings. */
  partAfter(column: Column, tokensBefore: number, rowsBefore: number): AnswerPart {
    const { answer } = this;
    const inRun = answer.inRun === null ? null : rows(answer.inRun, rowsBefore, answer.inRun.tokens);
    return { column, tokensBefore, rowsBefore, added: { ...answer, tokens: answer.tokens.slice(tokensBefore), inRun } };
  }

  /** Adds a part that storage kept. It has no place in an answer that lacks the part before it, or that has ended. */
  join({ tokensBefore, rowsBefore, added }: AnswerPart): void {
    if (this.#rest.end !== null || tokensBefore !== this.#tokens.length) return;
    this.#rest = added;
    for (const token of added.tokens) this.#tokens.push(token);
    if (added.inRun !== null) this.#put(rowsBefore, added.inRun);
  }

  #put(from: number, block: ReadingBlock): void {
    const { traits, layerRows } = block;
    if (this.#readings?.traits !== traits || this.#readings.layerRows !== layerRows) this.#readings = new GrowingReadings(traits, layerRows);
    this.#readings.put(from, block);
  }
}

/** The run with the parts of its answers that storage kept after it; the same where there is none. */
export function joined(run: Run, parts: readonly AnswerPart[]): Run {
  if (parts.length === 0) return run;
  const growing = { unsteered: new GrowingAnswer(run.answers.unsteered), steered: new GrowingAnswer(run.answers.steered) };
  for (const part of parts) growing[part.column].join(part);
  return compact({ ...run, answers: { unsteered: growing.unsteered.answer, steered: growing.steered.answer } });
}

/** The run without the room to grow behind its readings, which storage would copy with them; the same where there is none. */
export function compact(run: Run): Run {
  const roomy = ({ inRun }: Answer) => inRun !== null && inRun.values.byteLength < inRun.values.buffer.byteLength;
  if (!columns.some((column) => roomy(run.answers[column]))) return run;
  const fitted = (answer: Answer): Answer => (answer.inRun === null ? answer : { ...answer, tokens: [...answer.tokens], inRun: rows(answer.inRun, 0, answer.inRun.tokens) });
  return { ...run, answers: { unsteered: fitted(run.answers.unsteered), steered: fitted(run.answers.steered) } };
}
