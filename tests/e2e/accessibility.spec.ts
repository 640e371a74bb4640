/** Keyboard, screen readers, light and dark, narrow and wide. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Page } from "@playwright/test";
import type axe from "axe-core";
import { address, expect, test } from "./browser.ts";
import { ANSWERING, answerAt, ask, openWithModel, tokens } from "./conversation.ts";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const golden = JSON.parse(readFileSync(new URL("../golden/links/cheerful.json", import.meta.url), "utf8")) as { link: string };

/** What axe finds serious or critical, each with the place where it is. */
async function findings(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.target.join(" ")}: ${node.any.map((check) => check.message).join("; ")}`));
}

async function overflow(page: Page): Promise<number> {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`axe finds nothing serious before a model is there, ${colorScheme}`, async ({ fresh: page }) => {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    await page.reload();
    await expect(page.getByRole("button", { name: /98 MB/ })).toBeVisible();
    expect(await findings(page)).toEqual([]);
  });
}

test("the first screen fits from 360 pixels to wide screens", async ({ fresh: page }) => {
  for (const width of [360, 414, 768, 1280, 2560]) {
    await page.setViewportSize({ width, height: 800 });
    await expect(page.getByRole("button", { name: /98 MB/ })).toBeVisible();
    expect(await overflow(page), `${String(width)} pixels`).toBe(0);
  }
});

test("a conversation is sound for axe in light and dark, and fits 360 pixels", async ({ visitor }) => {
  const page = await openWithModel(visitor);
  await answerAt(page, { temperature: 0, tokens: 8 });
  await ask(page, "Describe the sea.");
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    expect(await findings(page), colorScheme).toEqual([]);
    for (const name of [/^Settings$/, /^Conversations$/, /^Model /, /^Share$/]) {
      await page.getByRole("button", { name }).first().click();
      await expect(page.getByRole("dialog")).toBeVisible();
      expect(await findings(page), `${String(name)}, ${colorScheme}`).toEqual([]);
      await page.keyboard.press("Escape");
      await expect(page.getByRole("dialog")).toBeHidden();
    }
    for (const [place, heading] of [
      ["#traits", "Traits"],
      ["#traits/new", "Make a trait"],
      [`#r=${golden.link}`, "Somebody sent you this"],
    ] as const) {
      await page.goto(`${address}/${place}`);
      await expect(page.getByRole("heading", { name: heading, level: 1 })).toBeVisible();
      expect(await findings(page), `${place.slice(0, 12)}, ${colorScheme}`).toEqual([]);
    }
    await page.goto(`${address}/#`);
    await expect(page.getByRole("article")).toBeVisible();
  }
  for (const width of [360, 768, 2560]) {
    await page.setViewportSize({ width, height: 800 });
    expect(await overflow(page), `${String(width)} pixels`).toBe(0);
  }
  await page.close();
});

test("everything can be done with the keyboard", async ({ visitor }) => {
  const page = await visitor.newPage();
  await page.goto(address);
  await tabTo(page, /^(Load|Start) the model/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("region", { name: "Steering" })).toBeVisible({ timeout: 300_000 });
  // Long enough to be stopped on the way.
  await answerAt(page, { temperature: 0, tokens: 400 });
  if (await page.getByRole("button", { name: "New conversation" }).isVisible()) {
    await tabTo(page, /^New conversation/);
    await page.keyboard.press("Enter");
  }

  await tabTo(page, /^cheerful, against gloomy/);
  await page.keyboard.press("End");
  await tabTo(page, /^Your message/);
  await page.keyboard.type("Tell me a long story about the sea.");
  await page.keyboard.press("Enter");
  await stopWithTheKeyboard(page);
  await expect(page.getByRole("article")).toHaveCount(1);

  await tabTo(page, /^Answer again/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Stop" })).toBeVisible();
  await stopWithTheKeyboard(page);
  await expect(page.getByText("2 of 2")).toBeVisible();

  const list = page.getByRole("listbox", { name: /^Unsteered answer/ });
  for (let presses = 0; presses < 80; presses++) {
    if (await list.evaluate((element) => element.contains(document.activeElement))) break;
    await page.keyboard.press("Tab");
  }
  await expect(page.getByText(/% likely here/)).toBeVisible();
  await page.keyboard.press("Home");
  await expect(page.locator(":focus")).toHaveAttribute("data-index", "0");
  await page.keyboard.press("ArrowRight");
  await expect(page.locator(":focus")).toHaveAttribute("data-index", "1");
  await page.close();
});

async function stopWithTheKeyboard(page: Page): Promise<void> {
  await expect(tokens(page, "Unsteered").nth(2)).toBeVisible({ timeout: ANSWERING });
  await tabTo(page, /^Stop/);
  await page.keyboard.press("Enter");
  await expect(page.getByRole("button", { name: "Stop" })).toBeHidden({ timeout: ANSWERING });
}

/** Presses Tab until something with that accessible name has the focus. */
async function tabTo(page: Page, name: RegExp): Promise<void> {
  const target = page.getByRole("button", { name }).or(page.getByRole("slider", { name })).or(page.getByRole("textbox", { name }));
  await expect(target.first()).toBeEnabled({ timeout: ANSWERING });
  for (let presses = 0; presses < 80; presses++) {
    const focused = await target.evaluateAll((all) => all.includes(document.activeElement as HTMLElement));
    if (focused) return;
    await page.keyboard.press("Tab");
  }
  throw new Error(`Tab never reached ${String(name)}`);
}
