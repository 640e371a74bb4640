/** A question and its two answers with the numbers behind their colours. */

import { planText } from "../../format.ts";
import { type HeatView, readingAt } from "../../state/session/heat_view.ts";
import type { Scale } from "../heatmap/scale.ts";
import type { Column, Run } from "../../state/conversation/conversation.ts";
import type { Token } from "../../engine/protocol.ts";

export interface ColouredToken {
  token: Token;
  /** The value in the scale's unit; null where there is none. */
  value: number | null;
}

export interface ColouredAnswer {
  column: Column;
  push: string;
  tokens: ColouredToken[];
}

export interface Coloured {
  scale: Scale | null;
  trait: { name: string; opposite: string } | null;
  layer: number;
  /** The model that read, in words. */
  readBy: string;
  answers: ColouredAnswer[];
}

/** The row of readings that a view shows of a run. */
export function layerOf(run: Run, view: HeatView): number {
  const by = view.by;
  const own = by.kind === "trait" ? run.model.traits.find(({ name }) => name === by.trait) : undefined;
  return view.layer ?? own?.layers[0] ?? run.model.traits[0]?.layers[0] ?? 0;
}

export function coloured(run: Run, view: HeatView): Coloured {
  const by = view.by;
  const index = by.kind === "trait" ? run.model.traits.findIndex(({ name }) => name === by.trait) : -1;
  const trait = run.model.traits[index] ?? null;
  const layer = layerOf(run, view);
  const answers = (["unsteered", "steered"] as const).map((column): ColouredAnswer => {
    const answer = run.answers[column];
    const inside = view.insideRun || column === "unsteered";
    const block = inside ? answer.inRun : answer.reread;
    const tokens = answer.tokens.flatMap((token, at) => {
      if (token.part !== "response" || token.text === "") return [];
      if (by.kind !== "surprise") return { token, value: readingAt(block, at, index, layer) };
      const logprob = inside ? token.logprob : answer.rereadLogprob?.[at];
      return { token, value: logprob === undefined || !Number.isFinite(logprob) ? null : -logprob };
    });
    const plans = answer.segments.map(({ plan }) => planText(plan));
    return { column, push: [...new Set(plans)].join(" → "), tokens };
  });
  return {
    scale: by.kind === "surprise" ? "surprise" : trait === null ? null : "reading",
    trait: trait === null ? null : { name: trait.name, opposite: trait.opposite },
    layer,
    readBy: view.insideRun ? "read inside each run (the steered one includes the push)" : "as the unsteered model reads it",
    answers,
  };
}
