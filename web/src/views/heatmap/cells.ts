/** Tokens as a heatmap shows them. */

import type { Plan } from "../../engine/protocol.ts";
import { planText, signed } from "../../format.ts";
import { heatColour } from "./scale.ts";

export interface Cell {
  /** The token's index in its text; tokens without text have no cell. */
  index: number;
  text: string;
  colour: string | undefined;
  /** The token as a screen reader says it. */
  label: string;
  /** True if another token would have been chosen here. */
  differs?: boolean;
  /** True for the token that the author of a link points at, which is framed. */
  pointed?: boolean;
  /** The number that is printed behind the token, where colours may be lost. */
  number?: string;
  /** A sentence about a change before the token. */
  mark?: string;
}

/** A token coloured by its reading of a trait. */
export function readingCell(index: number, text: string, reading: number | null, trait: string | null): Cell {
  if (reading === null || trait === null) return { index, text, colour: undefined, label: text.trim() };
  return { index, text, colour: heatColour(reading, "reading"), label: `${text.trim()}, ${trait} ${signed(reading)}`, number: signed(reading) };
}

/** A token coloured by the model's surprise. */
export function surpriseCell(index: number, text: string, logprob: number | null): Cell {
  if (logprob === null) return { index, text, colour: undefined, label: text.trim() };
  const surprise = (-logprob).toFixed(1);
  return { index, text, colour: heatColour(-logprob, "surprise"), label: `${text.trim()}, surprise ${surprise}`, number: surprise };
}

/** The mark of a token before which the plan changed. */
export function moveMark(changes: readonly { fromToken: number; plan: Plan }[], index: number): Pick<Cell, "mark"> {
  const change = changes.find(({ fromToken }) => fromToken === index);
  return change === undefined ? {} : { mark: `The sliders moved here: ${planText(change.plan)}` };
}

/**
 * The cells of a text that grows at its end. A cell that is as it was is the same object as before, so that what is on the screen is
 * left alone: a long answer costs its new tokens.
 */
export class GrowingCells {
  #cells: Cell[] = [];
  /** Number of tokens whose cells stay. */
  #settled = 0;
  #made: readonly unknown[] = [];

  /**
   * Calls `cellOf` for tokens that are new, or whose cell may still change: those from `settled` on. `shown` is what else the cells
   * depend on; where one of its values changed, or the list of tokens is another one, all are made again.
   */
  of<T>(tokens: readonly T[], settled: number, shown: readonly unknown[], cellOf: (token: T, index: number) => Cell | null): Cell[] {
    const made = [tokens, ...shown];
    const first = made.length === this.#made.length && made.every((value, at) => value === this.#made[at]) ? this.#settled : 0;
    const cells = this.#cells.slice(0, this.#cells.findLastIndex(({ index }) => index < first) + 1);
    for (const [at, token] of tokens.slice(first).entries()) {
      const cell = cellOf(token, first + at);
      if (cell !== null) cells.push(cell);
    }
    this.#cells = cells;
    this.#settled = Math.min(settled, tokens.length);
    this.#made = made;
    return cells;
  }
}

/** Cells that stand together on the page: a paragraph, or a piece of one that is long. */
export interface Block {
  /** Index of its first cell. */
  start: number;
  cells: Cell[];
  /** True for a paragraph of its own, from one line break to the next. */
  whole: boolean;
}

/** Most cells of a block: the browser does that many in a few milliseconds. */
const mostCells = 200;

/** The cells as blocks; a block whose cells are as they were is the same object as in `before`, so that what is on the screen is left alone. */
export function blocksOf(cells: readonly Cell[], before: readonly Block[]): Block[] {
  const blocks: Block[] = [];
  const breaks = (cell: Cell | undefined) => cell === undefined || cell.text.includes("\n");
  for (let start = 0; start < cells.length; ) {
    let end = start + 1;
    while (end < cells.length && end - start < mostCells && !breaks(cells[end - 1])) end += 1;
    const old = before[blocks.length];
    const whole = breaks(cells[start - 1]) && breaks(cells[end - 1]) && end - start > 0;
    const same = old !== undefined && old.start === start && old.whole === whole && old.cells.length === end - start && old.cells.every((cell, at) => cell === cells[start + at]);
    blocks.push(same ? old : { start, cells: cells.slice(start, end), whole });
    start = end;
  }
  return blocks;
}

/**
 * What to show next on the way to `wanted`: blocks with other words at once, and of those with other colours alone as many as the
 * browser does without a pause, in the `order` given.
 */
export function towards(shown: readonly Block[], wanted: readonly Block[], order: readonly number[]): Block[] {
  const next = [...wanted];
  let room = mostCells;
  for (const at of order) {
    const [old, block] = [shown[at], wanted[at]];
    if (old === undefined || block === undefined || old === block) continue;
    const recoloured = old.start === block.start && old.whole === block.whole && old.cells.length === block.cells.length && old.cells.every((cell, i) => cell.text === block.cells[i]?.text);
    if (!recoloured) continue;
    if (room > 0) room -= block.cells.length;
    else next[at] = old;
  }
  return next;
}
