/** How an answer grows from the engine's events, and what its finished result adds. */

import type { ColumnResult, GenerateEvent, ReadingBlock } from "../../engine/protocol.ts";
import type { Answer, PromptReading } from "./conversation.ts";

/** The answer after one event of its column; the same object where the event changes nothing. */
export function grow(answer: Answer, event: GenerateEvent): Answer {
  switch (event.kind) {
    case "token":
      return { ...answer, tokens: [...answer.tokens, event.token] };
    case "readings":
      return { ...answer, inRun: append(answer.inRun, event.from, event.block) };
    case "segment":
      return { ...answer, segments: addSegment(answer.segments, event.fromToken, event.plan) };
    case "end":
      return { ...answer, end: event.reason, tokensPerSecond: Number.isFinite(event.tokensPerSecond) ? event.tokensPerSecond : null };
    case "prompt":
    case "reread-progress":
    case "recovering":
    case "recovered":
      return answer;
  }
}

function addSegment(segments: Answer["segments"], fromToken: number, plan: Answer["segments"][number]["plan"]): Answer["segments"] {
  // Two moves before the same token: the last one holds.
  return [...segments.filter((segment) => segment.fromToken < fromToken), { fromToken, plan }];
}

/** The result counts from the conversation's first token, an answer from its own; negative: inside the prompt. */
function segmentsOf({ segments, answerStart }: ColumnResult): Answer["segments"] {
  // What held before the answer's first token is shown as its beginning unless the prompt was read under two plans.
  const begins = (segments[1]?.fromToken ?? Infinity) <= answerStart ? -answerStart : 0;
  return segments.reduce<Answer["segments"]>((all, { fromToken, plan }, at) => addSegment(all, at === 0 ? begins : fromToken - answerStart, plan), []);
}

function append(block: ReadingBlock | null, from: number, added: ReadingBlock): ReadingBlock {
  const stride = added.traits * added.layerRows;
  const tokens = Math.max(block?.tokens ?? 0, from + added.tokens);
  const values = new Float32Array(tokens * stride).fill(Number.NaN);
  if (block !== null && block.traits * block.layerRows === stride) values.set(block.values);
  values.set(added.values.subarray(0, added.tokens * stride), from * stride);
  return { tokens, traits: added.traits, layerRows: added.layerRows, values };
}

/** Rows `start..end` of a block, in memory of their own. */
export function rows(block: ReadingBlock, start: number, end: number): ReadingBlock {
  const stride = block.traits * block.layerRows;
  const last = Math.min(end, block.tokens);
  const first = Math.min(start, last);
  return { ...block, tokens: last - first, values: block.values.slice(first * stride, last * stride) };
}

/** The answer with everything that the finished run knows. */
export function finish(answer: Answer, result: ColumnResult): Answer {
  const start = result.answerStart;
  const all = result.tokens.length;
  return {
    ...answer,
    tokens: result.tokens.slice(start),
    inRun: rows(result.inRun, start, all),
    reread: rows(result.reread, start, all),
    rereadLogprob: result.rereadLogprob.slice(start),
    ...(result.coherence === undefined ? {} : { coherence: result.coherence }),
    segments: result.segments.length === 0 ? answer.segments : segmentsOf(result),
    end: answer.end ?? "stopped",
  };
}

/** The last user message of a run, as the model read it; null where there is none. */
export function promptReading(result: ColumnResult): PromptReading | null {
  let end = result.answerStart;
  while (end > 0 && result.tokens[end - 1]?.part !== "prompt") end -= 1;
  let start = end;
  while (start > 0 && result.tokens[start - 1]?.part === "prompt") start -= 1;
  if (start === end) return null;
  return { tokens: result.tokens.slice(start, end), block: rows(result.inRun, start, end) };
}
