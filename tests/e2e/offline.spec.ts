/** After one visit the page needs neither network nor server; what it keeps is shown, and a new version waits. */
import { readFileSync } from "node:fs";
import { BrokenServer } from "./broken_server.ts";
import { answerAt, ask, startModel, text } from "./conversation.ts";
import { address, complaints, expect, load, newVisitor, test } from "./browser.ts";

interface GoldenLink {
  link: string;
  messages: { role: string; text: string }[];
}

test("with the network cut and the server stopped it opens, generates, and opens links", async () => {
  const server = await BrokenServer.start(Number.POSITIVE_INFINITY);
  const { address } = server;
  const visitor = await newVisitor({ app: true });
  try {
    const first = await visitor.context.newPage();
    await first.goto(address);
    await first.evaluate(async () => {
      await navigator.serviceWorker.ready;
    });
    await load(first, { backend: "cpu", precision: "fast" });
    await first.close();

    await server.stop();
    await visitor.context.setOffline(true);
    const heard = complaints(visitor.context);
    const page = await visitor.context.newPage();
    await page.goto(address);
    await load(page, { backend: "cpu", precision: "fast" });
    const answer = await page.evaluate(async () => {
      const sampler = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 0 };
      const plan = [{ trait: "cheerful", operation: { kind: "add" as const, coefficient: 2 }, scope: "all" as const }];
      const columns = [{ column: "steered" as const, messages: [{ role: "user" as const, content: "Hello!" }], plan }];
      const [result] = await globalThis.trimtab.generate({ columns, sampler, maxTokens: 4 }, () => undefined);
      return result?.tokens.slice(result.answerStart).length;
    });
    expect(answer).toBe(4);

    const bytes = await page.evaluate(async () => {
      const pair = async (side: 1 | -1, content: string) => {
        const messages = [{ role: "user" as const, content: "Hello!" }];
        const prompt_ids = [...(await globalThis.trimtab.tokenize(messages, true))];
        const full_ids = [...(await globalThis.trimtab.tokenize([...messages, { role: "assistant" as const, content }], false))];
        return { side, prompt_ids, full_ids };
      };
      return (await globalThis.trimtab.extract([await pair(1, "What a lovely day!"), await pair(-1, "Leave me alone.")])).length;
    });
    expect(bytes, "a vector is extracted").toBeGreaterThan(10_000);
    // Parts of the page that the first visit never opened.
    await page.goto(`${address}/#traits/new`);
    await expect(page.getByRole("heading", { name: "Make a trait" })).toBeVisible();
    await page.goto(`${address}/#lessons/direction`);
    await expect(page.getByRole("heading", { name: "Two answers to one question" })).toBeVisible();

    const golden = JSON.parse(readFileSync(new URL("../golden/links/cheerful.json", import.meta.url), "utf8")) as GoldenLink;
    await page.goto(`${address}/#r=${golden.link}`);
    await expect(page.getByRole("listbox", { name: /^Answer/ })).toContainText((golden.messages[1]?.text ?? "").slice(0, 20));
    // The browser itself reports that the catalogue could not be asked for; the last one that was known is used.
    expect(heard.filter((text) => !/^Failed to load resource/.test(text)), "errors on the console").toEqual([]);
  } finally {
    await visitor.leave();
    await server.stop();
  }
});

test("a new version waits until the visitor agrees and fetches no model; what is kept is listed and removed by the keyboard", async () => {
  const server = await BrokenServer.start(Number.POSITIVE_INFINITY);
  const visitor = await newVisitor({ app: true });
  try {
    const page = await visitor.context.newPage();
    await page.setViewportSize({ width: 390, height: 844 });
    await page.goto(server.address);
    await startModel(page);
    await page.evaluate(async () => {
      await navigator.serviceWorker.ready;
    });
    await answerAt(page, { temperature: 0, tokens: 4 });
    await ask(page, "What is snow?");
    const before = await text(page, "Unsteered");
    const fetched = server.ranges.length;
    server.newer = true;
    await page.evaluate(async () => (await navigator.serviceWorker.getRegistration())?.update());
    await expect(page.getByText("A new version of this page is ready.")).toBeVisible();
    expect(await text(page, "Unsteered"), "the session goes on").toBe(before);
    const other = await visitor.context.newPage();
    await other.goto(server.address);
    // A tab that is still opening would hear of nothing.
    await expect(other.getByRole("button", { name: "Start the model" })).toBeVisible();
    await page.bringToFront();
    await page.getByRole("button", { name: "Open it now" }).click();
    await expect(page.getByRole("button", { name: "Start the model" })).toBeVisible();
    await expect(other.getByText("Another tab opened a new version of this page;")).toBeVisible();
    await expect(other.getByRole("button", { name: "Reload this tab" })).toBeEnabled();
    await other.close();
    expect(await text(page, "Unsteered")).toBe(before);
    expect(server.ranges.length, "the model is not fetched again").toBe(fetched);

    await page.getByRole("button", { name: "Conversations" }).press("Enter");
    await page.getByRole("button", { name: "What is stored here" }).press("Enter");
    const dialog = page.getByRole("dialog", { name: "What is stored here" });
    await expect(dialog.getByText(/^In all \d+/)).toBeVisible();
    await dialog.getByRole("button", { name: /^Remove SmolLM2/ }).press("Enter");
    await expect(dialog.getByText(/^No model\./)).toBeVisible();
  } finally {
    await visitor.leave();
    await server.stop();
  }
});

test("without room everything runs from memory, and the page says that nothing will be kept", async ({ page, context }) => {
  const session = await context.newCDPSession(page);
  await page.goto(address);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(address).origin, quotaSize: 20_000_000 });
  await startModel(page);
  await expect(page.getByText(/memory only.*no room.*closing the tab loses it/)).toBeVisible();
  await answerAt(page, { temperature: 0, tokens: 3 });
  await ask(page, "Hello?");
  expect((await text(page, "Unsteered")).length).toBeGreaterThan(0);
});
