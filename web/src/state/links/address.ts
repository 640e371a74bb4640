/** Addresses that links lead to, and what was pasted as one. */

/**
 * The page's public address, set when it was built (`cargo xtask build --public-url`). Without one, the page may be a
 * laptop's or a file's, which nobody else can open: then a code is shared, for "Open a link or code" on any such page.
 */
export const publicAddress: string | null = addressFrom(import.meta.env["VITE_PUBLIC_URL"]);

export function addressFrom(value: unknown): string | null {
  if (typeof value !== "string" || !URL.canParse(value)) return null;
  const url = new URL(value);
  url.hash = "";
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
}

/** A lesson's link: its address may be this page's own, where others can reach that. */
export function lessonLink(place: string, address: string | null, here: string): string {
  const own = /^https?:/.test(here) ? here.replace(/#.*$/, "") : "";
  return `${address ?? own}#${place}`;
}

/** The text that a visitor sends: a link where there is an address, else the code alone. */
export function sendable(code: string, address: string | null): string {
  return address === null ? code : `${address}#r=${code}`;
}

/**
 * The part after the `#` for a pasted text: a link to a run or a lesson, a code, or one of these as mail and
 * chat programs hand them on. Empty where nothing was pasted. What is not plainly a link to a run or its code goes as it is
 * to the engine, which finds the code in it.
 */
export function placeIn(pasted: string): string {
  const text = pasted.trim();
  const lesson = /#(lessons\/l=[\w-]*)/.exec(text.replace(/[\s>\u00ad\u200b-\u200f\u2060\ufeff]/g, ""))?.[1];
  if (lesson !== undefined) return lesson;
  const code = /^(?:\S*#r=)?([\w-]+)$/.exec(text)?.[1];
  return text === "" ? "" : `r=${code ?? encodeURIComponent(text)}`;
}
