/** Golden links open without a model. */
import type { Page } from "@playwright/test";
import { expect, test } from "./browser.ts";
import { goldens } from "./golden_links.ts";

const offersVerbs = async (page: Page) => {
  await expect.poll(() => page.evaluate(() => "trimtab" in globalThis), { message: "the page offers its verbs" }).toBe(true);
};

test("every golden link opens without a model", async ({ fresh: page }) => {
  await offersVerbs(page);
  for (const { name, link, messages } of goldens) {
    const opened = await page.evaluate(async (link) => globalThis.trimtab.openLink(`https://example.org/#r=${link}`), link);
    if (opened.kind !== "recipe") throw new Error(`${name} is of a newer version`);
    expect(opened.recipe.messages.map(({ role, text }) => ({ role, text }))).toEqual(messages.map(({ role, text }) => ({ role, text })));
    expect(opened.recipe.messages.map(({ tokens }) => tokens?.map(({ id }) => id))).toEqual(messages.map(({ ids }) => ids));
  }
});

test("what is no link is refused with a sentence", async ({ fresh: page }) => {
  await offersVerbs(page);
  const refused = (link: string) =>
    page.evaluate(
      async (link) =>
        globalThis.trimtab.openLink(link).then(
          () => "opened",
          (error: unknown) => (error as Error).message,
        ),
      link,
    );
  expect(await refused("https://example.org/")).toContain("no recipe");
  expect(await refused((goldens[0]?.link ?? "").slice(0, 100))).toContain("cut short");
});
