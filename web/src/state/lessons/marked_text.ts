/**
 * The marks that a lesson's text may have: paragraphs apart by empty lines, lists of lines that begin
 * with `- `, quotes of lines that begin with `> `, `*stress*`, and `[[word]]` or `[[shown|word]]` for a
 * word with its meaning. Everything else is shown as it stands.
 */

export interface Piece {
  text: string;
  stressed: boolean;
  /** The marked word in lower case; null for ordinary text. */
  word: string | null;
}

export interface Block {
  kind: "paragraph" | "list" | "quote";
  /** Lines of pieces; a paragraph has one. */
  lines: Piece[][];
}

export function blocksOf(text: string): Block[] {
  const blocks: Block[] = [];
  for (const part of text.split(/\n\s*\n/)) {
    let open: Block | undefined;
    for (const raw of part.split("\n")) {
      const line = raw.trim();
      if (line === "") continue;
      const [kind, words]: [Block["kind"], string] = line.startsWith("- ") ? ["list", line.slice(2)] : line.startsWith("> ") ? ["quote", line.slice(2)] : ["paragraph", line];
      const last = open?.lines.at(-1);
      if (kind === "paragraph" && last !== undefined && open?.kind !== "quote") {
        // A line goes on where the one before it ended.
        last.push({ text: " ", stressed: false, word: null }, ...piecesOf(words));
      } else if (open !== undefined && open.kind === kind) {
        open.lines.push(piecesOf(words));
      } else {
        open = { kind, lines: [piecesOf(words)] };
        blocks.push(open);
      }
    }
  }
  return blocks;
}

const marks = /\[\[([^[\]|\n]{1,80})(?:\|([^[\]|\n]{1,80}))?\]\]|\*([^*\n]{1,200})\*/g;

function piecesOf(line: string): Piece[] {
  const pieces: Piece[] = [];
  let from = 0;
  const plain = (to: number) => {
    if (to > from) pieces.push({ text: line.slice(from, to), stressed: false, word: null });
  };
  for (const found of line.matchAll(marks)) {
    plain(found.index);
    const [whole, shown, word, stressed] = found;
    if (shown !== undefined) pieces.push({ text: shown, stressed: false, word: (word ?? shown).trim().toLowerCase() });
    else pieces.push({ text: stressed ?? "", stressed: true, word: null });
    from = found.index + whole.length;
  }
  plain(line.length);
  return pieces;
}

/** The text without its marks. */
export function plainText(text: string): string {
  return blocksOf(text)
    .map((block) => block.lines.map((line) => line.map((piece) => piece.text).join("")).join("\n"))
    .join("\n\n");
}
