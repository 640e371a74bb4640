/**
 * What the client and the worker post to each other. By hand rather than with Comlink, because calls
 * in flight must fail with a sentence when the worker dies, and errors must cross as {@link Failure}s.
 */
import type { Engine, Failure, Plan } from "./protocol.ts";
import type { StudioVerbs } from "./studio.ts";

/** What the worker does for the page beside the studio's verbs. */
export type PageVerbs = Pick<Engine, "catalogue" | "describeModel" | "lookUpModel" | "fetchModel" | "load" | "cancelLoad" | "replayLink" | "traitReport" | "removeCached" | "storedFiles" | "removeStored" | "memory"> & {
  /** Gives the call `run` another plan. */
  setPlan(run: number, plan: Plan): Promise<void>;
  /** Ends the call `run`. */
  stop(run: number): Promise<void>;
};

/** Whether a verb tells events, and whether it waits for no verb before it. */
export const PAGE_VERBS = {
  catalogue: { listens: false, immediate: true },
  describeModel: { listens: false, immediate: false },
  lookUpModel: { listens: false, immediate: true },
  fetchModel: { listens: true, immediate: false },
  load: { listens: true, immediate: false },
  cancelLoad: { listens: false, immediate: true },
  setPlan: { listens: false, immediate: true },
  stop: { listens: false, immediate: true },
  replayLink: { listens: true, immediate: false },
  traitReport: { listens: false, immediate: true },
  removeCached: { listens: false, immediate: false },
  storedFiles: { listens: false, immediate: true },
  removeStored: { listens: false, immediate: false },
  memory: { listens: false, immediate: true },
} as const satisfies Record<keyof PageVerbs, { listens: boolean; immediate: boolean }>;

export type Verb = keyof PageVerbs | Exclude<keyof StudioVerbs, keyof PageVerbs>;

export interface Call {
  /** The run's number, by which it is given plans and stopped. */
  call: number;
  verb: Verb;
  /** Without a listener. */
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
