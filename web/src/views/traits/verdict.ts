/** Verdicts in a few words, and the questions that they follow from. */

import type { Controls, Finding, TraitReport, Verdict } from "../../engine/protocol.ts";
import { percent, short, signed, spokenName } from "../../format.ts";

/** Number of the test that today's verdicts follow (`persona/src/verdict.rs`). */
const TEST = 2;

const verdictWords: Record<Controls["verdict"], string> = { works: "It passes", "does-not": "Do not believe it", "not-enough-data": "Nobody knows yet" };

/** A verdict of an earlier version: it asked for less. */
export function isOlder(controls: Pick<Controls, "test">): boolean {
  return controls.test !== TEST;
}

/** What a verdict comes to. To have passed an older test is less. */
export function verdictTitle(controls: Pick<Controls, "test" | "verdict">): string {
  return controls.verdict === "works" && isOlder(controls) ? "It passed an older test" : verdictWords[controls.verdict];
}

/** The verdict on a ready-made trait, by its report. */
export function shortVerdict(report: TraitReport | null): { text: string; bad: boolean } {
  if (report === null) return { text: "Not tested yet.", bad: false };
  const { controls, sweep } = report;
  if (controls !== null) return { text: `${verdictTitle(controls)}.`, bad: controls.verdict !== "works" };
  if (sweep !== null && sweep.recommended === null) return { text: "No push along it moved the answers and left them whole.", bad: true };
  return { text: "Whether it is really this direction has not been tested yet.", bad: false };
}

/** One of a verdict's questions: those that are required decide it, the others stand beside it. */
export interface Question {
  question: string;
  finding: Finding;
  figure: string;
  required: boolean;
}

export const findingWords: Record<Finding, string> = { yes: "yes", no: "no", "cannot-tell": "cannot tell" };

type Interval = { value: number; low: number; high: number } | null;

function withInterval(effect: Interval): string {
  return effect === null ? "nothing to measure" : `${signed(effect.value)} (${signed(effect.low)} to ${signed(effect.high)})`;
}

export function questionsOf(verdict: Verdict): Question[] {
  const { movement, chance, specificity, wholeness, otherSide, witnesses } = verdict;
  const rivals = specificity.rivals.filter(({ relative }) => !relative);
  const relatives = specificity.rivals.filter(({ relative }) => relative);
  const nearest = rivals.reduce<(typeof rivals)[number] | null>((near, rival) => (near === null || (rival.margin?.low ?? -Infinity) < (near.margin?.low ?? -Infinity) ? rival : near), null);
  return [
    { question: "Does it move?", finding: movement.finding, required: true, figure: `${withInterval(movement.effect)} deviations, ${movement.coherent} of ${movement.questions} questions` },
    {
      question: "More than a meaningless push?",
      finding: chance.finding,
      required: true,
      figure: chance.shuffled === 0 ? "no meaningless directions were compared" : `${chance.asMuch} of ${chance.shuffled} shuffled-label directions do as much${chance.largest === null ? "" : `; the largest moves ${short(chance.largest)}`}`,
    },
    {
      question: "This trait, and not another?",
      finding: specificity.finding,
      required: true,
      figure:
        (nearest === null ? "no other trait was compared" : `closest is ${spokenName(nearest.name)}: ${withInterval(nearest.margin)} less than this one`) +
        (relatives.length === 0 ? "" : `; too near to tell apart: ${relatives.map(({ name, cosine }) => `${spokenName(name)} (cosine ${signed(cosine, 2)})`).join(", ")}`),
    },
    { question: "Is it still text?", finding: wholeness.finding, required: true, figure: `${wholeness.broken} of ${wholeness.answers} answers broke` },
    {
      question: "Does the opposite push do the opposite?",
      finding: otherSide.effect === null ? "cannot-tell" : otherSide.oneSided ? "no" : "yes",
      required: false,
      figure: `${withInterval(otherSide.effect)}${otherSide.denies ? ": either way gives more of it" : otherSide.oneSided ? ": it has one side" : ""}`,
    },
    ...witnesses.map(({ kind, finding, hasSay, auc, shift, words }): Question => {
      const knows = auc === null ? "could not be tried" : `tells contrast texts apart with ${short(auc.value)}`;
      const carried = words.length === 0 ? "" : `; carried by ${words.slice(0, 5).map(([word, share]) => `“${word}” (${percent(share)})`).join(", ")}`;
      return {
        question: kind === "words" ? "Would a reader of the words say so?" : "Asked for a word, does the model say so?",
        finding,
        required: false,
        figure: hasSay ? `${withInterval(shift)} nats${carried}; ${knows}` : `no say: ${knows}`,
      };
    }),
  ];
}
