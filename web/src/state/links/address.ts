/** Addresses that links lead to, and what was pasted as one. */

/** The page's public address, set when it was built (`cargo xtask build --public-url`). */
export const publicAddress: string | null = addressFrom(import.meta.env["VITE_PUBLIC_URL"]);

export function addressFrom(value: unknown): string | null {
  if (typeof value !== "string" || !URL.canParse(value)) return null;
  const url = new URL(value);
  url.hash = "";
  return url.protocol === "https:" || url.protocol === "http:" ? url.href : null;
}

/** A page's address, for links, and the people who can open it there. */
export interface OwnAddress {
  address: string;
  reach: "everybody" | "network" | "machine" | "file";
}

/** The address that the page is open at; null where links cannot begin with it. */
export function ownAddress(here: string): OwnAddress | null {
  if (!URL.canParse(here)) return null;
  const url = new URL(here);
  url.hash = "";
  if (url.protocol === "file:") return { address: url.href, reach: "file" };
  if (url.protocol !== "http:" && url.protocol !== "https:") return null;
  return { address: url.href, reach: reachOf(url.hostname.replace(/^\[|\]$/g, "")) };
}

function reachOf(host: string): OwnAddress["reach"] {
  if (host === "localhost" || host.endsWith(".localhost") || host === "::1" || /^127(\.\d+){3}$/.test(host)) return "machine";
  const near = /^(10|192\.168|169\.254|172\.(1[6-9]|2\d|3[01])|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\.[\d.]+$/.test(host) || /^(fe[89ab]|f[cd])[\da-f]*:/.test(host);
  // A name without a dot, or of a home network, is known to the router alone.
  const name = !host.includes(":") && (!host.includes(".") || /\.(local|lan|home|internal|home\.arpa)$/.test(host));
  return near || name ? "network" : "everybody";
}

/** A sentence for those who cannot open a page's own address; empty where everybody can. */
export function reachSentence(reach: OwnAddress["reach"]): string {
  const paste = "Anybody can paste all of it into “Open a link or code” on another Trimtab page.";
  if (reach === "machine") return `This page is served from this machine alone, so the link opens on this machine only. ${paste}`;
  if (reach === "network") return `This page is served in your own network, so the link opens only there, and only while it is served. ${paste}`;
  if (reach === "file") return `This page is a file, so the link opens on this machine only, and it names the folders that the file lies in. ${paste}`;
  return "";
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
