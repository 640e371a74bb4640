/** Links that were made once, and what was read when they were made. */
import { readFileSync } from "node:fs";
import type { Page } from "@playwright/test";
import { expect, type Executor } from "./browser.ts";

interface GoldenLink {
  link: string;
  messages: { role: string; text: string; ids: number[]; readings: (number | null)[] }[];
}

const folder = new URL("../golden/links/", import.meta.url);
const names = (JSON.parse(readFileSync(new URL("recipes.json", folder), "utf8")) as { name: string }[]).map(({ name }) => name);
export const goldens = names.map((name) => ({ name, ...(JSON.parse(readFileSync(new URL(`${name}.json`, folder), "utf8")) as GoldenLink) }));

/** Those of the executor's precision among the wanted ones replay to the author's tokens. */
export async function linksReplay(page: Page, { backend, precision }: Executor, wanted: (name: string) => boolean = () => true): Promise<void> {
  let [tokens, agreed, apart] = [0, 0, 0];
  for (const golden of goldens) {
    if (!wanted(golden.name)) continue;
    const replayed = await page.evaluate(
      async ({ link, precision }) => {
        const opened = await globalThis.trimtab.openLink(link);
        if (opened.kind !== "recipe" || opened.recipe.precision !== precision) return null;
        const result = await globalThis.trimtab.replayLink(link, () => undefined);
        const answers = result.answers.map(({ message, chosen, tokens, answerStart }) => ({ message, chosen, ids: tokens.slice(answerStart).map(({ id }) => id) }));
        // A vector that came with the link is quantised again, to nearly the same numbers.
        const inside = opened.recipe.traits.some(({ inline }) => inline !== null);
        const shared = await globalThis.trimtab.openLink(await globalThis.trimtab.makeLink(opened.recipe));
        const same = JSON.stringify(shared) === JSON.stringify(opened);
        // There is room for four beside the twelve that are ready-made.
        await globalThis.trimtab.removeTraits(result.added.map(({ name }) => name));
        return { ...result, answers, same, inside };
      },
      { link: golden.link, precision },
    );
    if (!replayed) continue;
    for (const { message, ids, chosen } of replayed.answers) {
      expect(ids).toEqual(golden.messages[message]?.ids);
      expect(chosen).toHaveLength(ids.length);
    }
    expect(replayed.samePrompts).toBe(true);
    if (!replayed.inside) expect(replayed.same, `${golden.name} shared again`).toBe(true);
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
}
