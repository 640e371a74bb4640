/** From nothing to a steered answer beside the unsteered one, as a visitor does it. */
import type { BrowserContext, Page } from "@playwright/test";
import { address, complaints, expect, newVisitor, test } from "./browser.ts";
import { answerAt, ask, openWithModel, runOn, startModel, text, tokens } from "./conversation.ts";

const TOKENS = 10;

test.describe.configure({ mode: "serial" });

let visitor: BrowserContext;
let leave: () => Promise<void>;
let page: Page;
let heard: string[];
const requestsAfterLoading: string[] = [];

test.beforeAll(async () => {
  // Somebody who was never here: nothing is cached, no conversation is kept.
  ({ context: visitor, leave } = await newVisitor());
  heard = complaints(visitor);
  page = await visitor.newPage();
  await page.goto(address);
});

test.afterAll(async () => {
  await leave();
});

test("loading shows megabytes and share", async () => {
  await runOn(page, "cpu");

  const numbers = page.getByText(/\d+ of \d+ MB · \d+ %/);
  await page.getByRole("button", { name: /^Load the model/ }).click();
  await expect(numbers).toBeVisible();
  await expect(page.getByRole("progressbar", { name: "Loading the model" })).toBeVisible();
  await expect(page.getByRole("region", { name: "Steering" })).toBeVisible({ timeout: 300_000 });
  page.on("request", (request) => requestsAfterLoading.push(request.url()));
});

test("a pushed slider makes a steered answer that differs from the unsteered one", async () => {
  await answerAt(page, { temperature: 0, tokens: TOKENS });
  const slider = page.getByRole("slider").first();
  await expect(slider).toHaveAttribute("aria-label", /cheerful/);
  await slider.focus();
  await page.keyboard.press("End");
  await expect(slider).not.toHaveValue("0");
  await ask(page, "How was your weekend?");
  const [unsteered, steered] = [await text(page, "Unsteered"), await text(page, "Steered")];
  console.log(`unsteered: ${unsteered}\nsteered: ${steered}`);
  expect(unsteered.length).toBeGreaterThan(0);
  expect(steered.length).toBeGreaterThan(0);
  expect(steered).not.toBe(unsteered);
});

test("both answers are coloured, with a legend in calibrated units", async () => {
  for (const column of ["Unsteered", "Steered"] as const) {
    const colours = await tokens(page, column).evaluateAll((all) => all.map((token) => (token as HTMLElement).style.backgroundColor));
    expect(new Set(colours.filter((colour) => colour !== "")).size, column).toBeGreaterThan(1);
  }
  const bar = page.getByRole("region", { name: "Colours" });
  await expect(bar.getByText("0 ordinary")).toBeVisible();
  await expect(bar.getByText("cheerful", { exact: true }).last()).toBeVisible();
  await expect(bar.getByText("gloomy", { exact: true })).toBeVisible();

  const reread = await colourOf("Steered");
  const inside = bar.getByRole("switch", { name: /inside the steered run/ });
  await inside.check();
  await expect.poll(() => colourOf("Steered"), { message: "readings that include the push have other colours" }).not.toEqual(reread);
  await inside.uncheck();
  await expect.poll(() => colourOf("Steered")).toEqual(reread);

  await bar.getByRole("combobox", { name: "Colour by" }).selectOption("surprise");
  await expect(bar.getByText("surprising")).toBeVisible();
  await bar.getByRole("combobox", { name: "Colour by" }).selectOption({ label: "cheerful" });
});

async function colourOf(column: "Unsteered" | "Steered"): Promise<string[]> {
  return tokens(page, column).evaluateAll((all) => all.map((token) => (token as HTMLElement).style.backgroundColor));
}

test("a focused token shows its readings, its probability, what else was likely, and its layers", async () => {
  await tokens(page, "Steered").nth(2).focus();
  await expect(page.getByText(/% likely here/)).toBeVisible();
  await expect(page.getByText("What else was likely")).toBeVisible();
  await expect(page.getByText(/through the layers/)).toBeVisible();
  for (const trait of ["cheerful", "poetic", "villainous"]) {
    await expect(page.getByRole("term").filter({ hasText: trait })).toBeVisible();
  }
  await page.keyboard.press("Escape");
  await expect(page.getByText(/% likely here/)).toBeHidden();
});

test("without a push both answers are the same", async () => {
  await page.getByRole("button", { name: "Reset cheerful" }).click();
  await page.getByRole("button", { name: /^Answer again/ }).last().click();
  await expect(page.getByText(`2 of 2`)).toBeVisible({ timeout: 300_000 });
  await expect(page.getByRole("button", { name: /^Answer again/ }).last()).toBeEnabled({ timeout: 300_000 });
  expect(await text(page, "Steered")).toBe(await text(page, "Unsteered"));
});

test("after loading, the page makes no network request and no complaint", () => {
  expect(requestsAfterLoading).toEqual([]);
  expect(heard).toEqual([]);
});

test("the conversation is there after a reload, and goes on", async () => {
  const before = await text(page, "Unsteered");
  await page.close();
  page = await openWithModel(visitor);
  expect(await text(page, "Unsteered")).toBe(before);
  await ask(page, "Tell me more.");
  await expect(page.getByRole("article")).toHaveCount(2);
  expect((await text(page, "Unsteered")).length).toBeGreaterThan(0);
});

test("the model is kept: a second start downloads nothing", async () => {
  const other = await visitor.newPage();
  const asked: string[] = [];
  other.on("request", (request) => asked.push(request.url()));
  await other.goto(address);
  await expect(other.getByRole("button", { name: "Start the model" })).toBeVisible();
  await startModel(other);
  expect(asked.filter((url) => url.endsWith("model.safetensors"))).toEqual([]);
  await other.close();
});
