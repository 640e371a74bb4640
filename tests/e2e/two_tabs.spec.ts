/** Conversations, traits, lessons and choices in two tabs, and a shared run that somebody looks away from. */
import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { address, expect, newVisitor, test } from "./browser.ts";
import { ANSWERING, answerAt, answered, ask, openWithModel, startModel, text, tokens } from "./conversation.ts";

const golden = JSON.parse(readFileSync(new URL("../golden/links/cheerful.json", import.meta.url), "utf8")) as { link: string };

/** How many parts of answers that are being written lie in the browser's storage. */
function partsKept(page: Page): Promise<number> {
  return page.evaluate(
    () =>
      new Promise<number>((resolve, reject) => {
        const opening = indexedDB.open("trimtab");
        opening.onerror = () => reject(new Error("the database does not open"));
        opening.onsuccess = () => {
          const keys = opening.result.transaction("runs").objectStore("runs").getAllKeys();
          keys.onsuccess = () => {
            opening.result.close();
            // A part's key is its conversation, its run and its number.
            resolve(keys.result.filter((key) => Array.isArray(key) && key.length === 3).length);
          };
        };
      }),
  );
}

test("neither tab's turn or choice disappears, and both say what happened", async () => {
  const { context, leave } = await newVisitor();
  try {
    const first = await context.newPage();
    await first.goto(address);
    await startModel(first);
    await answerAt(first, { temperature: 0, tokens: 6 });
    await ask(first, "Tell me about the moon.");
    const second = await context.newPage();
    await second.goto(address);
    await startModel(second);
    // One tab's temperature, and the seed that the other one draws.
    await answerAt(first, { temperature: 0.2, tokens: 7 });
    await second.getByRole("button", { name: "Settings" }).click();
    await second.getByRole("button", { name: "New seed" }).click();
    const seed = await second.getByRole("spinbutton", { name: "Seed" }).inputValue();
    await second.keyboard.press("Escape");
    await ask(first, "How far away is it?");
    await expect(second.getByText(/This conversation went on in another tab/)).toBeVisible();
    await ask(second, "Who walked on it first?");
    await expect(second.getByText(/goes on here in a copy/)).toBeVisible();
    await expect(first.getByText(/Another tab went on from here in a copy/)).toBeVisible();
    await first.reload();
    await first.getByRole("button", { name: "Conversations" }).click();
    const list = first.getByRole("dialog", { name: "Conversations" });
    await expect(list.getByRole("button").filter({ hasText: "2 questions" })).toHaveCount(2);
    for (const [at, question] of ["Who walked on it first?", "How far away is it?"].entries()) {
      if (at > 0) await first.getByRole("button", { name: "Conversations" }).click();
      await list.getByRole("button").filter({ hasText: "2 questions" }).nth(at).click();
      await expect(first.getByText(question).first()).toBeAttached();
    }
    await startModel(first);
    await first.getByRole("button", { name: "Settings" }).click();
    for (const [field, value] of [["Temperature", "0.2"], ["Longest answer", "7"], ["Seed", seed]] as const) {
      await expect(first.getByRole("spinbutton", { name: field })).toHaveValue(value);
    }
  } finally {
    await leave();
  }
});

