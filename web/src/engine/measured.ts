/** What was measured of each graphics device, kept in the origin private file system: workers have no localStorage. */
import type { Precision, TokensPerSecond } from "./protocol.ts";

const FILE = "device-speeds.json";
/** Another measure, or an engine of another speed, starts anew. */
const VERSION = 2;
const MOST = 20;
const MAX_BYTES = 100_000;

/** Everything that the figures are of. */
export interface Measured {
  adapter: string;
  /** The model's `config.json`. */
  model: string;
  precision: Precision;
}

type Figures = Record<string, TokensPerSecond>;

const keyOf = ({ adapter, model, precision }: Measured) => JSON.stringify([VERSION, adapter, model, precision]);

/** What storage holds may be old, foreign or broken: anything unfit is forgotten. */
export function parseFigures(text: string): Figures {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof found !== "object" || found === null) return {};
  const speed = (value: unknown) => typeof value === "number" && Number.isFinite(value) && value > 0;
  const fit = Object.entries(found as Record<string, Partial<TokensPerSecond> | null>).filter(([, figures]) => speed(figures?.gpu) && speed(figures?.cpu));
  return Object.fromEntries(fit.slice(-MOST)) as Figures;
}

async function read(): Promise<Figures> {
  const root = await navigator.storage.getDirectory();
  const file = await (await root.getFileHandle(FILE)).getFile();
  return file.size > MAX_BYTES ? {} : parseFigures(await file.text());
}

export async function recall(what: Measured): Promise<TokensPerSecond | null> {
  try {
    return (await read())[keyOf(what)] ?? null;
  } catch {
    // No storage, or nothing in it.
    return null;
  }
}

export async function remember(what: Measured, figures: TokensPerSecond): Promise<void> {
  try {
    const known = await read().catch((): Figures => ({}));
    // The newest last, where it is kept longest.
    const others = Object.entries(known).filter(([key]) => key !== keyOf(what));
    const root = await navigator.storage.getDirectory();
    const writable = await (await root.getFileHandle(FILE, { create: true })).createWritable();
    await writable.write(JSON.stringify(Object.fromEntries([...others.slice(1 - MOST), [keyOf(what), figures]])));
    await writable.close();
  } catch {
    // It is measured again at the next visit.
  }
}
