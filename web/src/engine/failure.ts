import type { Failure } from "./protocol.ts";

/** A {@link Failure} that can be thrown, so that rejected promises also satisfy code that expects an `Error`. */
export class EngineFailure extends Error implements Failure {
  readonly kind: Failure["kind"];

  constructor(kind: Failure["kind"], message: string) {
    super(message);
    this.name = "EngineFailure";
    this.kind = kind;
  }
}

const kinds: ReadonlySet<string> = new Set<Failure["kind"]>([
  "no-webgpu",
  "device-lost",
  "out-of-memory",
  "wrong-numbers",
  "download",
  "corrupt-model",
  "context-full",
  "quota",
  "internal",
  "usage",
]);

function isFailure(value: unknown): value is Failure {
  if (typeof value !== "object" || value === null) return false;
  const { kind, message } = value as Partial<Record<keyof Failure, unknown>>;
  return typeof kind === "string" && kinds.has(kind) && typeof message === "string";
}

/** The thrown value as a plain object that can be posted between threads. */
export function toFailure(thrown: unknown): Failure {
  if (isFailure(thrown)) return { kind: thrown.kind, message: thrown.message };
  if (thrown instanceof DOMException && thrown.name === "QuotaExceededError") {
    return { kind: "quota", message: "The browser has no room left for this page. Delete old conversations or downloads, or make room on the disk, and try again." };
  }
  if (thrown instanceof RangeError && /memory/i.test(thrown.message)) {
    return {
      kind: "out-of-memory",
      message: "This browser tab ran out of memory. Close other tabs, or load the model with a shorter context, and try again.",
    };
  }
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return { kind: "internal", message: `Something went wrong inside Trimtab (${reason}). Reload the page; what you wrote is kept.` };
}

export function toError(failure: Failure): EngineFailure {
  return new EngineFailure(failure.kind, failure.message);
}