test("a trait that is made in one tab is read in the other, which takes nothing away from it", async () => {
  const { context, leave } = await newVisitor();
  try {
    const maker = await context.newPage();
    await maker.goto(address);
    await startModel(maker);
    await maker.evaluate(() => (location.hash = "traits/new"));
    for (const [field, words] of [["Name", "merry"], ["Opposite", "mournful"], ["How does it show", "Laughs and jokes."], ["how does the opposite show", "Sighs and mourns."]] as const) {
      await maker.getByRole("textbox", { name: new RegExp(field) }).first().fill(words);
    }
    await maker.getByRole("button", { name: "Draft it" }).click();
    await expect(maker.getByRole("heading", { level: 1, name: /^merry/ })).toBeVisible();
    const reader = await context.newPage();
    await reader.goto(maker.url());
    await expect(reader.getByRole("heading", { level: 1, name: /^merry/ })).toBeVisible();

    // A choice of the other tab's holds for the work here.
    const questions = reader.getByRole("spinbutton", { name: "Questions", exact: true });
    await questions.fill("4");
    await questions.press("Tab");
    await expect(maker.getByRole("spinbutton", { name: "Questions", exact: true })).toHaveValue("4");
    const pairs = maker.getByRole("spinbutton", { name: "Instruction pairs" });
    await pairs.fill("2");
    await pairs.press("Tab");
    await expect(reader.getByRole("spinbutton", { name: "Instruction pairs" })).toHaveValue("2");
    const longest = maker.getByRole("spinbutton", { name: "Tokens each, at most" });
    await longest.fill("12");
    await longest.press("Tab");
    await maker.getByRole("button", { name: "Write the responses" }).click();
    await expect(maker.getByRole("button", { name: "Stop" })).toBeVisible();

    const list = await context.newPage();
    await list.goto(`${address}#traits`);
    await list.getByRole("button", { name: "Delete merry" }).click();
    await list.getByRole("button", { name: "Delete merry" }).click();
    await expect(list.getByText(/Another tab of this page is making this trait/)).toBeVisible();
    await expect(list.getByRole("link", { name: "merry", exact: true })).toBeVisible();

    await expect(reader.getByText(/^Kept:/)).toContainText("of 16", { timeout: ANSWERING });
    await expect(maker.getByText(/^Kept:/)).toBeVisible();
    await reader.reload();
    await expect(reader.getByText(/^Kept:/)).toContainText("of 16");

    // Once nobody makes it, it goes, and every tab says so.
    await expect(maker.getByRole("button", { name: "Stop" })).toBeHidden();
    await expect(list.getByText(/the slider is there/)).toBeVisible();
    await list.getByRole("button", { name: "Delete merry" }).click();
    await list.getByRole("button", { name: "Delete merry" }).click();
    await expect(list.getByRole("link", { name: "merry", exact: true })).toBeHidden();
    await expect(reader.getByText(/^Kept:/)).toBeHidden();
    await maker.evaluate(() => (location.hash = "traits"));
    await expect(maker.getByRole("heading", { level: 1, name: "Traits" })).toBeVisible();
    await expect(maker.getByRole("link", { name: "merry", exact: true })).toBeHidden();
  } finally {
    await leave();
  }
});

test("own lessons and ticks of both tabs are kept", async ({ context, fresh: first }) => {
  const second = await context.newPage();
  const lesson = (title: string) => ({ name: `${title}.yaml`, mimeType: "text/plain", buffer: Buffer.from(`trimtab lesson: 1\ntitle: ${title}\nsteps:\n  - title: Look\n    do: [Look at it, Look again]\n`) });
  const titles = (page: Page) => page.getByRole("list").getByRole("link", { name: /^(Early|Late|Later)\b/ });
  for (const page of [first, second]) {
    await page.goto(`${address}#lessons`);
    await expect(page.getByRole("heading", { level: 1, name: "Lessons" })).toBeVisible();
  }
  await first.getByLabel("Open a lesson's file").setInputFiles(lesson("Early"));
  await expect(titles(second)).toHaveCount(1);
  // The name of a lesson that went is taken by another one.
  await second.getByRole("button", { name: "Remove Early" }).click();
  await second.getByLabel("Open a lesson's file").setInputFiles(lesson("Late"));
  await first.getByLabel("Open a lesson's file").setInputFiles(lesson("Later"));
  for (const page of [first, second]) await expect(titles(page)).toHaveText([/^Late\b/, /^Later\b/]);

  for (const page of [first, second]) await page.getByRole("link", { name: /^Late\b/ }).click();
  await first.getByRole("checkbox", { name: "Look at it" }).check();
  await second.getByRole("checkbox", { name: "Look again" }).check();
  await first.getByRole("button", { name: "Leave the lesson" }).click();
  await second.getByRole("button", { name: "Leave the lesson" }).click();

  await second.close();
  await first.goto(`${address}#lessons`);
  await titles(first).first().click();
  for (const tick of ["Look at it", "Look again"]) await expect(first.getByRole("checkbox", { name: tick })).toBeChecked();
});

