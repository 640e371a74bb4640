/** What a decoded token asks of WebGPU, counted from outside. */
import { gzipSync } from "node:zlib";
import type { Worker } from "@playwright/test";
import { address, expect, load, test } from "./browser.ts";
import { countingSource, type GpuCounts } from "./gpu_counters.ts";

const TOKENS = 16;

test("a decoded token makes one submission, few dispatches, one small readback and no object", async ({ visitor }) => {
  const page = await visitor.newPage();
  await page.route(/worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: countingSource + (await response.text()) });
  });
  await page.goto(address);
  await load(page, { backend: "gpu", precision: "fast" });
  const worker = page.workers()[0];
  if (!worker) throw new Error("the page has no worker");

  const run = (maxTokens: number) =>
    page.evaluate(async (maxTokens) => {
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

  // The first run fills the cache; the next two both start from the whole prompt in it and differ only in decoded tokens.
  await run(4);
  const before = await counted(worker);
  const short = await run(4);
  const between = await counted(worker);
  const long = await run(4 + TOKENS);
  const after = await counted(worker);
  expect(short.tokens).toBe(4);
  expect(long.tokens).toBe(4 + TOKENS);
  console.log(`decoded ${String(TOKENS)} tokens in ${(long.seconds - short.seconds).toFixed(2)} s in the browser, fast`);

  const dispatches = after.dispatches - between.dispatches - (between.dispatches - before.dispatches);
  const submissions = after.submissions - between.submissions - (between.submissions - before.submissions);
  const readbacks = after.readbacks.slice(between.readbacks.length);
  const fewerReadbacks = readbacks.length - (between.readbacks.length - before.readbacks.length);
  console.log(`a token: ${String(dispatches / TOKENS)} dispatches, ${String(submissions / TOKENS)} submissions, ${String(fewerReadbacks / TOKENS)} readbacks`);
  expect(dispatches).toBeGreaterThan(0);
  expect(dispatches / TOKENS).toBeLessThanOrEqual(130);
  expect(submissions / TOKENS).toBeLessThanOrEqual(1);
  expect(fewerReadbacks / TOKENS).toBeLessThanOrEqual(1);
  expect(Math.max(...readbacks)).toBeLessThanOrEqual(4096);

  const made = Object.keys(after.creates).filter(
    (name) => (after.creates[name] ?? 0) - (between.creates[name] ?? 0) > (between.creates[name] ?? 0) - (before.creates[name] ?? 0),
  );
  expect(made.filter((name) => name !== "createCommandEncoder")).toEqual([]);
  await page.close();
});

async function counted(worker: Worker): Promise<GpuCounts> {
  const counts = await worker.evaluate(() => structuredClone((globalThis as unknown as { gpuCounts?: GpuCounts }).gpuCounts));
  if (!counts) throw new Error("the worker's script was not counted");
  return counts;
}

test("the page's own code is light", async ({ page }) => {
  const sizes = { js: 0, css: 0, wasm: 0 };
  const read: Promise<void>[] = [];
  page.on("response", (response) => {
    const kind = /\.(js|css|wasm)$/.exec(new URL(response.url()).pathname)?.[1] as keyof typeof sizes | undefined;
    if (kind) read.push(response.body().then((body) => void (sizes[kind] += gzipSync(body, { level: 9 }).length)));
  });
  await page.goto(address);
  await expect.poll(() => page.evaluate(() => "trimtab" in globalThis)).toBe(true);
  // A link that is none starts the program all the same.
  await page.evaluate(() => globalThis.trimtab.openLink("none").catch(() => undefined));
  await expect.poll(() => sizes.wasm).toBeGreaterThan(0);
  await Promise.all(read);
  console.log(`gzipped: ${String(sizes.wasm)} bytes of WebAssembly, ${String(sizes.js)} of JavaScript, ${String(sizes.css)} of CSS`);
  expect(sizes.js).toBeGreaterThan(0);
  expect(sizes.js + sizes.css).toBeLessThanOrEqual(150_000);
  expect(sizes.wasm).toBeLessThanOrEqual(1_300_000);
});
