/** The page's program in this worker: compiled once, and heard when it breaks. */
import type { InitOutput } from "../generated/simd/trimtab_wasm.js";
import { EngineFailure, toFailure } from "./failure.ts";
import { pageFiles } from "./page_files.ts";
import { openProgram, type Program } from "./program.ts";
import { fatalAlarm, type FromWorker } from "./rpc.ts";

export const files = pageFiles();

export const post = (message: FromWorker, transfer: Transferable[] = []) => {
  (self as unknown as { postMessage(message: FromWorker, transfer: Transferable[]): void }).postMessage(message, transfer);
};

let fatal = false;
const die = (message: string) => {
  if (fatal) return;
  fatal = true;
  post(fatalAlarm(message));
};

self.addEventListener("error", (event) => {
  die(event.message);
});
self.addEventListener("unhandledrejection", (event) => {
  die(toFailure(event.reason).message);
});

/** Resolves after the messages that wait have been handled; timers would take 4 ms. */
const pause = (() => {
  const { port1, port2 } = new MessageChannel();
  const waiting: (() => void)[] = [];
  port1.onmessage = () => waiting.shift()?.();
  return () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve);
      port2.postMessage(null);
    });
})();

/** The program's class: it converts, and the studio does. What crosses is described in `studio.ts`. */
export interface Trimtab {
  tryDevice(config: Uint8Array, precision: string, timed: boolean, variant?: string): Promise<unknown>;
  open(files: Map<string, Blob>, options: object, progress: (progress: { bytesDone: number; bytesTotal: number }) => void): Promise<void>;
  card(): unknown;
  /** Run number `run` of a verb, with what it takes (several things as a list). */
  call(run: number, verb: string, input: unknown, onEvent?: (event: unknown) => void): Promise<unknown>;
  /** Resolves when the run goes on under the plan, or has ended. */
  setPlan(run: number, plan: unknown): Promise<void>;
  stop(run: number): void;
  deviceBytes(): number;
}

interface Started {
  program: Program;
  wasm: InitOutput;
  trimtab: Trimtab;
}

let started: Promise<Started> | undefined;

/** Compiles the program once. */
export function start(): Promise<Started> {
  started ??= openProgram(files.fetch, (thread) => {
    post({ thread }, [thread]);
  }).then(
    ({ program, wasm }) => {
      program.onPanic(die);
      return { program, wasm, trimtab: new program.Trimtab(pause) as unknown as Trimtab };
    },
    (error: unknown) => {
      started = undefined;
      if (error instanceof EngineFailure) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new EngineFailure("download", `The page's own program could not be loaded (${reason}). Check the connection and reload the page.`);
    },
  );
  return started;
}
