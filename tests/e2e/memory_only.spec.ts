/** A browser that offers the page no storage at all: everything runs in memory, and the page says what that means. */
import { address, expect, test } from "./browser.ts";
import { answerAt, ask, startModel } from "./conversation.ts";
import { beforeWorker } from "./worker_source.ts";

/** Runs before any script of the page or its worker. */
const forgetful = `Object.defineProperty(navigator.storage, "getDirectory", { value: () => Promise.reject(new DOMException("no", "SecurityError")) });
Object.defineProperty(globalThis, "indexedDB", { value: { open() { throw new DOMException("no", "InvalidStateError"); } } });
`;

test("without any storage the model runs, and the page says that closing the tab loses everything and offers a file of it", async ({ stranger }) => {
  const page = await stranger.newPage();
  await page.addInitScript(forgetful);
  await beforeWorker(page, forgetful);
  await page.goto(address);
  await startModel(page);
  await expect(page.getByText(/model is in memory only.*closing the tab loses it/)).toBeVisible();
  await answerAt(page, { temperature: 0, tokens: 8 });
  await ask(page, "Hello?");
  const alert = page.getByRole("alert");
  await expect(alert).toContainText("closing this tab loses your conversations");
  const [file] = await Promise.all([page.waitForEvent("download"), alert.getByRole("button", { name: "Save everything as a file" }).click()]);
  expect(file.suggestedFilename()).toBe("trimtab session.json");
});
