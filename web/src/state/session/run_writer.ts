/** A run while its answers are being written: the engine's events become answers on the screen and parts in storage. */

import type { ColumnResult, GenerateEvent, LoadedModel } from "../../engine/protocol.ts";
import { finish, promptReading } from "../conversation/answer.ts";
import { type Answer, type Column, columns, type Run } from "../conversation/conversation.ts";
import { type AnswerPart, compact, GrowingAnswer } from "../conversation/growing_answer.ts";

/** The engine's present work for the run on screen. */
export type Phase =
  | { kind: "reading"; done: number; total: number; secondsLeft: number | null }
  | { kind: "writing" }
  | { kind: "rereading"; done: number; total: number }
  | { kind: "recovering"; done: number; total: number };

export interface RunListener {
  /** The run so far; called at most once a frame or two. */
  show(run: Run, phase: Phase | null): void;
  /** Keeps what was added since the last call; false where that failed, and the same will come again with what follows. */
  keep(parts: AnswerPart[], number: number): Promise<boolean>;
  /** The model goes on in another place, because its device was lost. */
  recovered(model: LoadedModel): void;
}

const showEveryMs = 33;
const keepEveryMs = 3000;
const writing: Phase = { kind: "writing" };

export class RunWriter {
  readonly #growing: readonly { column: Column; answer: GrowingAnswer; tokensKept: number; rowsKept: number }[];
  #phase: Phase | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #keptAt = Date.now();
  #keeping = false;
  #partsKept = 0;

  constructor(
    private readonly begun: Run,
    written: readonly Column[],
    private readonly listener: RunListener,
  ) {
    // What an answer begins with is kept with its run.
    this.#growing = written.map((column) => {
      const { tokens, inRun } = begun.answers[column];
      return { column, answer: new GrowingAnswer(begun.answers[column]), tokensKept: tokens.length, rowsKept: inRun?.tokens ?? 0 };
    });
  }

  /** Takes an event in. Events come faster than a screen shows them, so that it is shown a little later. */
  readonly take = (event: GenerateEvent): void => {
    if (event.kind === "recovered") return this.listener.recovered(event.model);
    if (event.kind === "prompt") this.#phase = { kind: "reading", done: event.done, total: event.total, secondsLeft: event.secondsLeft ?? null };
    else if (event.kind === "recovering") this.#phase = { kind: "recovering", done: event.bytesDone, total: event.bytesTotal };
    else if (event.kind === "reread-progress") this.#phase = { kind: "rereading", done: event.done, total: event.total };
    else if (event.kind === "token") this.#phase = writing;
    if ("column" in event) this.#growing[event.column]?.answer.take(event);
    this.#timer ??= setTimeout(() => this.#show(), showEveryMs);
  };

  /** Shows the finished run. */
  finish(results: readonly ColumnResult[]): void {
    const answers = this.#answers();
    let { prompt } = this.begun;
    for (const result of results) {
      answers[result.column] = finish(answers[result.column], result);
      if (result.column === "unsteered") prompt = promptReading(result);
    }
    this.#showLast({ ...this.begun, answers, prompt });
  }

  /** Shows the run as far as it came, for a reason of which the engine says nothing. */
  breakOff(end: "stopped" | "failed"): void {
    const answers = this.#answers();
    for (const column of columns) answers[column] = { ...answers[column], end: answers[column].end ?? end };
    this.#showLast(compact({ ...this.begun, answers }));
  }

  #answers(): Record<Column, Answer> {
    const answers = { ...this.begun.answers };
    for (const { column, answer } of this.#growing) answers[column] = answer.answer;
    return answers;
  }

  #showLast(run: Run): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.listener.show(run, null);
  }

  #show(): void {
    this.#timer = null;
    this.listener.show({ ...this.begun, answers: this.#answers() }, this.#phase);
    if (Date.now() - this.#keptAt > keepEveryMs) void this.#keep();
  }

  async #keep(): Promise<void> {
    if (this.#keeping) return;
    this.#keeping = true;
    this.#keptAt = Date.now();
    const parts = this.#growing.map(({ column, answer, tokensKept, rowsKept }) => answer.partAfter(column, tokensKept, rowsKept));
    if (await this.listener.keep(parts, this.#partsKept)) {
      this.#partsKept += 1;
      for (const [at, { tokensBefore, rowsBefore, added }] of parts.entries()) {
        const grown = this.#growing[at];
        if (grown === undefined) continue;
        grown.tokensKept = tokensBefore + added.tokens.length;
        grown.rowsKept = rowsBefore + (added.inRun?.tokens ?? 0);
      }
    }
    this.#keeping = false;
  }
}
