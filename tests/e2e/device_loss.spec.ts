/** A graphics device that is lost in the middle of an answer. */
import { ANSWERING, answerAt, answered, ask, text, tokens } from "./conversation.ts";
import { address, expect, load, test } from "./browser.ts";
import { keepDevices } from "./device_loss.ts";
import { beforeWorker } from "./worker_source.ts";

const QUESTION = "Name three fruits.";

test("the answer goes on with the same tokens on a new device", async ({ stranger }) => {
  const page = await stranger.newPage();
  await beforeWorker(page, keepDevices);
  await page.goto(address);
  // What was read token by token is read again many at a time. In "exact" that is the same but for the last bits; in "fast" such a
  // bit may round an activation the other way, and another token be chosen where two are nearly equal.
  await load(page, { backend: "gpu", precision: "exact" });
  const worker = page.workers()[0];
  if (!worker) throw new Error("the page has no worker");

  // A new conversation has the same seed, so that the same question has the same answer.
  await answerAt(page, { temperature: 0.8, tokens: 6 });
  const push = async () => {
    await page.getByRole("slider").first().focus();
    await page.keyboard.press("End");
  };
  await push();
  await ask(page, QUESTION);
  const undisturbed = { steered: await text(page, "Steered"), unsteered: await text(page, "Unsteered") };
  expect(undisturbed.steered).not.toBe(undisturbed.unsteered);

  await page.getByRole("button", { name: "New conversation" }).click();
  await push();
  await page.getByRole("textbox", { name: "Your message" }).fill(QUESTION);
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await expect(tokens(page, "Steered").first()).toBeVisible({ timeout: ANSWERING });
  await worker.evaluate(() => {
    (globalThis as unknown as { gpuDevices: GPUDevice[] }).gpuDevices.at(-1)?.destroy();
  });
  await expect(page.getByRole("status").filter({ hasText: /The graphics device was lost in the middle of an answer\..* goes on there/ })).toBeVisible({ timeout: ANSWERING });
  await answered(page);
  expect({ steered: await text(page, "Steered"), unsteered: await text(page, "Unsteered") }).toEqual(undisturbed);
});
