/** Verdicts in a few words. */

import type { Controls, TraitReport } from "../../engine/traits_protocol.ts";

export const verdictWords: Record<Controls["verdict"], string> = { works: "It works", "does-not": "Do not believe it", "not-enough-data": "Nobody knows yet" };

/** The verdict on a ready-made trait, by its report. */
export function shortVerdict(report: TraitReport | null): { text: string; bad: boolean } {
  if (report === null) return { text: "Not tested yet.", bad: false };
  const { controls, sweep } = report;
  if (controls !== null) return { text: `${verdictWords[controls.verdict]}.`, bad: controls.verdict !== "works" };
  if (sweep !== null && sweep.recommended === null) return { text: "No push along it moved the answers and left them whole.", bad: true };
  return { text: "Whether it is really this direction has not been tested yet.", bad: false };
}
