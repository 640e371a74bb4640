/** Answers of a finished run. */

import type { ColumnResult, Plan, ReadingBlock } from "../../engine/protocol.ts";
import type { Answer, PromptReading } from "./conversation.ts";

/** The segments with one more; of two before the same token the last one holds. */
export function withSegment(segments: Answer["segments"], fromToken: number, plan: Plan): Answer["segments"] {
  return [...segments.filter((segment) => segment.fromToken < fromToken), { fromToken, plan }];
}

/** The segments of a result, counted from the answer's first token instead of the conversation's. A negative index lies inside the prompt. */
function segmentsOf({ segments, answerStart }: ColumnResult): Answer["segments"] {
  // The first plan is shown from the answer's first token on, unless the prompt was read under two plans.
  const begins = (segments[1]?.fromToken ?? Infinity) <= answerStart ? -answerStart : 0;
  return segments.reduce<Answer["segments"]>((all, { fromToken, plan }, at) => withSegment(all, at === 0 ? begins : fromToken - answerStart, plan), []);
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
