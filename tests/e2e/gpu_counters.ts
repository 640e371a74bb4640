/** Counts what the worker asks of WebGPU, from outside. */
import type { Page } from "@playwright/test";
import { beforeWorker } from "./worker_source.ts";

interface GpuCounts {
  /** Calls of `GPUDevice.create*` by name. */
  creates: Record<string, number>;
  submissions: number;
  dispatches: number;
  /** Bytes of each `mapAsync` for reading. */
  readbacks: number[];
}

/** Wraps the prototypes of GPUDevice, GPUQueue, GPUBuffer and the compute pass. */
const countingSource = `
{
  const counts = { creates: {}, submissions: 0, dispatches: 0, readbacks: [] };
  globalThis.gpuCounts = counts;
  const wrap = (type, name, before) => {
    const prototype = globalThis[type]?.prototype;
    const original = prototype?.[name];
    if (!original) return;
    prototype[name] = function (...inputs) {
      before.apply(this, inputs);
      return original.apply(this, inputs);
    };
  };
  for (const name of Object.getOwnPropertyNames(globalThis.GPUDevice?.prototype ?? {})) {
    if (name.startsWith("create")) wrap("GPUDevice", name, () => { counts.creates[name] = (counts.creates[name] ?? 0) + 1; });
  }
  wrap("GPUQueue", "submit", () => { counts.submissions += 1; });
  wrap("GPUComputePassEncoder", "dispatchWorkgroups", () => { counts.dispatches += 1; });
  wrap("GPUComputePassEncoder", "dispatchWorkgroupsIndirect", () => { counts.dispatches += 1; });
  wrap("GPUBuffer", "mapAsync", function (mode, offset = 0, size = this.size - offset) {
    if (mode === GPUMapMode.READ) counts.readbacks.push(size);
  });
}
`;

/** Before the page is opened: puts the counters, and what else a test wants there, in front of the worker's script. */
export async function countGpu(page: Page, further = ""): Promise<void> {
  await beforeWorker(page, countingSource + further);
}

/** What each decoded token asks of the device; and of all of them, the sizes of readbacks and the calls that make an object. */
export interface TokenCost {
  dispatches: number;
  submissions: number;
  readbacks: number;
  readbackBytes: number[];
  made: string[];
  seconds: number;
}

/** Of a page with the model on the GPU executor: answers to a prompt that is in the cache already, which differ in nothing but decoded tokens. */
export async function costOfToken(page: Page, tokens: number): Promise<TokenCost> {
  const first = 4;
  // The first run fills the cache.
  await answerOf(page, first);
  const before = await counted(page);
  const short = await answerOf(page, first);
  const between = await counted(page);
  const long = await answerOf(page, first + tokens);
  const after = await counted(page);
  const more = (count: (counts: GpuCounts) => number) => count(after) - count(between) - (count(between) - count(before));
  return {
    dispatches: more(({ dispatches }) => dispatches) / tokens,
    submissions: more(({ submissions }) => submissions) / tokens,
    readbacks: more(({ readbacks }) => readbacks.length) / tokens,
    readbackBytes: after.readbacks.slice(between.readbacks.length),
    made: Object.keys(after.creates).filter((name) => more(({ creates }) => creates[name] ?? 0) > 0),
    seconds: (long - short) / tokens,
  };
}

/** Seconds of a greedy answer of so many tokens. */
async function answerOf(page: Page, maxTokens: number): Promise<number> {
  const { tokens, seconds } = await page.evaluate(async (maxTokens) => {
    const start = performance.now();
    const [result] = await globalThis.trimtab.generate(
      {
        columns: [{ column: "unsteered", messages: [{ role: "user", content: "Tell me a long story about the sea." }], plan: [] }],
        sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 },
        maxTokens,
      },
      () => undefined,
    );
    return { tokens: (result?.tokens.length ?? 0) - (result?.answerStart ?? 0), seconds: (performance.now() - start) / 1000 };
  }, maxTokens);
  if (tokens !== maxTokens) throw new Error(`the answer has ${String(tokens)} tokens, not ${String(maxTokens)}`);
  return seconds;
}

async function counted(page: Page): Promise<GpuCounts> {
  const counts = await page.workers()[0]?.evaluate(() => structuredClone((globalThis as unknown as { gpuCounts?: GpuCounts }).gpuCounts));
  if (!counts) throw new Error("the worker's script was not counted");
  return counts;
}
