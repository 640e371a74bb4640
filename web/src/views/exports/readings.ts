/** The readings of a question and its answers, for spreadsheets (one layer) and for programs (all layers). */

import type { ReadingBlock, Token } from "../../engine/protocol.ts";
import { readingAt, readingsThroughLayers } from "../../state/session/heat_view.ts";
import { answerText, type Run } from "../../state/conversation/conversation.ts";
import { planText } from "../../format.ts";
import { type Cell, csv } from "../elements/csv.ts";

interface Part {
  name: "question" | "unsteered" | "steered";
  tokens: readonly Token[];
  inRun: ReadingBlock | null;
  reread: ReadingBlock | null;
  rereadLogprob: Float32Array | null;
}

function partsOf(run: Run): Part[] {
  const { unsteered, steered } = run.answers;
  const question: Part[] = run.prompt === null ? [] : [{ name: "question", tokens: run.prompt.tokens, inRun: run.prompt.block, reread: run.prompt.block, rereadLogprob: null }];
  return [...question, { name: "unsteered", ...unsteered }, { name: "steered", ...steered }];
}

const short = (value: number | null | undefined) => (value === null || value === undefined || !Number.isFinite(value) ? null : Number(value.toPrecision(6)));

/** A table with a line for each token: readings of every trait at `layer`, in deviations, inside the run and by the unsteered model. */
export function readingsCsv(run: Run, layer: number): string {
  const traits = run.model.traits.map(({ name }) => name);
  const head: Cell[] = ["text", "place", "token_id", "token", "logprob", "logprob_unsteered"];
  const { segments } = run.answers.steered;
  const pushed = segments.map(({ fromToken, plan }, at) => `${at === 0 ? "" : `from token ${String(fromToken)} `}${planText(plan)}`).join("; ");
  const { temperature, seed } = run.sampler;
  for (const name of traits) head.push(`${name}_layer${String(layer)}_reread`, `${name}_layer${String(layer)}_in_run`);
  head.push("push", "model", "precision", "temperature", "seed");
  const rows = partsOf(run).flatMap((part) =>
    part.tokens.map((token, at): Cell[] => [
      part.name,
      at,
      token.id,
      token.text,
      short(token.logprob),
      short(part.name === "steered" ? part.rereadLogprob?.[at] : token.logprob),
      ...traits.flatMap((_, trait) => [short(readingAt(part.reread, at, trait, layer)), short(readingAt(part.inRun, at, trait, layer))]),
      part.name === "steered" ? pushed : "",
      run.model.name,
      run.model.precision,
      temperature,
      seed,
    ]),
  );
  return csv([head, ...rows]);
}

/** JSON with the readings at every layer; `null` where there is none. */
export function readingsJson(question: string, run: Run): string {
  const parts = partsOf(run).map((part) => {
    const through = (block: ReadingBlock | null) =>
      block === null ? null : Object.fromEntries(run.model.traits.map(({ name }, trait) => [name, part.tokens.map((_, at) => readingsThroughLayers(block, at, trait).map(short))]));
    return [
      part.name,
      {
        tokens: part.tokens.map(({ id, text, logprob }) => ({ id, text, logprob: short(logprob) })),
        logprob_unsteered: part.rereadLogprob === null ? null : Array.from(part.rereadLogprob, short),
        reread: through(part.reread),
        in_run: through(part.inRun),
      },
    ] as const;
  });
  return JSON.stringify({
    format: "trimtab-readings-1",
    unit: "standard deviations from what is ordinary for the model; readings[trait][token][layer], layer 0 is before the first block",
    model: run.model,
    sampler: run.sampler,
    question_text: question,
    unsteered_text: answerText(run.answers.unsteered),
    steered_text: answerText(run.answers.steered),
    segments: run.answers.steered.segments,
    ...Object.fromEntries(parts),
  });
}
