/** What the page can see of a task being done. */

import type { Plan, Trait } from "../../engine/protocol.ts";
import type { HeatView } from "../session/heat_view.ts";
import { type Conversation, type Run, shownRun } from "../conversation/conversation.ts";
import type { Check, Wanted } from "./lesson.ts";

/** The page as a check looks at it. */
export interface Sight {
  conversation: Conversation;
  coefficient: (trait: string) => number;
  view: HeatView;
  traits: readonly Trait[];
  /** Cards that were opened since the step began. */
  cards: ReadonlySet<"unsteered" | "steered" | "question">;
  /** How the page was when the step began. */
  start: { runs: ReadonlySet<string>; layer: number | null; traits: ReadonlySet<string> };
}

const slack = 1e-6;

/** Sliders go in steps of this size, so that one cannot stand exactly where a band ends. */
const step = 0.1;
/** A slider reaches half as far again as its band. */
const beyond = 1.2;

function reaches(coefficient: number, wanted: Wanted, trait: Trait | undefined): boolean {
  if (typeof wanted === "string") {
    const end = trait?.recommended.max ?? Number.POSITIVE_INFINITY;
    return coefficient >= (wanted === "end of band" ? end - step : end * beyond);
  }
  if (wanted === 0) return Math.abs(coefficient) < slack;
  return wanted > 0 ? coefficient >= wanted - slack : coefficient <= wanted + slack;
}

function coefficientIn(plan: Plan, trait: string): number {
  return plan.reduce((sum, { trait: name, operation }) => (name === trait && operation.kind === "add" ? sum + operation.coefficient : sum), 0);
}

/** The plan of a finished steered answer; null while it is written, and where it broke off. */
function answeredPlan(run: Run): Plan | null {
  const { end, segments } = run.answers.steered;
  return end === null || end === "failed" ? null : (segments.at(-1)?.plan ?? []);
}

export function isMet(check: Check, sight: Sight): boolean {
  const { conversation, start, view } = sight;
  const all = (push: ReadonlyMap<string, Wanted>, coefficient: (trait: string) => number) =>
    [...push].every(([name, wanted]) => reaches(coefficient(name), wanted, sight.traits.find((trait) => trait.name === name)));
  switch (check.kind) {
    case "slider":
      return all(check.push, sight.coefficient);
    case "answered":
      return conversation.turns
        .flatMap((turn) => turn.runs)
        .some((run) => {
          const plan = start.runs.has(run.id) ? null : answeredPlan(run);
          return plan !== null && all(check.push, (trait) => coefficientIn(plan, trait));
        });
    case "both-signs":
      return conversation.turns.some((turn) => {
        const pushes = turn.runs.map((run) => coefficientIn(answeredPlan(run) ?? [], check.trait));
        return pushes.some((push) => push > slack) && pushes.some((push) => push < -slack);
      });
    case "card":
      return check.of === "any" ? sight.cards.size > 0 : sight.cards.has(check.of);
    case "coloured-by":
      return view.by.kind === "trait" ? view.by.trait === check.what : view.by.kind === check.what;
    case "layer-changed":
      return view.layer !== null && view.layer !== start.layer;
    case "inside-run":
      return view.insideRun && conversation.turns.some((turn) => shownRun(turn) !== null);
    case "new-trait":
      return sight.traits.some(({ name }) => !start.traits.has(name) && !name.startsWith("random "));
  }
}
