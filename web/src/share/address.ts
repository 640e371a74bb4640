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

/** What a visitor sends: a link where there is an address, else the code alone. */
export function sendable(code: string, address: string | null): string {
  return address === null ? code : `${address}#r=${code}`;
}

/** The code in whatever was pasted: a link, a code, or either with spaces and line breaks of a mail program. */
export function codeIn(pasted: string): string {
  const text = pasted.replace(/\s+/g, "");
  const at = text.lastIndexOf("#r=");
  return at < 0 ? text : text.slice(at + 3);
}
