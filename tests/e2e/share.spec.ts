/** A run handed to somebody else: shared by one visitor, opened by another who has no model yet. */
import { address, complaints, expect, newVisitor, test } from "./browser.ts";
import { answerAt, ask, runOn, startModel, text } from "./conversation.ts";

const TOKENS = 12;

test("a shared run shows at once, replays to the author's tokens, and runs again", async () => {
  const author = await newVisitor();
  const reader = await newVisitor();
  try {
    const heard = complaints(author.context);
    const page = await author.context.newPage();
    await page.goto(address);
    await startModel(page);
    const asked: string[] = [];
    page.on("request", (request) => asked.push(request.url()));
    await answerAt(page, { temperature: 0, tokens: TOKENS });
    await page.getByRole("slider", { name: /cheerful/ }).focus();
    await page.keyboard.press("End");
    await ask(page, "How was your weekend?");
    const written = await text(page, "Steered");
    const plain = await text(page, "Unsteered");
    expect(plain).not.toBe(written);

    await page.getByRole("button", { name: "Share", exact: true }).click();
    const dialog = page.getByRole("dialog", { name: "Share this run" });
    await dialog.getByRole("textbox", { name: "Title" }).fill("A glad weekend");
    await dialog.getByRole("combobox", { name: "Point at a token" }).selectOption({ index: 2 });
    const field = dialog.getByRole("textbox", { name: /^(Code|Link), / });
    // Typing makes the code anew; the last one is what is shown.
    await expect
      .poll(async () => {
        const opened = await page.evaluate(async (link) => globalThis.trimtab.openLink(link).catch(() => null), await field.inputValue());
        return opened?.kind === "recipe" && opened.recipe.look.title === "A glad weekend" && opened.recipe.look.token !== null;
      })
      .toBe(true);
    await expect(dialog.getByText(/pushed it towards being cheerful, at \d+ % of the strongest push/)).toBeVisible();
    await expect(dialog.getByText("served from this machine alone")).toBeVisible();
    const link = await field.inputValue();
    expect(link.startsWith(`${address}/#r=`)).toBe(true);
    await dialog.getByRole("button", { name: "QR code" }).click();
    await expect(dialog.getByRole("img", { name: "QR code of the link" })).toBeVisible();
    await dialog.getByRole("checkbox", { name: "with this page's address" }).uncheck();
    const code = await field.inputValue();
    expect(link.endsWith(`#r=${code}`)).toBe(true);
    console.log(`a code of ${String(code.length)} characters for ${String(TOKENS)} tokens`);
    expect(asked, "nothing is fetched while chatting, steering and sharing").toEqual([]);
    expect(heard).toEqual([]);
    await author.leave();

    const other = await reader.context.newPage();
    await other.setViewportSize({ width: 390, height: 800 });
    const complained = complaints(reader.context);
    await other.goto(link);
    await expect(other.getByRole("heading", { name: "A glad weekend" })).toBeVisible();
    await expect(other.getByText(/^A small AI answered twice: by itself, and while somebody pushed it towards being cheerful, at \d+ % of/)).toBeVisible();
    const answer = other.getByRole("listbox", { name: /^Steered answer/ }).getByRole("option");
    expect((await answer.allTextContents()).join("")).toBe(written);
    expect((await other.getByRole("listbox", { name: /^Unsteered answer/ }).getByRole("option").allTextContents()).join("")).toBe(plain);
    const colours = await answer.evaluateAll((all) => all.map((token) => (token as HTMLElement).style.backgroundColor));
    expect(new Set(colours.filter((colour) => colour !== "")).size).toBeGreaterThan(1);
    expect(await other.evaluate(() => document.documentElement.scrollWidth <= window.innerWidth), "nothing sticks out on a phone").toBe(true);

    await runOn(other, "cpu");
    await other.getByRole("button", { name: /^Load the model/ }).press("Enter");
    await expect(other.getByText(`agrees on ${String(2 * TOKENS)} of ${String(2 * TOKENS)} tokens`)).toBeVisible({ timeout: 300_000 });
    await expect(other.getByRole("option", { name: /the author points at it/ })).toHaveCount(1);
    const askedByReader: string[] = [];
    other.on("request", (request) => askedByReader.push(request.url()));
    await other.getByRole("button", { name: "Run it yourself" }).press("Enter");
    await expect(other.getByRole("button", { name: /^Answer again/ })).toBeEnabled({ timeout: 300_000 });
    expect(await text(other, "Steered")).toBe(written);
    expect(complained).toEqual([]);
    await other.evaluate((code) => (location.hash = `r=${code}`), code);
    await expect(other.getByText(`agrees on ${String(2 * TOKENS)} of ${String(2 * TOKENS)} tokens`)).toBeVisible({ timeout: 300_000 });
    expect(askedByReader, "nothing is fetched while running and opening links").toEqual([]);
  } finally {
    await author.leave();
    await reader.leave();
  }
});

test("a link that is cut short gets a sentence", async ({ fresh: page }) => {
  await page.goto(`${address}/#r=abc`);
  await expect(page.getByRole("heading", { name: "This link cannot be opened" })).toBeVisible();
  await expect(page.getByRole("alert")).not.toBeEmpty();
});
