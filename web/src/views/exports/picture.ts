/**
 * A question and its two coloured answers as a drawing: boxes and words at places. SVG and PNG are made
 * of the same drawing, so that they look alike; it is on white, for paper and slides.
 */

import { heatOnWhite, readingSpan, surpriseSpan } from "../heatmap/scale.ts";
import { signed } from "../../format.ts";
import type { Run } from "../../state/conversation/conversation.ts";
import type { Coloured, ColouredToken } from "./coloured.ts";

export type Shape =
  | { kind: "box"; x: number; y: number; width: number; height: number; fill: string; line: boolean }
  /** `y` is the baseline; `width` is what the layout counted on. */
  | { kind: "word"; x: number; y: number; text: string; size: number; bold: boolean; fill: string; width: number; title: string };

export interface Drawing {
  width: number;
  height: number;
  shapes: Shape[];
}

/** Width of a text in pixels. */
export type Measure = (text: string, size: number, bold: boolean) => number;

export const fontFamily = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";

const width = 1000;
const margin = 32;
const gap = 28;
const ink = "#1d2329";
const soft = "#565f68";
const line = 27;

class Page {
  readonly shapes: Shape[] = [];

  constructor(private readonly measure: Measure) {}

  word(text: string, x: number, y: number, size: number, { bold = false, fill = ink, title = "" } = {}): number {
    const wide = this.measure(text, size, bold);
    if (text.trim() !== "") this.shapes.push({ kind: "word", x, y, text, size, bold, fill, width: wide, title });
    return wide;
  }

  box(x: number, y: number, wide: number, height: number, fill: string, outlined = false): void {
    this.shapes.push({ kind: "box", x, y, width: wide, height, fill, line: outlined });
  }

  /** Words broken into lines; gives the baseline of the next line. */
  paragraph(text: string, x: number, y: number, wide: number, size: number, style: { bold?: boolean; fill?: string } = {}): number {
    const height = size * 1.4;
    for (const part of text.split("\n")) {
      let row = "";
      for (const word of part.split(" ")) {
        const longer = row === "" ? word : `${row} ${word}`;
        if (row !== "" && this.measure(longer, size, style.bold ?? false) > wide) {
          this.word(row, x, y, size, style);
          y += height;
          row = word;
        } else row = longer;
      }
      this.word(row, x, y, size, style);
      y += height;
    }
    return y;
  }

  /** Coloured tokens broken into lines; gives the baseline of the next line. */
  tokens(tokens: readonly ColouredToken[], scale: Coloured["scale"], x: number, y: number, wide: number): number {
    const size = 17;
    let at = x;
    for (const { token, value } of tokens) {
      const [first = "", ...others] = token.text.split("\n");
      for (const [row, text] of [first, ...others].entries()) {
        if (row > 0) {
          at = x;
          y += line;
        }
        let words = text;
        let lead = this.measure(words.slice(0, words.length - words.trimStart().length), size, false);
        const body = this.measure(words.trimStart(), size, false);
        if (at > x && at + lead + body > x + wide) {
          at = x;
          y += line;
        }
        if (at === x) {
          words = words.trimStart();
          lead = 0;
        }
        if (lead + body === 0) continue;
        const fill = scale === null ? null : heatOnWhite(value, scale);
        if (fill !== null && fill !== "#ffffff") this.box(at, y - size, lead + body, size * 1.4, fill);
        const title = value === null || scale === null ? "" : scale === "reading" ? signed(value, 2) : value.toFixed(2);
        this.word(words.trim(), at + lead, y, size, { title });
        at += lead + body;
      }
    }
    return y + line;
  }
}

