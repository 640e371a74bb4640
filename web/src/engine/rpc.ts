/**
 * What the client and the worker post to each other. By hand rather than with Comlink, because calls
 * in flight must fail with a sentence when the worker dies, and errors must cross as {@link Failure}s.
 */
import type { Engine, Failure } from "./protocol.ts";

/** Everything the worker does for the page. */
export type Verbs = Omit<Engine, "onFailure">;
export type Verb = keyof Verbs;

export interface Call {
  call: number;
  verb: Verb;
  /** Without the listener that `load`, `generate` and `replayLink` take last. */
  inputs: unknown[];
  /** Whether the caller listens to events. */
  listens: boolean;
}

export type Reply =
  | { call: number; event: unknown }
  | { call: number; result: unknown }
  | { call: number; failure: Failure };

/** Of no call: the device was lost, or nothing more will come from this worker (`fatal`). */
export interface Alarm {
  alarm: Failure;
  fatal: boolean;
}

/** Alarms of a thread come straight from it: the worker that waits for it hears and says nothing. */
export interface ThreadPort {
  thread: MessagePort;
}

export type FromWorker = Reply | Alarm | ThreadPort;

/** What ends a worker or one of its threads, in a sentence. */
export function fatalAlarm(message: string): Alarm {
  const memory = /memory|out of bounds/i.test(message);
  return {
    alarm: memory
      ? {
          kind: "out-of-memory",
          message: `The model ran out of this tab's memory (${message}). Close other tabs or choose a shorter context, then load it again; your conversation is kept.`,
        }
      : { kind: "internal", message: `The model's program stopped unexpectedly (${message}). Load the model again; your conversation is kept.` },
    fatal: true,
  };
}

/** The buffers of a result's typed arrays, to be moved instead of copied. */
export function transferable(result: unknown): Transferable[] {
  const values = ArrayBuffer.isView(result) ? [result] : typeof result === "object" && result !== null ? Object.values(result) : [];
  const buffers = new Set<ArrayBuffer>();
  for (const value of values) {
    if (ArrayBuffer.isView(value) && value.buffer instanceof ArrayBuffer) buffers.add(value.buffer);
  }
  return [...buffers];
}
