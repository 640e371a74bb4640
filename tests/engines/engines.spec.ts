/** The page in browsers of two other engines: it loads the model, keeps it, answers, steers and shares. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@playwright/test";
import { type Browser, firefox, webkit } from "./browsers.ts";

const address = process.env["TRIMTAB_URL"] ?? "http://127.0.0.1:8420";
const TOKENS = 12;
const LOADING = 300_000;
const ANSWERING = 300_000;

const named = (label: string) => `//button[normalize-space()='${label}' or @aria-label='${label}']`;
const beginning = (label: string) => `//button[starts-with(normalize-space(), '${label}')]`;
const field = (label: string) => `//*[self::input or self::textarea or self::select][@aria-label='${label}']`;
const saying = (words: string) => `//p[contains(normalize-space(), '${words}')]`;
const steering = "//section[@aria-label='Steering']";

/** The words of the last answer on the screen whose name begins with `label`. */
async function answer(browser: Browser, label: string): Promise<string> {
  const tokens = `[...document.querySelectorAll('[role="listbox"][aria-label^="${label}"]')].at(-1)?.querySelectorAll('[role="option"]') ?? []`;
  return String(await browser.evaluate(`[...(${tokens})].map(({ textContent }) => textContent).join("")`));
}

async function answered(browser: Browser): Promise<void> {
  await browser.see(`(//button[starts-with(@aria-label, 'Answer again') or starts-with(normalize-space(), 'Answer again')][not(@disabled)])[last()]`, ANSWERING);
}

for (const [engine, start] of [["Firefox", firefox], ["WebKitGTK", webkit]] as const) {
  test(`in ${engine} the model is loaded and kept, answers, is steered, and a run is shared`, async ({}, { outputDir }) => {
    mkdirSync(outputDir, { recursive: true });
    const picture = (name: string) => join(outputDir, `${name}.png`) as `${string}.png`;
    const browser = await start();
    console.log(browser.name);
    try {
      await browser.open(address);
      await browser.click(beginning("Load the model"));
      await browser.see(`${steering} | //*[@role='alert']`, LOADING);
      await browser.picture(picture("loaded"));
      expect(await browser.evaluate(`document.querySelector('[role="alert"]')?.textContent ?? null`)).toBeNull();

      await browser.click(named("Settings"));
      for (const [label, value] of [["Temperature", "0"], ["Longest answer", String(TOKENS)]] as const) {
        await browser.fill(field(label), value);
        await browser.press(field(label), "Enter");
      }
      await browser.press(field("Longest answer"), "Escape");
      await browser.press("(//input[@type='range'][contains(@aria-label, 'cheerful')])[1]", "End");
      await browser.fill("//textarea[@id='prompt']", "How was your weekend?");
      await browser.click(named("Ask"));
      await answered(browser);
      const [unsteered, steered] = [await answer(browser, "Unsteered answer"), await answer(browser, "Steered answer")];
      console.log(`unsteered: ${unsteered}\nsteered: ${steered}`);
      await browser.picture(picture("answered"));
      expect(unsteered.length).toBeGreaterThan(10);
      expect(steered.length).toBeGreaterThan(10);
      expect(steered).not.toBe(unsteered);

      await browser.click(named("Share"));
      const link = "//dialog[.//h2[.='Share this run']]//label[span[starts-with(., 'Code, ') or starts-with(., 'Link, ')]]//*[self::input or self::textarea]";
      await browser.see(link);
      const code = async () => String(await browser.evaluate(`document.evaluate("${link}", document, null, XPathResult.FIRST_ORDERED_NODE_TYPE, null).singleNodeValue?.value ?? ""`)).replace(/^.*#r=/, "");
      await expect.poll(code).not.toBe("");
      const shared = await code();
      await browser.picture(picture("shared"));

      // A reader who comes to the page for the first time: it is loaded anew.
      await browser.open("about:blank");
      await browser.open(`${address}/#r=${shared}`);
      await expect.poll(() => answer(browser, "Answer")).toBe(steered);
      expect(await browser.evaluate("trimtab.catalogue().then(([card]) => card.cached)"), "the download was kept").toBe(true);
      await browser.click(beginning("Start the model"));
      await browser.see(saying(`agrees on ${String(TOKENS)} of ${String(TOKENS)} tokens`), LOADING);
      await browser.picture(picture("replayed"));

      await browser.open("about:blank");
      await browser.open(address);
      await expect.poll(() => answer(browser, "Steered answer"), { message: "the conversation was kept" }).toBe(steered);
      expect(await browser.evaluate(`document.querySelector('[role="alert"]')?.textContent ?? null`)).toBeNull();
      await browser.picture(picture("kept"));
    } catch (error) {
      await browser.picture(picture("failed")).catch(() => undefined);
      throw error;
    } finally {
      await browser.leave();
    }
  });
}
