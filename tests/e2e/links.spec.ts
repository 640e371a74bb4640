/** Golden links in the browser: they open without a model, and replay on this executor too. `--full` replays all. */
import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { expect, full, pageWithModel, test, type Executor } from "./browser.ts";

interface GoldenLink {
  link: string;
  messages: { role: string; text: string; ids: number[]; readings: (number | null)[] }[];
}

const folder = new URL("../golden/links/", import.meta.url);
const names = (JSON.parse(readFileSync(new URL("recipes.json", folder), "utf8")) as { name: string }[]).map(({ name }) => name);
const goldens = names.map((name) => ({ name, ...(JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8")) as GoldenLink) }));

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

const executors: Executor[] = [
  { backend: "gpu", precision: "exact" },
  { backend: "gpu", precision: "fast" },
  { backend: "cpu", precision: "exact" },
  { backend: "cpu", precision: "fast" },
];

for (const executor of executors) {
  const { backend, precision } = executor;
  test.describe(`${precision} recipes on the ${backend.toUpperCase()}`, () => {
    test.describe.configure({ mode: "default" });
    let page: Page | undefined;

    test.beforeAll(async ({ visitor }) => {
      page = await pageWithModel(visitor, executor);
    });
    test.afterAll(async () => {
      await page?.close();
    });

    test("replay to the author's tokens", async () => {
      if (!page) throw new Error("the page was not opened");
      let [tokens, agreed, apart] = [0, 0, 0];
      const few = precision === "exact" ? ["segments"] : ["fast-steered", "fast-on-the-cpu"];
      for (const golden of goldens) {
        if (!full && backend === "gpu" && !few.includes(golden.name)) continue;
        const replayed = await page.evaluate(
          async ({ link, precision }) => {
            const opened = await globalThis.trimtab.openLink(link);
            if (opened.kind !== "recipe" || opened.recipe.precision !== precision) return null;
            const result = await globalThis.trimtab.replayLink(link, () => undefined);
            const answers = result.answers.map(({ message, chosen, tokens, answerStart }) => ({ message, chosen, ids: tokens.slice(answerStart).map(({ id }) => id) }));
            // A vector that came with the link is quantised again, to nearly the same numbers.
            const inside = opened.recipe.traits.some(({ inline }) => inline !== null);
            const shared = await globalThis.trimtab.makeLink(opened.recipe);
            // There is room for four beside the twelve that are ready-made.
            await globalThis.trimtab.removeTraits(result.added.map(({ name }) => name));
            return { ...result, answers, shared, inside };
          },
          { link: golden.link, precision },
        );
        if (!replayed) continue;
        for (const { message, ids, chosen } of replayed.answers) {
          expect(ids).toEqual(golden.messages[message]?.ids);
          expect(chosen).toHaveLength(ids.length);
        }
        expect(replayed.samePrompts).toBe(true);
        if (!replayed.inside) expect(replayed.shared).toBe(golden.link);
        tokens += replayed.tokens;
        agreed += replayed.agreed;
        // The link's own readings are a quarter of a deviation coarse.
        apart = Math.max(apart, (replayed.readingsApart ?? 0) - 0.25);
      }
      console.log(`${backend}, ${precision}: ${String(agreed)} of ${String(tokens)} tokens, readings at most ${String(Math.max(apart, 0))} deviations beside the link's`);
      expect(tokens).toBeGreaterThan(15);
      // Another executor's fast arithmetic rounds otherwise than the CPU's, on which most were made.
      expect(agreed / tokens).toBeGreaterThanOrEqual(precision === "exact" ? 0.995 : backend === "cpu" ? 0.98 : 0.95);
      if (precision === "exact") expect(apart).toBeLessThanOrEqual(0.01);
    });
  });
}
