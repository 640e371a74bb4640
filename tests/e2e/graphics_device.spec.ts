/** One visit on the graphics device, fast: checked, compared with the reference, used, counted, and lost at its end. `--full` has the rest. */
import type { Page, Worker } from "@playwright/test";
import { likelihoodAgrees, residualAgrees } from "./agreement.ts";
import { address, complaints, expect, load, newVisitor, test, type Executor } from "./browser.ts";
import { ANSWERING, answerAt, answered, ask, text, tokens } from "./conversation.ts";
import { keepDevices } from "./device_loss.ts";
import { linksReplay } from "./golden_links.ts";
import { costOfToken, countGpu } from "./gpu_counters.ts";

const executor: Executor & { name: string } = { name: "GPU, fast", backend: "gpu", precision: "fast" };
const TOKENS = 16;
const QUESTION = "Name three fruits.";

test.describe.configure({ mode: "serial" });

let page: Page;
let worker: Worker;
let leave: () => Promise<void>;
let heard: string[];

test.beforeAll(async () => {
  const visitor = await newVisitor();
  leave = visitor.leave;
  heard = complaints(visitor.context);
  page = await visitor.context.newPage();
  await countGpu(page, keepDevices);
  await page.goto(address);
});

test.afterAll(async () => {
  await leave();
});

test("the device is checked before it is given a weight", async () => {
  await load(page, executor);
  const [found] = page.workers();
  if (!found) throw new Error("the page has no worker");
  worker = found;
});

test("real text is as likely as the reference says", () => likelihoodAgrees(page, executor, { texts: 1, tokens: 129 }));

test("the residual stream is the reference's", () => residualAgrees(page, executor, { prompts: 1, tokens: 32 }));

/** Two, because what may differ is a share of the tokens: one alone has too few. */
test("links replay to the author's tokens", () => linksReplay(page, executor, (name) => ["fast-steered", "fast-on-the-cpu"].includes(name)));

test("a decoded token makes one submission, few dispatches, one small readback and no object", async () => {
  const { dispatches, submissions, readbacks, readbackBytes, made, seconds } = await costOfToken(page, TOKENS);
  console.log(`a token in the browser, fast: ${seconds.toFixed(2)} s, ${String(dispatches)} dispatches, ${String(submissions)} submissions, ${String(readbacks)} readbacks`);
  expect(dispatches).toBeGreaterThan(0);
  expect(dispatches).toBeLessThanOrEqual(130);
  expect(submissions).toBeLessThanOrEqual(1);
  expect(readbacks).toBeLessThanOrEqual(1);
  expect(Math.max(...readbackBytes)).toBeLessThanOrEqual(4096);
  expect(made.filter((name) => name !== "createCommandEncoder")).toEqual([]);
});

test("a pushed slider makes a steered answer that differs from the unsteered one, both coloured", async () => {
  await answerAt(page, { temperature: 0, tokens: 6 });
  await page.getByRole("slider").first().focus();
  await page.keyboard.press("End");
  await ask(page, QUESTION);
  expect(await text(page, "Steered")).not.toBe(await text(page, "Unsteered"));
  for (const column of ["Unsteered", "Steered"] as const) {
    const colours = await tokens(page, column).evaluateAll((all) => all.map((token) => (token as HTMLElement).style.backgroundColor));
    expect(new Set(colours.filter((colour) => colour !== "")).size, column).toBeGreaterThan(1);
  }
  expect(heard, "errors on the console").toEqual([]);
});

/** That the tokens are the same ones is held in "exact" (`device_loss.spec.ts`): in "fast" two that are nearly as likely may change places. */
test("an answer whose device is lost goes on on a new one", async () => {
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByRole("slider").first().focus();
  await page.keyboard.press("End");
  await page.getByRole("textbox", { name: "Your message" }).fill(QUESTION);
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await expect(tokens(page, "Steered").first()).toBeVisible({ timeout: ANSWERING });
  const begun = await text(page, "Steered");
  await worker.evaluate(() => {
    (globalThis as unknown as { gpuDevices: GPUDevice[] }).gpuDevices.at(-1)?.destroy();
  });
  await expect(page.getByRole("status").filter({ hasText: /The graphics device was lost in the middle of an answer\..* goes on there/ })).toBeVisible({ timeout: ANSWERING });
  await answered(page);
  expect((await text(page, "Steered")).startsWith(begun)).toBe(true);
  expect((await text(page, "Steered")).length).toBeGreaterThan(begun.length);
});