test("an answer that met its limit, or was cut by a reload, goes on", async ({ stranger }) => {
  // Nobody was here before: an earlier conversation would be gone on with, and what is written would depend on it.
  const page = await openWithModel(stranger);
  await page.getByRole("slider", { name: /^cheerful/ }).fill("2");
  // Nothing is drawn by chance: how long the next answer gets depends on this one.
  await answerAt(page, { temperature: 0, tokens: 6 });
  await ask(page, "Tell me about the moon.");
  const before = [await text(page, "Unsteered"), await text(page, "Steered")];
  const goOn = page.getByRole("button", { name: "Continue" });
  await goOn.click();
  await expect(tokens(page, "Unsteered")).toHaveCount(12);
  await answered(page);
  for (const [at, column] of (["Unsteered", "Steered"] as const).entries()) expect((await text(page, column)).startsWith(before[at] ?? "?")).toBe(true);

  await answerAt(page, { temperature: 0, tokens: 900 });
  await page.getByRole("textbox", { name: "Your message" }).fill("Tell me a long story.");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await expect(page.getByRole("article")).toHaveCount(2);
  const newest = page.getByRole("article").last();
  await expect.poll(() => newest.getByRole("option").count(), { timeout: 300_000 }).toBeGreaterThan(10);
  // What is written is kept every few seconds: they pass at once here, while the answer is still being written.
  await page.clock.setFixedTime(Date.now() + 60_000);
  await expect.poll(() => partsKept(page), { timeout: 300_000 }).toBeGreaterThan(0);
  await page.reload();
  await expect(page.getByText("cut off when the page was closed").first()).toBeVisible();
  await startModel(page);
  await expect(page.getByRole("slider", { name: /^cheerful/ })).toHaveValue("2");
  await expect(newest.getByRole("listbox", { name: /^Steered answer/ })).toBeVisible();
  const cut = await text(page, "Steered");
  await goOn.click();
  await expect(page.getByRole("button", { name: "Stop" })).toBeVisible();
  await expect.poll(async () => (await text(page, "Steered")).length, { timeout: 300_000 }).toBeGreaterThan(cut.length + 20);
  expect((await text(page, "Steered")).slice(0, cut.length)).toBe(cut);
  await page.close();
});

test("a shared run stays until it is closed, whatever page is looked at meanwhile", async ({ fresh: page }) => {
  await page.setViewportSize({ width: 390, height: 844 });
  await page.goto(`${address}/#r=${golden.link}`);
  const run = page.getByRole("heading", { name: "Somebody sent you this" });
  await expect(run).toBeVisible();
  await expect(page.getByText(/^A small AI wrote this answer while somebody pushed it towards being cheerful/)).toBeVisible();
  for (const place of ["Traits", "Lessons"]) {
    await page.getByRole("link", { name: place, exact: true }).click();
    await expect(page.getByRole("heading", { name: place, level: 1 })).toBeVisible();
    await page.getByRole("link", { name: "Play", exact: true }).click();
    await expect(run).toBeVisible();
  }
  await page.getByRole("button", { name: "Conversations" }).click();
  await expect(page.getByRole("dialog").getByText("Shared with you")).toBeVisible();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Close this shared run" }).click();
  await expect(run).toBeHidden();
  await page.getByRole("button", { name: "Conversations" }).click();
  await expect(page.getByRole("dialog").getByText("Shared with you")).toBeHidden();
});
