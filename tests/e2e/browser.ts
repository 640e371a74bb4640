/** The browser under test, and what every test watches in it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test as base, chromium, expect, type BrowserContext, type Page } from "@playwright/test";
import type { Engine } from "../../web/src/engine/protocol.ts";
import { launch } from "./launch.ts";
import { beforeWorker } from "./worker_source.ts";

declare global {
  var trimtab: Engine;
}

export { expect };

export const address = process.env["TRIMTAB_URL"] ?? "http://127.0.0.1:8420";
export const full = process.env["TRIMTAB_FULL"] === "1";
export const modelId = "smollm2-135m-instruct";
/** The page in one file and the folder for any host, and the model in them: the published ones, or what a quick run made with a random model. */
export const portable = {
  file: process.env["TRIMTAB_ONE_FILE"] ?? fileURLToPath(new URL("../../dist/trimtab-offline.html", import.meta.url)),
  site: process.env["TRIMTAB_SITE"] ?? fileURLToPath(new URL("../../dist/site", import.meta.url)),
  modelId: process.env["TRIMTAB_SITE"] === undefined ? modelId : "random-two-blocks",
};

/** Everything a page says on its console as an error, or throws. */
export function complaints(context: BrowserContext): string[] {
  const heard: string[] = [];
  context.on("console", (message) => {
    if (message.type() === "error") heard.push(message.text());
  });
  context.on("weberror", (error) => heard.push(String(error.error())));
  return heard;
}

/**
 * A browser with empty storage of its own, which it keeps until `leave`, started with further `flags`. Only with `app` does a service
 * worker keep the page: it would answer requests that tests want to see or to change. With `touch`, fingers work beside the mouse.
 */
export async function newVisitor({ app = false, touch = false, flags = [] as readonly string[] } = {}): Promise<{ context: BrowserContext; leave: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-visitor-"));
  const args = [...(launch.args ?? []), ...flags];
  const context = await chromium.launchPersistentContext(folder, { ...launch, args, hasTouch: touch, serviceWorkers: app ? "allow" : "block" });
  let left = false;
  const leave = async () => {
    if (left) return;
    left = true;
    await context.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { context, leave };
}

interface Fixtures {
  /** A page without a model; the test fails when it complains. */
  fresh: Page;
  /** A browser that was never here; the next test has another. */
  stranger: BrowserContext;
}

interface WorkerFixtures {
  /** A browser whose storage is kept from page to page, as a visitor's is; the model is cached after its first load. */
  visitor: BrowserContext;
}

export const test = base.extend<Fixtures, WorkerFixtures>({
  fresh: async ({ context, page }, use) => {
    const heard = complaints(context);
    await page.goto(address);
    await use(page);
    expect(heard, "errors on the console").toEqual([]);
  },
  stranger: async ({}, use) => {
    const { context, leave } = await newVisitor();
    await use(context);
    await leave();
  },
  visitor: [
    async ({}, use) => {
      const { context, leave } = await newVisitor();
      await use(context);
      await leave();
    },
    { scope: "worker" },
  ],
});

export interface Executor {
  backend: "gpu" | "cpu";
  precision: "exact" | "fast";
  /** The program's other module, for browsers that do not know relaxed SIMD. */
  withoutRelaxedSimd?: boolean;
}

/** A page of the visitor's with the model loaded by its verb. */
export async function pageWithModel(visitor: BrowserContext, executor: Executor): Promise<Page> {
  const page = await visitor.newPage();
  if (executor.withoutRelaxedSimd === true) {
    await beforeWorker(page, "WebAssembly.validate = () => false;");
  }
  await page.goto(address);
  await load(page, executor);
  return page;
}

export async function load(page: Page, { backend, precision, withoutRelaxedSimd }: Executor, id = modelId): Promise<void> {
  await expect.poll(() => page.evaluate(() => "trimtab" in globalThis), { message: "the page offers its verbs" }).toBe(true);
  const loaded = await page.evaluate(
    async ({ id, backend, precision }) => {
      const model = await globalThis.trimtab.load({ kind: "catalogue", id }, { backend, precision }, () => undefined);
      const { wasmBytes } = await globalThis.trimtab.memory();
      return { backend: model.backend, precision: model.precision, adapter: model.adapter, trial: model.trial, wasmBytes };
    },
    { id, backend, precision },
  );
  expect(loaded).toMatchObject({ backend, precision });
  // WebAssembly's memory never shrinks, so this was its peak while loading.
  console.log(`WebAssembly memory after loading: ${String(loaded.wasmBytes)} bytes`);
  if (backend === "gpu") {
    expect(loaded.wasmBytes).toBeLessThanOrEqual(64 * 1024 * 1024);
    const { compileMilliseconds, checkMilliseconds } = loaded.trial ?? {};
    console.log(`${precision}: compiling for the self-check ${compileMilliseconds?.toFixed(0) ?? "–"} ms, the check ${checkMilliseconds?.toFixed(0) ?? "–"} ms`);
    expect(checkMilliseconds, "the device was checked before it was given a weight").toBeGreaterThan(0);
  } else expect(loaded.adapter).toContain(withoutRelaxedSimd === true ? "wasm SIMD" : "wasm relaxed SIMD");
}
