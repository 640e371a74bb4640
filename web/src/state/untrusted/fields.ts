/** Readers of values from files that may come from anybody: each value is checked and bounded, and errors say where it stands. */

/** A file that cannot be read; the message says what is wrong, and where. */
export class FileError extends Error {
  override name = "FileError";
}

const maxText = 200_000;
const maxBytes = 64 << 20;

type Fields = Record<string, unknown>;

export function object(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new FileError(`The file is damaged: ${where} is not there.`);
  return value as Fields;
}

export function list<T>(value: unknown, where: string, most: number, read: (item: unknown, where: string) => T): T[] {
  if (!Array.isArray(value) || value.length > most) throw new FileError(`The file is damaged: ${where} should be a list of at most ${String(most)} entries.`);
  return value.map((item, at) => read(item, `${where}, entry ${String(at + 1)}`));
}

export function text(value: unknown, where: string, longest = maxText): string {
  if (typeof value !== "string" || value.length > longest) throw new FileError(`The file is damaged: ${where} should be a text.`);
  return value;
}

export function number(value: unknown, where: string, min = -1e9, max = 1e15): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value < min || value > max) throw new FileError(`The file is damaged: ${where} should be a number.`);
  return value;
}

export const whole = (value: unknown, where: string, max = 1e9): number => Math.round(number(value, where, 0, max));

/** A number, or NaN for null: JSON has no NaN. */
export const orNaN = (value: unknown, where: string): number => (value === null ? Number.NaN : number(value, where));

export const orNull = <T>(value: unknown, read: (value: unknown) => T): T | null => (value === null || value === undefined ? null : read(value));

export function oneOf<T extends string>(value: unknown, allowed: readonly T[], where: string): T {
  const found = allowed.find((one) => one === value);
  if (found === undefined) throw new FileError(`The file is damaged: ${where} should be one of ${allowed.join(", ")}.`);
  return found;
}

/** Bytes from `{u8: base64}`. */
export function bytes(value: unknown, where: string): Uint8Array {
  const packed = text(object(value, where)["u8"], where, maxBytes * 2);
  try {
    return Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  } catch {
    throw new FileError(`The file is damaged: ${where} is not base64.`);
  }
}
