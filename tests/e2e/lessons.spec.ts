/** Lessons beside the real page: with the keyboard alone on a phone's width, and one step with the model. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { deflateRawSync } from "node:zlib";
import type { Page } from "@playwright/test";
import type axe from "axe-core";
import { address, expect, load, test } from "./browser.ts";
import { answered, text } from "./conversation.ts";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
  return violations.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}`));
}

/** Presses Tab until what has the focus is called so. */
async function tabTo(page: Page, name: RegExp): Promise<void> {
  for (let presses = 0; presses < 80; presses += 1) {
    await page.keyboard.press("Tab");
    const focused = await page.evaluate(() => {
      const element = document.activeElement;
      return element?.getAttribute("aria-label") ?? element?.textContent.trim() ?? "";
    });
    if (name.test(focused)) return;
  }
  throw new Error(`Tab never reached ${String(name)}`);
}

test("a lesson is taken with the keyboard alone, 390 pixels wide, without a model", async ({ fresh: page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.emulateMedia({ reducedMotion: "reduce" });
  await tabTo(page, /^Lessons$/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("heading", { name: "Lessons", level: 1 })).toBeVisible();
  expect(await findings(page)).toEqual([]);

  await tabTo(page, /^What is a direction\?/);
  await page.keyboard.press("Enter");
  const lesson = page.getByRole("complementary", { name: "Lesson: What is a direction?" });
  await expect(lesson.getByRole("heading", { name: "Two answers to one question" })).toBeVisible();
  expect(await findings(page)).toEqual([]);
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);

  await tabTo(page, /^Read both answers and look/);
  await page.keyboard.press("Space");
  await expect(lesson.getByRole("checkbox", { name: /^Read both answers/ })).toBeChecked();
  await expect(lesson.getByText("Not at all.")).toBeHidden();
  await tabTo(page, /^Answer$/);
  await page.keyboard.press("Enter");
  await expect(lesson.getByText("Not at all.")).toBeVisible();
  await tabTo(page, /^Next$/);
  await page.keyboard.press("Enter");
  await expect(lesson.getByRole("heading", { name: "Add a direction" })).toBeFocused();

  await page.reload();
  await expect(lesson.getByRole("heading", { name: "Add a direction" })).toBeVisible();
  await tabTo(page, /^Fold the lesson$/);
  await page.keyboard.press("Enter");
  await expect(lesson.getByRole("heading", { name: "Add a direction" })).toBeHidden();
});

test("a lesson stays beside the trait that it talks of, 390 pixels wide, and both are read without a model", async ({ fresh: page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(`${address}#lessons/controls`);
  const lesson = page.getByRole("complementary", { name: "Lesson: Is it really that direction?" });
  for (let presses = 0; presses < 3; presses += 1) await lesson.getByRole("button", { name: "Next" }).click();
  await expect(page.getByRole("heading", { name: /^cheerful/, level: 1 })).toBeVisible();
  await expect(page.getByRole("heading", { name: "Is it really this direction?" })).toBeVisible();
  await page.getByRole("link", { name: "All traits" }).click();
  await page.getByRole("link", { name: "poetic", exact: true }).click();
  await expect(page.getByRole("heading", { name: /^poetic/, level: 1 })).toBeVisible();
  await page.getByRole("heading", { name: "How it was made" }).scrollIntoViewIfNeeded();
  await expect(lesson.getByRole("heading", { name: "How sure are we?" })).toBeInViewport();
  await lesson.getByRole("checkbox").first().check();
  expect(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth)).toBe(0);
  await page.reload();
  await expect(lesson.getByRole("checkbox").first()).toBeChecked();
  await lesson.getByRole("button", { name: "Leave the lesson" }).click();
  await expect(lesson).toBeHidden();
  await expect(page.getByRole("heading", { name: /^poetic/, level: 1 })).toBeVisible();
});

test("what a lesson quotes is the recipe's own tokens, on any machine", async ({ fresh: page }) => {
  await page.goto(`${address}#lessons/direction`);
  const lesson = page.getByRole("complementary", { name: "Lesson: What is a direction?" });
  await lesson.getByRole("button", { name: "Next" }).click();
  await lesson.getByText("What we saw").click();
  await expect(lesson.getByRole("listbox", { name: /^What it wrote/ })).toContainText("I'm so glad you're enjoying the amazing work");
  await lesson.getByRole("link", { name: "Open this run" }).click();
  await expect(page.getByText(/^A small AI wrote this answer while somebody pushed it/)).toBeVisible();
  await expect(lesson.getByRole("heading", { name: "Add a direction" })).toBeVisible();
  await lesson.getByRole("link", { name: /^To Play/ }).click();
  await expect(page.getByText(/^A small AI wrote this answer/)).toBeHidden();
});

test("a teacher's lesson from a link sets up the page with a random control and sees what is done", async ({ visitor }) => {
  const page = await visitor.newPage();
  const lesson = [
    "trimtab lesson: 1",
    "title: Noise",
    "steps:",
    "  - title: Only noise",
    "    set up: {ask: What is snow?, random control: {like: cheerful, seed: 1}, push: {random 1 (cheerful): 4}, colour by: cheerful, length: 6}",
    "    do:",
    "      - {say: Read it, check: {answered: {random 1 (cheerful): 4}}}",
    "      - {say: Point at a token, check: {card opened: steered}}",
  ].join("\n");
  await page.goto(`${address}#lessons/l=${deflateRawSync(lesson).toString("base64url")}`);
  const panel = page.getByRole("complementary", { name: "Lesson: Noise" });
  await expect(panel.getByRole("button", { name: "Set the page up" })).toBeDisabled();
  await load(page, { backend: "cpu", precision: "fast" });
  await panel.getByRole("button", { name: "Set the page up" }).click();
  await expect(page.getByRole("slider", { name: /^random 1 \(cheerful\), against flipped/ })).toHaveValue("4");
  await answered(page);
  expect((await text(page, "Steered")).length).toBeGreaterThan(0);
  await expect(panel.getByRole("checkbox", { name: "Read it" })).toBeChecked();

  const point = panel.getByRole("checkbox", { name: "Point at a token" });
  await expect(point).not.toBeChecked();
  await page.getByRole("listbox", { name: /^Steered answer/ }).getByRole("option").first().focus();
  await expect(point).toBeChecked();

  await page.getByText("Export", { exact: true }).click();
  const saving = page.waitForEvent("download");
  await page.getByRole("button", { name: "Readings, CSV table" }).click();
  const table = readFileSync(await (await saving).path(), "utf8");
  expect(table).toContain("cheerful_layer20_reread");
  expect(table).toMatch(/\r\nsteered,0,\d+,/);
  await page.close();
});
