/** At least half of a window's height is answer text, whatever its size, with large type, and with a lesson beside it. */
import type { BrowserContext, Page } from "@playwright/test";
import { address, expect, newVisitor, test } from "./browser.ts";
import { answerAt, ask, startModel } from "./conversation.ts";

const SIZES = [
  { width: 390, height: 844 },
  { width: 720, height: 450 },
  { width: 844, height: 390 },
  { width: 1024, height: 768 },
  { width: 1280, height: 720 },
  { width: 1366, height: 650 },
  { width: 1440, height: 900 },
];
const LESSON = "Lesson: What is a direction?";

test.describe.configure({ mode: "serial" });

let context: BrowserContext;
let leave: () => Promise<void>;
let page: Page;

test.beforeAll(async () => {
  ({ context, leave } = await newVisitor());
  page = await context.newPage();
  await page.setViewportSize({ width: 720, height: 450 });
  await page.goto(address);
  await startModel(page);
  await page.getByRole("slider", { name: /^cheerful/ }).focus();
  await page.keyboard.press("End");
  // Long enough to fill the largest window in both columns.
  await answerAt(page, { temperature: 0.7, tokens: 420 });
  await ask(page, "Write a long story about a town by the sea.");
});

test.afterAll(async () => {
  await leave();
});

/** Rows of pixels in which a token of an answer, or the gap between two of its lines, is what a finger would meet. */
async function answerRows(): Promise<number> {
  return page.evaluate(() => {
    const columns = [...document.querySelectorAll<HTMLElement>(".answer .tokens")].map((tokens) => tokens.getBoundingClientRect());
    const seen = (y: number) =>
      columns.some(({ left, width, top, bottom }) => top <= y && y <= bottom && document.elementFromPoint(left + width / 8, y)?.closest(".answer .tokens") != null);
    return Array.from({ length: innerHeight }, (_, y) => y).filter(seen).length;
  });
}

test("an answer that was just written fills half of a low window, without scrolling", async () => {
  expect(await answerRows()).toBeGreaterThanOrEqual(225);
});

for (const lesson of [false, true]) {
  for (const projector of [false, true]) {
    test(`in every window${projector ? ", with large type" : ""}${lesson ? ", beside a lesson" : ""}`, async () => {
      await page.evaluate((place) => (location.hash = place), lesson ? "lessons/direction" : "");
      const button = page.getByRole("button", { name: "Projector: large type, strong contrast" });
      if ((await button.getAttribute("aria-pressed")) !== String(projector)) await button.click();
      for (const { width, height } of SIZES) {
        await page.setViewportSize({ width, height });
        const step = page.getByRole("complementary", { name: LESSON }).getByRole("heading", { level: 2 });
        if (lesson) {
          if (height >= 500) await expect(step).toBeVisible();
          else {
            await expect(step, "the lesson folds by itself").toBeHidden();
            await page.getByRole("button", { name: "Show the lesson" }).click();
            await expect(step, "one press brings it back").toBeVisible();
            await page.getByRole("button", { name: "Fold the lesson" }).click();
          }
        }
        // As the page stands for somebody who begins to read.
        await page.locator(".answers").last().evaluate((answers) => {
          answers.scrollIntoView({ block: "start" });
        });
        const rows = await answerRows();
        console.log(`${String(width)}×${String(height)}${projector ? " projector" : ""}${lesson ? " lesson" : ""}: ${String(rows)} of ${String(height)}`);
        expect.soft(rows, `${String(width)}×${String(height)}`).toBeGreaterThanOrEqual(height / 2);
        expect.soft(await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth), "nothing sticks out").toBe(0);
      }
    });
  }
}
