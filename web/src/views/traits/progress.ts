/** The progress of a trait, in a sentence. */

import type { OwnTrait, RunningStep } from "../../state/traits/own_trait.ts";

export function progressOf(trait: OwnTrait, running: RunningStep | null): { text: string; bad: boolean } {
  if (running?.id === trait.id) return { text: `Being made: ${running.phase}${running.total > 0 ? `, ${running.done} of ${running.total} ${running.unit}` : ""}.`, bad: false };
  if (trait.imported === true) return { text: "From a file. What it does has not been tested here.", bad: false };
  const { controls, sweep, extraction, responses, begun } = trait;
  if (controls !== null) return { text: controls.sentence, bad: controls.verdict !== "works" };
  if (sweep !== null && sweep.recommended === null) return { text: "No push along it moved the answers and left them whole.", bad: true };
  if (begun.controls !== undefined) return { text: "Half-made: its controls were stopped half-way. Open it to go on.", bad: false };
  if (sweep !== null) return { text: "Half-made: whether it is really this direction has not been tested.", bad: false };
  if (begun.sweep !== undefined) return { text: "Half-made: the slider is there, and trying it was stopped half-way. Open it to go on.", bad: false };
  if (extraction !== null) return { text: "Half-made: the slider is there, but nobody has tried whether it works.", bad: false };
  const whole = responses.filter(({ evidence }) => evidence !== null).length;
  if (responses.length > 0) return { text: `Half-made: ${responses.length} responses written, ${whole} of them judged. Open it to go on.`, bad: false };
  return { text: "A draft: nothing has been written yet.", bad: false };
}
