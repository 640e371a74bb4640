/** Threads, where the server isolates the page from other origins; and the same answers without them. */
import { existsSync } from "node:fs";
import type { Page } from "@playwright/test";
import { address, expect, load, test } from "./browser.ts";

/** Built where the standard library's source can be had; `cargo xtask build` says where it cannot. */
const built = existsSync(new URL("../../web/src/generated/threads/trimtab_wasm_bg.wasm", import.meta.url));

async function answer(page: Page) {
  return page.evaluate(async () => {
    const [card] = await globalThis.trimtab.catalogue();
    const { adapter } = await globalThis.trimtab.load({ kind: "catalogue", id: card?.id ?? "" }, { backend: "cpu", precision: "fast" }, () => undefined);
    const messages = [{ role: "user" as const, content: "Tell me a long story about the sea, and about a boat with nobody on board." }];
    const push = { trait: "cheerful", operation: { kind: "add" as const, coefficient: 2 }, scope: "all" as const };
    const sampler = { temperature: 0.7, topK: 0, topP: 1, repetitionPenalty: 1.1, seed: 7 };
    const columns = [{ column: "steered" as const, messages, plan: [push] }];
    const [result] = await globalThis.trimtab.generate({ columns, sampler, maxTokens: 24 }, () => undefined);
    return { adapter, isolated: globalThis.crossOriginIsolated, text: result?.text, tokens: result?.tokens.map(({ id, logprob }) => [id, logprob]) };
  });
}

test("an isolated page has threads; where one is not isolated, it answers the same on one", async ({ stranger }) => {
  const page = await stranger.newPage();
  await page.goto(address);
  await load(page, { backend: "cpu", precision: "fast" });
  const threads = built ? Math.min(4, await page.evaluate(() => navigator.hardwareConcurrency)) : 1;
  const isolated = await answer(page);
  expect(isolated.isolated).toBe(true);
  expect(isolated.adapter).toMatch(new RegExp(`, ${threads === 1 ? "1 thread" : `${String(threads)} threads`}$`));
  await page.close();

  const alone = await stranger.newPage();
  await alone.route((url) => url.pathname === "/", async (route) => {
    const response = await route.fetch();
    const headers = Object.entries(response.headers()).filter(([name]) => !/^cross-origin-(opener|embedder)-policy$/.test(name));
    await route.fulfill({ response, headers: Object.fromEntries(headers) });
  });
  await alone.goto(address);
  await load(alone, { backend: "cpu", precision: "fast" });
  const single = await answer(alone);
  expect(single.isolated).toBe(false);
  expect(single.adapter).toMatch(/, 1 thread$/);
  expect(single.text).toBe(isolated.text);
  expect(single.tokens).toEqual(isolated.tokens);
});
