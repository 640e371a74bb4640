/** The longest tasks of the page's main thread while it is used with its own controls. */
import type { BrowserContext, Locator, Page } from "@playwright/test";
import { address, asNewVisitor } from "./contestants.ts";

/** Milliseconds of the longest task of the Long Tasks API in all visits; 0: none took over 50 ms. */
export interface LongestTask {
  /** The page itself and its dialog "Model", for a browser that was never here. */
  opening: number;
  loading: number;
  generating: number;
  /** While an answer is being written. */
  dragging: number;
}

const WRITING_MILLISECONDS = 8_000;
/** For a second or two after its start the browser keeps both cores busy with its own windows. */
const STARTING_MILLISECONDS = 5_000;

/** Each visit is that of a browser that was never here. */
export async function watchMainThread(visits: number): Promise<LongestTask> {
  const longest: LongestTask = { opening: 0, loading: 0, generating: 0, dragging: 0 };
  for (let visit = 0; visit < visits; visit++) {
    const seen = await asNewVisitor(watchVisit);
    console.error(`longest tasks of a visit, ms: ${JSON.stringify(seen)}`);
    for (const moment of ["opening", "loading", "generating", "dragging"] as const) longest[moment] = Math.max(longest[moment], seen[moment]);
  }
  return longest;
}

async function watchVisit(visitor: BrowserContext): Promise<LongestTask> {
  const page = await visitor.newPage();
  await page.addInitScript(() => {
    const tasks: number[] = [];
    Object.assign(globalThis, { longTasks: tasks });
    const observer = new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)));
    observer.observe({ type: "longtask", buffered: true });
  });
  await page.waitForTimeout(STARTING_MILLISECONDS);
  await page.goto(address);
  await page.getByRole("button", { name: "Model", exact: true }).click();
  await page.getByRole("combobox", { name: "Where to run" }).selectOption("cpu");
  await page.keyboard.press("Escape");
  const opening = await longestSince(page);
  await page.getByRole("button", { name: /^(Load|Start) the model/ }).click();
  await page.getByRole("region", { name: "Steering" }).waitFor({ timeout: 300_000 });
  const loading = await longestSince(page);

  await page.getByRole("textbox", { name: "Your message" }).fill("Tell me a long story about the sea.");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.waitForTimeout(WRITING_MILLISECONDS);
  const generating = await longestSince(page);
  await drag(page, page.getByRole("slider").first());
  const dragging = await longestSince(page);
  await page.close();
  return { opening, loading, generating, dragging };
}

/** The longest task since this was last asked. */
async function longestSince(page: Page): Promise<number> {
  // An observer hears of a task in a later one.
  await page.waitForTimeout(500);
  return page.evaluate(() => Math.max(0, ...(globalThis as unknown as { longTasks: number[] }).longTasks.splice(0)));
}

export async function drag(page: Page, slider: Locator): Promise<void> {
  const box = await slider.boundingBox();
  if (!box) throw new Error("the page shows no slider");
  const y = box.y + box.height / 2;
  const x = (step: number) => box.x + box.width * (0.5 + 0.3 * Math.sin(step / 4));
  await page.mouse.move(x(0), y);
  await page.mouse.down();
  for (let step = 0; step <= 40; step++) await page.mouse.move(x(step), y);
  await page.mouse.up();
}
