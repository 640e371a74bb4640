/** Checks whether a task of a lesson is done, by what the page can see. */

import type { Plan, Trait } from "../../engine/protocol.ts";
import type { HeatView } from "../session/heat_view.ts";
import { type Conversation, type Run, shownRun } from "../conversation/conversation.ts";
import type { Check, CoefficientGoal } from "./lesson.ts";

/** The state of the page that checks look at. */
export interface ObservedPage {
  conversation: Conversation;
  coefficient: (trait: string) => number;
  view: HeatView;
  traits: readonly Trait[];
  /** Cards that were opened since the step began. */
  cards: ReadonlySet<"unsteered" | "steered" | "question">;
  /** The page's state when the step began. */
  start: { runs: ReadonlySet<string>; layer: number | null; traits: ReadonlySet<string>; trained: ReadonlySet<string>; measured: ReadonlySet<string> };
  /** Whether rows of the dataset on screen are screened. */
  screened: boolean;
  /** Finished runs of training by their ids, in which way, and whether it was measured what moved. */
  trained: readonly { id: string; method: string; measured: boolean }[];
}

const slack = 1e-6;

/** Distance from a band's end that counts as reaching it: sliders go in steps of this size. */
const step = 0.1;
/** Multiple of a band's end that counts as beyond it; a slider reaches to 1.5. */
const beyond = 1.2;

function reaches(coefficient: number, wanted: CoefficientGoal, trait: Trait | undefined): boolean {
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

/** The plan of a finished steered answer; null for one that is being written or broke off. */
function answeredPlan(run: Run): Plan | null {
  const { end, segments } = run.answers.steered;
  return end === null || end === "failed" ? null : (segments.at(-1)?.plan ?? []);
}

export function isMet(check: Check, page: ObservedPage): boolean {
  const { conversation, start, view } = page;
  const all = (push: ReadonlyMap<string, CoefficientGoal>, coefficient: (trait: string) => number) =>
    [...push].every(([name, wanted]) => reaches(coefficient(name), wanted, page.traits.find((trait) => trait.name === name)));
  switch (check.kind) {
    case "slider":
      return all(check.push, page.coefficient);
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
      return check.of === "any" ? page.cards.size > 0 : page.cards.has(check.of);
    case "coloured-by":
      return view.by.kind === "trait" ? view.by.trait === check.what : view.by.kind === check.what;
    case "layer-changed":
      return view.layer !== null && view.layer !== start.layer;
    case "inside-run":
      return view.insideRun && conversation.turns.some((turn) => shownRun(turn) !== null);
    case "screened":
      return page.screened;
    case "trained":
      return page.trained.some(({ id, method }) => !start.trained.has(id) && (check.method === "any" || check.method === method));
    case "measured":
      return page.trained.some(({ id, measured }) => measured && !start.measured.has(id));
    case "tuned":
      return conversation.turns.flatMap((turn) => turn.runs).some((run) => !start.runs.has(run.id) && (answeredPlan(run) ?? []).some(({ operation }) => operation.kind === "tune" && operation.scale !== 0));
    case "new-trait":
      return page.traits.some(({ name }) => !start.traits.has(name) && !name.startsWith("random "));
  }
}
