/** What visitors bring along: a model folder of their own, conversations to extract a vector from, a vector file. */
import { fileURLToPath } from "node:url";
import type { Page } from "@playwright/test";
import { address, expect, modelId, newVisitor, test } from "./browser.ts";
import { extractPairs, safetensors, tensor } from "./golden.ts";

const folder = fileURLToPath(new URL(`../../models/${modelId}`, import.meta.url));

test.describe.configure({ mode: "serial" });

let page: Page;
let leave: () => Promise<void>;
const requests: string[] = [];

test.beforeAll(async () => {
  const visitor = await newVisitor();
  leave = visitor.leave;
  page = await visitor.context.newPage();
  page.on("request", (request) => requests.push(request.url()));
  await page.goto(address);
});

test.afterAll(async () => {
  await leave();
});

test("a model folder from disk is opened, with the ready-made traits of the same weights", async () => {
  await page.getByRole("button", { name: "Model", exact: true }).click();
  await page.getByRole("combobox", { name: "Where to run" }).selectOption("cpu");
  await page.getByRole("combobox", { name: "Arithmetic" }).selectOption("exact");
  await page.keyboard.press("Escape");
  await page.locator("input[webkitdirectory]").first().setInputFiles(folder);
  await expect(page.getByRole("region", { name: "Steering" })).toBeVisible({ timeout: 300_000 });
  for (const trait of ["cheerful", "poetic", "villainous"]) {
    await expect(page.getByRole("slider", { name: new RegExp(trait) })).toBeVisible();
  }
  expect(requests.filter((url) => url.endsWith("model.safetensors"))).toEqual([]);
});

test("vectors extracted in the browser are the reference's", async () => {
  const file = await page.evaluate(async (pairs) => [...(await globalThis.trimtab.extract(pairs))], extractPairs);
  const ours = safetensors(Buffer.from(file));
  for (const name of ["response_avg", "prompt_avg", "prompt_last"]) {
    const expected = tensor("extract.safetensors", name);
    const found = ours(name);
    expect(found.shape).toEqual(expected.shape);
    let change = 0;
    let norm = 0;
    for (const [index, value] of expected.values.entries()) {
      change += ((found.values[index] ?? Number.NaN) - value) ** 2;
      norm += value ** 2;
    }
    console.log(`${name}: ‖Δv‖/‖v‖ ${String(Math.sqrt(change / norm))}`);
    expect(Math.sqrt(change / norm)).toBeLessThan(1e-3);
  }
  await page.evaluate(async (bytes) => globalThis.trimtab.addVector("mine", Uint8Array.from(bytes)), file);
  await expect(page.getByRole("slider", { name: /mine/ })).toBeVisible();
});

test("a vector of one's own steers", async () => {
  const [plain, steered] = await page.evaluate(async () => {
    const messages = [{ role: "user" as const, content: "What do you think of rain?" }];
    const results = await globalThis.trimtab.generate(
      {
        columns: [
          { column: "unsteered", messages, plan: [] },
          { column: "steered", messages, plan: [{ trait: "mine", operation: { kind: "add", coefficient: 6 }, scope: "all" }] },
        ],
        sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 },
        maxTokens: 16,
      },
      () => undefined,
    );
    return results.map((result) => result.text);
  });
  expect(plain).not.toBe("");
  expect(steered).not.toBe(plain);
});

test("a folder without a model says what is missing", async ({ fresh }) => {
  // Before the catalogue is read, another field stands in the same place.
  await expect(fresh.getByRole("button", { name: /^Load the model/ })).toBeVisible();
  await fresh.locator("input[webkitdirectory]").first().setInputFiles(fileURLToPath(new URL("../golden/texts", import.meta.url)));
  await expect(fresh.getByText(/config\.json/).first()).toBeVisible();
});
