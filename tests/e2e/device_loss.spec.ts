/** A graphics device that is lost in the middle of an answer. */
import { ANSWERING, answerAt, answered, text, tokens } from "./conversation.ts";
import { address, expect, load, newVisitor, test } from "./browser.ts";

/** Runs before the worker's own script: keeps the devices that it asks for, so that a test can destroy them. */
const keepDevices = `{
  const requestDevice = GPUAdapter.prototype.requestDevice;
  globalThis.gpuDevices = [];
  GPUAdapter.prototype.requestDevice = async function (...inputs) {
    const device = await requestDevice.apply(this, inputs);
    globalThis.gpuDevices.push(device);
    return device;
  };
}
`;

test("the answer goes on with the same tokens on a new device", async () => {
  const { context, leave } = await newVisitor();
  const page = await context.newPage();
  await page.route(/worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: keepDevices + (await response.text()) });
  });
  await page.goto(address);
  // What was read token by token is read again many at a time. In "exact" that is the same but for the last bits; in "fast" such a
  // bit may round an activation the other way, and another token be chosen where two are nearly equal.
  await load(page, { backend: "gpu", precision: "exact" });
  const worker = page.workers()[0];
  if (!worker) throw new Error("the page has no worker");

  await page.exposeFunction("destroyDevice", async () => {
    await worker.evaluate(() => {
      (globalThis as unknown as { gpuDevices: GPUDevice[] }).gpuDevices.at(-1)?.destroy();
    });
  });
  const run = (loseAfter: number) =>
    page.evaluate(async (loseAfter) => {
      const seen: string[] = [];
      let tokens = 0;
      const messages = [{ role: "user" as const, content: "Name three fruits." }];
      const results = await globalThis.trimtab.generate(
        {
          columns: [
            { column: "unsteered", messages, plan: [] },
            { column: "steered", messages, plan: [{ trait: "cheerful", operation: { kind: "add", coefficient: 1 }, scope: "response" }] },
          ],
          sampler: { temperature: 0.8, topK: 0, topP: 1, repetitionPenalty: 1, seed: 5 },
          maxTokens: 6,
        },
        (event) => {
          if (event.kind === "token") {
            tokens += 1;
            if (tokens === loseAfter) void (globalThis as unknown as { destroyDevice(): Promise<void> }).destroyDevice();
          } else if (event.kind === "recovered") seen.push(event.model.backend);
        },
      );
      return { seen, tokens, ids: results.map((result) => result.tokens.map((token) => token.id)) };
    }, loseAfter);

  const undisturbed = await run(0);
  expect(undisturbed.seen).toEqual([]);
  const disturbed = await run(5);
  expect(disturbed.seen).toEqual(["gpu"]);
  expect(disturbed.ids).toEqual(undisturbed.ids);
  expect(disturbed.tokens).toBe(undisturbed.tokens);

  // The same on the new device, seen by somebody who asked on the page.
  await answerAt(page, { temperature: 0, tokens: 6 });
  await page.getByRole("textbox", { name: "Your message" }).fill("Name three fruits.");
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await expect(tokens(page, "Steered").first()).toBeVisible({ timeout: ANSWERING });
  await worker.evaluate(() => {
    (globalThis as unknown as { gpuDevices: GPUDevice[] }).gpuDevices.at(-1)?.destroy();
  });
  await expect(page.getByRole("status").filter({ hasText: "The graphics device was lost in the middle of an answer." })).toBeVisible({ timeout: ANSWERING });
  await answered(page);
  expect((await text(page, "Steered")).length).toBeGreaterThan(0);
  await leave();
});
