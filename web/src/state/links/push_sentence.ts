/** What was pushed in a shared run and how far, for somebody who knows nothing of steering. */

import type { SharedRecipe, SharedTerm } from "../../engine/protocol.ts";
import { percent, spokenName } from "../../format.ts";

export function pushSentence(recipe: SharedRecipe): string {
  const runs = recipe.messages.flatMap(({ run }) => run ?? []);
  if (runs.length === 0) return "A conversation with a small AI.";
  const pushed = runs.findLast(({ plan, changes }) => plan.length > 0 || changes.length > 0);
  if (pushed === undefined) return "A small AI wrote this answer, by itself.";
  const plans = [pushed.plan, ...pushed.changes.map(({ plan }) => plan)];
  const pushes = (plans.find((plan) => plan.length > 0) ?? []).map((term) => pushText(term, recipe)).join(" and ");
  const twice = recipe.messages.some(({ beside }) => beside !== undefined);
  const moved = pushed.changes.length > 0 ? " The push was changed while it was writing." : "";
  return `${twice ? "A small AI answered twice: by itself, and" : "A small AI wrote this answer"} while somebody ${pushes === "" ? "watched" : pushes}.${moved}`;
}

function pushText({ trait, operation }: SharedTerm, recipe: SharedRecipe): string {
  const name = spokenName(trait);
  if (operation.kind === "tune") return `had it tuned by an adapter called “${trait}”, by ${percent(operation.scale)}`;
  if (operation.kind === "ablate") return `took out of it whatever says “${name}”`;
  if (operation.kind === "clamp") return `held fast how ${name} it is`;
  const { coefficient } = operation;
  return `pushed it ${coefficient < 0 ? "away from" : "towards"} being ${name}, ${howFar(coefficient, rangeOf(trait, recipe))}`;
}

/** The strength as a share of the strongest push that is recommended, where that is known. */
function howFar(coefficient: number, range: readonly [number, number] | null): string {
  const end = range?.[coefficient < 0 ? 0 : 1] ?? 0;
  const share = coefficient / end;
  if (!Number.isFinite(share) || share <= 0) return `with a strength of ${String(Number(Math.abs(coefficient).toPrecision(3)))}`;
  return `at ${percent(share)} of the strongest push that is recommended${share > 1.02 ? " (so far its sentences may break)" : ""}`;
}

function rangeOf(trait: string, recipe: SharedRecipe): readonly [number, number] | null {
  const found = recipe.traits.find(({ name }) => name === trait);
  return found?.range ?? (found?.inline == null ? null : [found.inline.min, found.inline.max]);
}
