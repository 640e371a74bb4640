/** Where links lead. */

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

/** What a visitor sends: a link where there is an address, else the code alone. */
export function sendable(code: string, address: string | null): string {
  return address === null ? code : `${address}#r=${code}`;
}

/**
 * What is after the `#` of whatever was pasted: a link to a run or a lesson, a code, or one of these with the spaces and line
 * breaks of a mail program. Empty where nothing was pasted.
 */
export function placeIn(pasted: string): string {
  const text = pasted.replace(/\s+/g, "");
  const place = /#((?:r=|lessons\/l=).*)$/.exec(text)?.[1];
  return place ?? (text === "" ? "" : `r=${text}`);
}
