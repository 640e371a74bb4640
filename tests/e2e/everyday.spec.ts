/** What people do with a conversation besides asking: look closely, move a slider, edit, go back, take it along. On the processor. */
import { readFileSync } from "node:fs";
import type { BrowserContext, Download, Page } from "@playwright/test";
import { address, complaints, expect, newVisitor, test } from "./browser.ts";
import { ANSWERING, answerAt, answered, ask, startModel, text, tokens } from "./conversation.ts";

test.describe.configure({ mode: "serial" });

const golden = JSON.parse(readFileSync(new URL("../golden/links/cheerful.json", import.meta.url), "utf8")) as { link: string; messages: { text: string }[] };
const QUESTION = "What is snow?";

let context: BrowserContext;
let leave: () => Promise<void>;
let page: Page;
let heard: string[];

test.beforeAll(async () => {
  ({ context, leave } = await newVisitor({ touch: true }));
  heard = complaints(context);
  page = await context.newPage();
  await page.goto(address);
  await startModel(page);
  await answerAt(page, { temperature: 0, tokens: 8 });
  await ask(page, QUESTION);
});

test.afterAll(async () => {
  await leave();
});

test("a token's card opens under the mouse and under a finger, and closes again", async () => {
  const card = page.getByText(/% likely here/);
  await tokens(page, "Steered").nth(2).hover();
  await expect(card).toBeVisible();
  await page.getByRole("banner").hover();
  await expect(card).toBeHidden();
  await tokens(page, "Unsteered").nth(1).tap();
  await expect(card).toBeVisible();
  await page.getByRole("banner").tap();
  await expect(card).toBeHidden();
});

test("a slider moved in mid-answer leaves a mark where the words change", async () => {
  await answerAt(page, { temperature: 0, tokens: 80 });
  await page.getByRole("textbox", { name: "Your message" }).fill("Describe the sea.");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  // Until its first token is there, the newest answer on the page is the one before.
  await expect(page.getByRole("article")).toHaveCount(2);
  const steered = page.getByRole("article").last().getByRole("listbox", { name: /^Steered answer/ });
  await expect(steered.getByRole("option").nth(3)).toBeVisible({ timeout: ANSWERING });
  await page.getByRole("slider", { name: /^cheerful/ }).focus();
  await page.keyboard.press("End");
  await expect(page.getByTitle(/^The sliders moved here: cheerful/)).toHaveCount(1, { timeout: ANSWERING });
  await answered(page);
  await expect(page.getByText(/no push → cheerful/)).toBeVisible();
  await page.getByRole("button", { name: "Reset cheerful" }).click();
});

test("an edited question is asked in a copy, and the earlier conversation opens again", async () => {
  await answerAt(page, { temperature: 0, tokens: 8 });
  const before = await text(page, "Unsteered");
  await page.getByRole("button", { name: "Edit the question" }).first().click();
  await page.getByRole("textbox", { name: "Edit the question" }).fill("What is rain?");
  await page.getByRole("button", { name: "Ask this instead" }).click();
  await answered(page);
  await expect(page.getByRole("article")).toHaveCount(1);

  await page.getByRole("button", { name: "Conversations" }).click();
  const list = page.getByRole("dialog", { name: "Conversations" });
  await list.locator("li:not(.current)").getByRole("button").filter({ hasText: "2 questions" }).click();
  await expect(list).toBeHidden();
  await expect(page.getByRole("article")).toHaveCount(2);
  expect(await text(page, "Unsteered")).toBe(before);
});

async function saved(label: string): Promise<Download> {
  await page.getByText("Export", { exact: true }).first().click();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: label }).click();
  return saving;
}

test("the heatmap is saved as a picture and a drawing, the readings as numbers", async () => {
  const png = readFileSync(await (await saved("Heatmap, PNG picture")).path());
  expect(png.subarray(1, 4).toString()).toBe("PNG");
  const svg = readFileSync(await (await saved("Heatmap, SVG drawing")).path(), "utf8");
  expect(svg).toMatch(/^<svg[^]*cheerful[^]*<\/svg>\s*$/);
  const readings = JSON.parse(readFileSync(await (await saved("Readings of all layers, JSON")).path(), "utf8")) as { format: string; question_text: string; unsteered: { reread: { cheerful: number[][] } } };
  expect(readings).toMatchObject({ format: "trimtab-readings-1", question_text: QUESTION });
  expect(readings.unsteered.reread.cheerful[1]).toHaveLength(31);
});

test("a session's file opens in another browser, without a model", async () => {
  const first = await tokens(page, "Unsteered").first().textContent();
  await page.getByRole("button", { name: "Conversations" }).click();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save everything as a file" }).click();
  const file = await (await saving).path();
  await page.keyboard.press("Escape");

  const reader = await newVisitor();
  try {
    const other = await reader.context.newPage();
    await other.goto(address);
    await other.getByRole("button", { name: "Conversations" }).click();
    const list = other.getByRole("dialog", { name: "Conversations" });
    await list.getByLabel("Open a saved file").setInputFiles(file);
    await expect(list.getByText(/^2 of 2 conversations were new/)).toBeVisible();
    await list.getByRole("button").filter({ hasText: "2 questions" }).click();
    await expect(other.getByRole("article")).toHaveCount(2);
    await expect(tokens(other, "Unsteered").first()).toHaveText(first ?? "");
  } finally {
    await reader.leave();
  }
});

test("the projector makes everything larger, and nothing sticks out", async () => {
  const size = () => page.evaluate(() => Number.parseFloat(getComputedStyle(document.documentElement).fontSize));
  const before = await size();
  const projector = page.getByRole("button", { name: "Projector: large type, strong contrast" });
  await projector.click();
  await expect(projector).toHaveAttribute("aria-pressed", "true");
  expect(await size()).toBeGreaterThan(before);
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
  await projector.click();
  expect(await size()).toBe(before);
});

test("a link, a code, or a lesson's link opens from the field in the list", async () => {
  for (const [pasted, found] of [
    [`https://example.org/t/#r=${golden.link}`, page.getByRole("listbox", { name: /^Answer/ })],
    [golden.link, page.getByRole("listbox", { name: /^Answer/ })],
    ["https://example.org/#lessons/l=AAAA", page.getByRole("heading", { name: "This lesson cannot be opened" })],
  ] as const) {
    await page.goto(`${address}/#`);
    await page.getByRole("button", { name: "Conversations" }).click();
    await page.getByRole("textbox", { name: "Open a link or code" }).fill(pasted);
    await page.getByRole("button", { name: "Open", exact: true }).click();
    await expect(found).toBeVisible();
    await expect(page.getByRole("dialog")).toBeHidden();
  }
  expect(heard, "errors on the console").toEqual([]);
});
