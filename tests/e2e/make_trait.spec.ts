/** A trait of the visitor's own, from a sentence to a slider, with the tab closed in the middle of it. */
import type { BrowserContext, Page } from "@playwright/test";
import { address, complaints, expect, newVisitor, test } from "./browser.ts";
import { startModel } from "./conversation.ts";

/** Writing, judging and calibrating a small trait on the processor. */
const MAKING = 480_000;
/** More responses than are written side by side, so that some are whole while others are still to come. */
const SETTINGS = [
  ["Instruction pairs", 2],
  ["Questions", 5],
  ["Tokens each, at most", 16],
] as const;
const RESPONSES = 2 * 2 * 5;

test.describe.configure({ mode: "serial" });

let visitor: BrowserContext;
let leave: () => Promise<void>;
let page: Page;
let heard: string[];

test.beforeAll(async () => {
  ({ context: visitor, leave } = await newVisitor());
  heard = complaints(visitor);
  page = await visitor.newPage();
  await page.goto(address);
});

test.afterAll(async () => {
  await leave();
});

test("a sentence becomes a trait pack, and the model writes responses from it", async () => {
  await startModel(page);

  await goTo("#traits/new");
  await page.getByRole("textbox", { name: "Name", exact: true }).fill("merry");
  await page.getByRole("textbox", { name: "Opposite", exact: true }).fill("mournful");
  await page.getByRole("textbox", { name: /^How does it show/ }).fill("Laughs, jokes and is delighted by everything.");
  await page.getByRole("textbox", { name: /how does the opposite show/ }).fill("Sighs, mourns and is saddened by everything.");
  await page.getByRole("button", { name: "Draft it" }).click();
  await expect(page.getByRole("heading", { level: 1, name: /^merry/ })).toBeVisible();
  await expect(page.getByText(/pairs, 2 are kept back to test with/)).toBeVisible();

  for (const [name, value] of SETTINGS) {
    const field = page.getByRole("spinbutton", { name, exact: true });
    await field.fill(String(value));
    await field.press("Tab");
    await expect(field).toHaveValue(String(value));
  }
  await page.getByRole("button", { name: "Write the responses" }).click();
  await expect(page.getByRole("list", { name: "Responses" }).getByRole("listitem").first()).toBeVisible({ timeout: MAKING });
});

test("a closed tab costs a few responses: the rest is there, and the work goes on", async () => {
  await expect.poll(() => responsesKept(page), { message: "responses are kept while others are written", timeout: MAKING }).toBeGreaterThan(0);
  await page.close();

  page = await visitor.newPage();
  await page.goto(address);
  await startModel(page);
  await goTo("#traits");
  const [, written] = /Half-made: (\d+) responses written/.exec(await page.getByText(/^Half-made/).innerText()) ?? [];
  console.log(`responses kept: ${String(written)} of ${String(RESPONSES)}`);
  expect(Number(written)).toBeGreaterThan(0);
  expect(Number(written)).toBeLessThanOrEqual(RESPONSES);
  await page.getByRole("link", { name: "merry", exact: true }).click();
  await expect(page.getByText(`${String(written)} responses are kept from before.`)).toBeVisible();
  await page.getByRole("button", { name: "Go on writing" }).click();

  const kept = page.getByText(/^Kept:/);
  await expect(kept).toBeVisible({ timeout: MAKING });
  await expect(kept).toContainText(`of ${String(RESPONSES)}`);
  console.log(await kept.innerText());
  await expect(page.getByRole("figure", { name: "Telling the two sides apart" })).toBeVisible();
});

test("its vector is a slider in Play, and its files can be saved", async () => {
  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Save the responses" }).click();
  expect((await download).suggestedFilename()).toBe("merry.contrast");

  await goTo("#play");
  const slider = page.getByRole("slider", { name: /^merry, against mournful/ });
  await expect(slider).toBeVisible();
  await slider.focus();
  await page.keyboard.press("End");
  await expect(slider).not.toHaveValue("0");
  expect(heard).toEqual([]);
});

async function goTo(hash: string): Promise<void> {
  await page.evaluate((to) => (location.hash = to), hash);
}

/** Responses of the first trait in the browser's storage. */
async function responsesKept(page: Page): Promise<number> {
  return page.evaluate(
    () =>
      new Promise<number>((resolve, reject) => {
        const opening = indexedDB.open("trimtab-traits");
        opening.onerror = () => {
          reject(new Error("the traits' database does not open"));
        };
        opening.onsuccess = () => {
          const database = opening.result;
          const reading = database.transaction("traits").objectStore("traits").getAll();
          reading.onsuccess = () => {
            database.close();
            const [trait] = reading.result as { responses: unknown[] }[];
            resolve(trait?.responses.length ?? 0);
          };
        };
      }),
  );
}
