/** The page as one file, opened as by a double click: `dist/trimtab-offline.html`, from `cargo xtask bundle`. */
import { closeSync, copyFileSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { BrowserContext, Page } from "@playwright/test";
import { complaints, expect, load, newVisitor, portable, test } from "./browser.ts";

const bundle = portable.file;

let context: BrowserContext;
let leave: () => Promise<void>;
let folder: string;

test.beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "trimtab stick, ü "));
  ({ context, leave } = await newVisitor());
});

test.afterAll(async () => {
  await leave();
  rmSync(folder, { recursive: true, force: true });
});

async function open(path: string): Promise<{ page: Page; requests: string[] }> {
  const page = await context.newPage();
  const requests: string[] = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(pathToFileURL(path).href, { waitUntil: "commit" });
  return { page, requests };
}

test("a double click brings page, traits and model, without a request to anywhere", async () => {
  const heard = complaints(context);
  const copy = join(folder, "copy of trimtab.html");
  copyFileSync(bundle, copy);
  const { page, requests } = await open(copy);
  await expect(page.getByRole("button", { name: "Start the model" })).toBeVisible({ timeout: 120_000 });
  await expect(page.getByText("a real run of SmolLM2-135M-Instruct")).toBeVisible();
  // Every file was taken out of the document.
  expect(await page.locator('script[type="application/octet-stream"]').count()).toBe(0);

  await load(page, { backend: "cpu", precision: "fast" }, portable.modelId);
  const [plain, steered] = await page.evaluate(async () => {
    const messages = [{ role: "user" as const, content: "How was your day?" }];
    const results = await globalThis.trimtab.generate(
      {
        columns: [
          { column: "unsteered", messages, plan: [] },
          { column: "steered", messages, plan: [{ trait: "cheerful", operation: { kind: "add", coefficient: -4 }, scope: "all" }] },
        ],
        sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 },
        maxTokens: 6,
      },
      () => undefined,
    );
    return results.map(({ text }) => text);
  });
  expect(plain).not.toBe("");
  expect(steered).not.toBe("");
  expect(steered).not.toBe(plain);
  expect(requests.filter((url) => !url.startsWith("blob:"))).toEqual([pathToFileURL(copy).href]);
  expect(heard).toEqual([]);
  await page.close();
});

test("a file that was cut short says so", async () => {
  const cut = join(folder, "cut.html");
  const whole = openSync(bundle, "r");
  const beginning = Buffer.alloc(Math.floor(statSync(bundle).size / 2));
  readSync(whole, beginning);
  closeSync(whole);
  writeFileSync(cut, beginning);
  const { page } = await open(cut);
  await expect(page.getByText(/not whole.*Get it once more/)).toBeVisible();
  await page.close();
});
