/** Comma-separated values (RFC 4180). The ten lines are shorter than any library's options. */

export type Cell = string | number | null;

/**
 * Texts that a spreadsheet would take for a formula get an apostrophe in front: a model's words, or a
 * stranger's trait name, must not compute anything when the file is opened.
 */
function cell(value: Cell): string {
  if (value === null) return "";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  const text = /^\s*[=+\-@＝＋－＠]|^[\t\r\n]/.test(value) ? `'${value}` : value;
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(rows: readonly (readonly Cell[])[]): string {
  return rows.map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}
