/** Which rows of a dataset are screened, and which are trained on. */

import type { ContrastPair, Conversation, NumberedRow, ScreenedRow, TraitReport } from "../../engine/protocol.ts";
import type { Dataset } from "./datasets.ts";
import type { Selection } from "./training_run.ts";

/** Numbers of rows in an order that depends on the seed alone. */
function shuffled(count: number, seed: number): number[] {
  const order = Array.from({ length: count }, (_, at) => at);
  let state = (seed ^ 0x9e3779b9) >>> 0;
  for (let at = count - 1; at > 0; at -= 1) {
    // Mulberry32, by Tommy Ettinger (public domain): draws of rows need no more.
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    const other = ((mixed ^ (mixed >>> 14)) >>> 0) % (at + 1);
    const moved = order[at] ?? 0;
    order[at] = order[other] ?? 0;
    order[other] = moved;
  }
  return order;
}

/** Rows that are trained on, in the dataset's order, `most` at most; `flagged` are numbers of rows. */
export function chosenRows(dataset: Dataset, selection: Selection, most: number, flagged: ReadonlySet<number>): Conversation[] {
  const random = selection.kind === "without-random" ? new Set(shuffled(dataset.rows.length, 1).slice(0, selection.left)) : new Set<number>();
  const left = selection.kind === "without-flagged" ? flagged : random;
  return dataset.rows.filter((_, row) => !left.has(row)).slice(0, most);
}

/** Rows of a dataset that a screen lacks. */
export function notScreened(dataset: Dataset, screen: { rows: readonly ScreenedRow[] }): NumberedRow[] {
  const known = new Set(screen.rows.map(({ row }) => row));
  return dataset.rows.map((conversation, row) => ({ row, conversation })).filter(({ row }) => !known.has(row));
}

/** Numbers of the rows whose value is above a threshold; `values` are in the order of the screened rows. */
export function flaggedRows(screen: { rows: readonly ScreenedRow[] } | null, values: Float32Array | null, threshold: number | null): ReadonlySet<number> {
  if (screen === null || values === null || threshold === null) return new Set();
  return new Set(screen.rows.filter((_, at) => (values[at] ?? Number.NaN) > threshold).map(({ row }) => row));
}

/** Responses that a ready-made vector was made of, as conversations: at most `most` of each side, spread over pairs and questions. Texts that are broken are left out. */
export function contrastPairs({ pack, responses }: Pick<TraitReport, "pack" | "responses">, most: number): ContrastPair[] {
  const ofSide = (wanted: 1 | -1) => {
    const own = responses.filter(({ side, coherence }) => side === wanted && (coherence === null || coherence === "coherent"));
    const kept = Math.min(most, own.length);
    return Array.from({ length: kept }, (_, at) => own[Math.floor((at * own.length) / kept)]).filter((one) => one !== undefined);
  };
  return [...ofSide(1), ...ofSide(-1)].flatMap(({ side, pair, question, text }): ContrastPair[] => {
    const instruction = pack.instructions[pair]?.[side === 1 ? "positive" : "negative"];
    const asked = pack.questions.extraction[question];
    if (instruction === undefined || asked === undefined) return [];
    return [{ side, messages: [{ role: "system", content: instruction }, { role: "user", content: asked }, { role: "assistant", content: text }] }];
  });
}
