/** What a visitor does on the page, as steps. */
import type { BrowserContext, Locator, Page } from "@playwright/test";
import { address, expect } from "./browser.ts";

/** Loading compiles every kernel and moves 98 MB into a device that is a program. */
const LOADING = 300_000;
/** Two short answers and the re-reading. */
export const ANSWERING = 300_000;

export async function openWithModel(visitor: BrowserContext): Promise<Page> {
  const page = await visitor.newPage();
  await page.goto(address);
  await startModel(page);
  return page;
}

/**
 * On the processor unless told otherwise: left to itself the page looks at the graphics device first.
 */
export async function startModel(page: Page, place: "auto" | "cpu" = "cpu"): Promise<void> {
  if (place !== "auto") await runOn(page, place);
  await page.getByRole("button", { name: /^(Load|Start) the model/ }).click();
  await expect(page.getByRole("region", { name: "Steering" })).toBeVisible({ timeout: LOADING });
}

/** By the field of the dialog, before a model is there. */
export async function runOn(page: Page, place: "cpu" | "gpu"): Promise<void> {
  await page.getByRole("button", { name: "Model", exact: true }).click();
  await page.getByRole("combobox", { name: "Where to run" }).selectOption(place);
  await page.keyboard.press("Escape");
}

/** How the next answers are written, by the settings' own fields. */
export async function answerAt(page: Page, { temperature, tokens }: { temperature: number; tokens: number }): Promise<void> {
  await page.getByRole("button", { name: "Settings" }).click();
  const dialog = page.getByRole("dialog", { name: "Settings" });
  await fill(dialog.getByRole("spinbutton", { name: "Temperature" }), String(temperature));
  await fill(dialog.getByRole("spinbutton", { name: "Longest answer" }), String(tokens));
  await page.keyboard.press("Escape");
  await expect(dialog).toBeHidden();
}

async function fill(field: Locator, value: string): Promise<void> {
  await field.fill(value);
  await field.press("Tab");
  await expect(field).toHaveValue(value);
}

export async function ask(page: Page, question: string): Promise<void> {
  await page.getByRole("textbox", { name: "Your message" }).fill(question);
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await answered(page);
}

export async function answered(page: Page): Promise<void> {
  await expect(page.getByRole("button", { name: /^Answer again/ }).last()).toBeEnabled({ timeout: ANSWERING });
}

/** The tokens of the newest answer. */
export function tokens(page: Page, column: "Unsteered" | "Steered"): Locator {
  return page.getByRole("listbox", { name: new RegExp(`^${column} answer`) }).last().getByRole("option");
}

export async function text(page: Page, column: "Unsteered" | "Steered"): Promise<string> {
  return (await tokens(page, column).allTextContents()).join("");
}