export function draw(question: string, run: Run, shown: Coloured, measure: Measure): Drawing {
  const page = new Page(measure);
  let y = page.paragraph(question, margin, margin + 22, width - 2 * margin, 22, { bold: true }) + 8;

  const column = (width - 2 * margin - gap) / 2;
  const bottoms = shown.answers.map((answer, at) => {
    const x = margin + at * (column + gap);
    const head = answer.column === "unsteered" ? "Unsteered" : `Steered: ${answer.push}`;
    const below = page.paragraph(head, x, y + 14, column, 14, { bold: true, fill: soft });
    return page.tokens(answer.tokens, shown.scale, x, below + 10, column);
  });
  y = Math.max(...bottoms) + 6;

  y = legend(page, shown, y);
  const facts = [
    shown.scale === "reading" && shown.trait !== null ? `Colours: ${shown.trait.name} at layer ${String(shown.layer)}, ${shown.readBy}, in standard deviations from what is ordinary for this model.` : "",
    shown.scale === "surprise" ? `Colours: surprise (−log p, in nats), ${shown.readBy}.` : "",
    `${run.model.name} (${run.model.sha256.slice(0, 12)}), ${run.model.backend.toUpperCase()}, ${run.model.precision}; temperature ${String(run.sampler.temperature)}, seed ${String(run.sampler.seed)}. Made with Trimtab.`,
  ].filter((one) => one !== "");
  for (const fact of facts) y = page.paragraph(fact, margin, y, width - 2 * margin, 12, { fill: soft });
  return { width, height: Math.ceil(y + margin - 12), shapes: page.shapes };
}

/** The colours with their numbers; gives the baseline of the next line. */
function legend(page: Page, shown: Coloured, top: number): number {
  if (shown.scale === null) return top;
  const scale = shown.scale;
  const steps = 25;
  const wide = 240;
  const reading = scale === "reading";
  const less = reading ? shown.trait?.opposite || `less ${shown.trait?.name ?? ""}` : "expected";
  const x = margin + page.word(less, margin, top + 13, 13, { fill: soft }) + 10;
  for (let at = 0; at < steps; at += 1) {
    const value = reading ? ((at - 12) / 12) * readingSpan : (at / (steps - 1)) * surpriseSpan;
    page.box(x + (at * wide) / steps, top, wide / steps, 14, heatOnWhite(value, scale) ?? "#ffffff");
  }
  page.box(x, top, wide, 14, "none", true);
  page.word(reading ? (shown.trait?.name ?? "") : "surprising", x + wide + 10, top + 13, 13, { fill: soft });
  const ends = reading ? ["−3", "0 ordinary", "+3"] : ["0", "", surpriseSpan.toFixed(1)];
  page.word(ends[0] ?? "", x, top + 30, 12, { fill: soft });
  page.word(ends[1] ?? "", x + wide / 2 - 28, top + 30, 12, { fill: soft });
  page.word(ends[2] ?? "", x + wide - 20, top + 30, 12, { fill: soft });
  return top + 56;
}

const escaped = (text: string) =>
  text
    // XML cannot hold these characters at all.
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, "\ufffd")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

const round = (value: number) => String(Math.round(value * 10) / 10);

export function toSvg({ width: wide, height, shapes }: Drawing, title: string): string {
  const parts = shapes.map((shape) =>
    shape.kind === "box"
      ? `<rect x="${round(shape.x)}" y="${round(shape.y)}" width="${round(shape.width)}" height="${round(shape.height)}" fill="${shape.fill}"${shape.line ? ' stroke="#8b8f92"' : ' rx="2"'}/>`
      : `<text x="${round(shape.x)}" y="${round(shape.y)}" font-size="${String(shape.size)}"${shape.bold ? ' font-weight="600"' : ""} fill="${shape.fill}"${shape.width > 0 ? ` textLength="${round(shape.width)}" lengthAdjust="spacingAndGlyphs"` : ""}>${shape.title === "" ? "" : `<title>${escaped(shape.title)}</title>`}${escaped(shape.text)}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${String(wide)}" height="${String(height)}" viewBox="0 0 ${String(wide)} ${String(height)}" font-family="${escaped(fontFamily)}" role="img"><title>${escaped(title)}</title><rect width="100%" height="100%" fill="#ffffff"/>${parts.join("\n")}</svg>\n`;
}
