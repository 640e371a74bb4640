/** A thread: a worker that runs the program on the memory of the worker that started it. */
import { fatalAlarm } from "./rpc.ts";
import type { ThreadedProgram, ThreadStart } from "./threads.ts";

const [glue] = Object.values(import.meta.glob<ThreadedProgram>("../generated/threads/trimtab_wasm.js"));

self.addEventListener("message", ({ data }: MessageEvent<ThreadStart>) => {
  void run(data);
});

async function run({ module, memory, alarms }: ThreadStart): Promise<void> {
  const program = await glue?.();
  if (!program) throw new Error("the program for threads is missing");
  await program.default({ module_or_path: module, memory } as Parameters<ThreadedProgram["default"]>[0]);
  const die = (message: string) => {
    alarms.postMessage(fatalAlarm(message));
  };
  program.onPanic(die);
  (self as unknown as { postMessage(message: null): void }).postMessage(null);
  try {
    program.runThread();
  } catch (thrown) {
    die(thrown instanceof Error ? thrown.message : String(thrown));
  }
}
