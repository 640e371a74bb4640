/** FiguresKey speeds of graphics devices, kept in the origin private file system: workers have no localStorage. */
import type { DeviceFigures, Precision } from "./protocol.ts";

const FILE = "device-speeds.json";
/** Raised when the measurement or the engine's speed changes, so that old figures are dropped. */
const VERSION = 2;
const MOST = 20;
const MAX_BYTES = 100_000;
/** Longest name of a variant. */
const MAX_LETTERS = 100;

/** The device, model and arithmetic that figures belong to. */
export interface FiguresKey {
  adapter: string;
  /** Text of the model's `config.json`. */
  model: string;
  precision: Precision;
}

type Figures = Record<string, DeviceFigures>;

const keyOf = ({ adapter, model, precision }: FiguresKey) => JSON.stringify([VERSION, adapter, model, precision]);

/** Reads stored figures. They may be old, foreign or broken: whatever is unfit is dropped. */
export function parseFigures(text: string): Figures {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return {};
  }
  if (typeof found !== "object" || found === null) return {};
  const speed = (value: unknown) => typeof value === "number" && Number.isFinite(value) && value > 0;
  const name = (value: unknown) => value === undefined || (typeof value === "string" && value.length <= MAX_LETTERS);
  const fit = Object.entries(found as Record<string, Partial<DeviceFigures> | null>).filter(
    ([, figures]) => speed(figures?.gpu) && speed(figures?.cpu) && name(figures?.variant),
  );
  return Object.fromEntries(fit.slice(-MOST)) as Figures;
}

async function read(): Promise<Figures> {
  const root = await navigator.storage.getDirectory();
  const file = await (await root.getFileHandle(FILE)).getFile();
  return file.size > MAX_BYTES ? {} : parseFigures(await file.text());
}

export async function recall(what: FiguresKey): Promise<DeviceFigures | null> {
  try {
    return (await read())[keyOf(what)] ?? null;
  } catch {
    // There is no storage, or nothing in it.
    return null;
  }
}

export async function remember(what: FiguresKey, figures: DeviceFigures): Promise<void> {
  try {
    const known = await read().catch((): Figures => ({}));
    // The newest entry comes last, where it is kept longest.
    const others = Object.entries(known).filter(([key]) => key !== keyOf(what));
    const root = await navigator.storage.getDirectory();
    const writable = await (await root.getFileHandle(FILE, { create: true })).createWritable();
    await writable.write(JSON.stringify(Object.fromEntries([...others.slice(1 - MOST), [keyOf(what), figures]])));
    await writable.close();
  } catch {
    // It is measured again at the next visit.
  }
}
