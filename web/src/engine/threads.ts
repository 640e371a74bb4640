/**
 * The program on several threads: workers that share one memory. Only where the page is isolated from other origins, which
 * takes headers of its server, and where the module for it was built (`cargo xtask build` says when it cannot).
 */
import type { Fetch, OpenProgram, Program } from "./program.ts";

/** The module for shared memory, which has one function more. */
export interface ThreadedProgram extends Program {
  /** Makes the calling worker a thread, and does not return. */
  runThread(): void;
}

/** First message to a thread, which answers `null` when it is about to run. */
export interface ThreadStart {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  alarms: MessagePort;
}

/** Most threads: the work of one token has too few pieces for more. */
const MOST_THREADS = 4;

// The list is empty where the module was not built.
const [glue] = Object.values(import.meta.glob<ThreadedProgram>("../generated/threads/trimtab_wasm.js"));
const [address] = Object.values(import.meta.glob<string>("../generated/threads/trimtab_wasm_bg.wasm", { query: "?url", import: "default" }));

/** Loads the program on several threads; null where there is to be one. */
export async function openThreaded(fetch: Fetch, onThread: (port: MessagePort) => void): Promise<OpenProgram | null> {
  const threads = Math.min(navigator.hardwareConcurrency, MOST_THREADS);
  if (!glue || !address || !globalThis.crossOriginIsolated || threads < 2) return null;
  const program = await glue();
  const module = await WebAssembly.compileStreaming(fetch(await address()));
  const helpers: Worker[] = [];
  try {
    const wasm = await program.default({ module_or_path: module });
    // The worker that holds the model is the first thread.
    await Promise.all(Array.from({ length: threads - 1 }, () => startThread(helpers, { module, memory: wasm.memory }, onThread)));
    return { program, wasm };
  } catch {
    // A browser that grants no shared memory, or no workers of workers, has one thread.
    for (const helper of helpers) helper.terminate();
    return null;
  }
}

async function startThread(helpers: Worker[], shared: Omit<ThreadStart, "alarms">, onThread: (port: MessagePort) => void): Promise<void> {
  const helper = new Worker(new URL("./thread.ts", import.meta.url), { type: "module", name: "trimtab thread" });
  helpers.push(helper);
  const { port1, port2 } = new MessageChannel();
  const start: ThreadStart = { ...shared, alarms: port2 };
  helper.postMessage(start, [port2]);
  await new Promise<void>((resolve, reject) => {
    helper.onmessage = () => {
      resolve();
    };
    helper.onerror = ({ message }) => {
      reject(new Error(message));
    };
  });
  onThread(port1);
}
