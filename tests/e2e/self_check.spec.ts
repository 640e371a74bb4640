/** A graphics device that computes wrongly is refused before it is given a weight, and the choice shows its figures. */
import { readFileSync } from "node:fs";
import { startModel } from "./conversation.ts";
import { address, expect, full, modelId, test } from "./browser.ts";
import { beforeWorker } from "./worker_source.ts";

/** Runs before the worker's own script: one kernel is compiled from other source. */
const breaking = (label: string, from: string, to: string) => `{
  const create = GPUDevice.prototype.createShaderModule;
  globalThis.broken = 0;
  GPUDevice.prototype.createShaderModule = function (descriptor) {
    if (descriptor.label !== ${JSON.stringify(label)} || !descriptor.code.includes(${JSON.stringify(from)})) return create.call(this, descriptor);
    globalThis.broken += 1;
    return create.call(this, { ...descriptor, code: descriptor.code.replaceAll(${JSON.stringify(from)}, ${JSON.stringify(to)}) });
  };
}
`;

interface Fault {
  name: string;
  /** Another model than the page's must run for it. */
  model?: string;
  kernel: string;
  precisions: string[];
  from: string;
  to: string;
}
const faults = JSON.parse(readFileSync(new URL("../../shaders/sabotage.json", import.meta.url), "utf8")) as Fault[];
const inFast = faults.filter(({ model, precisions }) => !model && precisions.includes("fast"));

for (const { name, kernel, from, to } of full ? inFast : inFast.slice(0, 1)) {
  test(`a device with a fault is refused with a sentence, and the processor takes over: ${name}`, async ({ stranger }) => {
    const page = await stranger.newPage();
    await beforeWorker(page, breaking(kernel, from, to));
    await page.goto(address);
    await expect.poll(() => page.evaluate(() => "trimtab" in globalThis)).toBe(true);
    const model = await page.evaluate(async (id) => {
      const { backend, notices } = await globalThis.trimtab.load({ kind: "catalogue", id }, { backend: "gpu", precision: "fast" }, () => undefined);
      const ids = await globalThis.trimtab.tokenize([{ role: "user", content: "Hello!" }], true);
      return { backend, notices, meanNll: (await globalThis.trimtab.score(ids)).meanNll };
    }, modelId);
    expect(await page.workers()[0]?.evaluate(() => (globalThis as unknown as { broken: number }).broken)).toBeGreaterThan(0);
    expect(model.backend).toBe("cpu");
    expect(model.notices.join("\n")).toMatch(/computes wrongly.*Update the browser or the graphics driver/);
    expect(model.meanNll).toBeLessThan(10);
  });
}

test("a graphics device that is a program is left alone unless it is asked for, and the page says so", async ({ stranger }) => {
  const page = await stranger.newPage();
  await page.goto(address);
  await startModel(page, "auto");
  await page.getByRole("button", { name: /^Model / }).click();
  const dialog = page.getByRole("dialog", { name: "Model" });
  await expect(dialog.getByText(/offers \(.*swiftshader.*\) is a program on the processor/i)).toBeVisible();
  await expect(dialog.getByText(/tokens a second/)).toBeHidden();
  await expect(dialog.getByRole("combobox", { name: "Where to run" })).toHaveValue("auto");
});

/** Runs before the worker's own script: the device says nothing of being a program. */
const asHardware = `for (const [name, value] of Object.entries({ isFallbackAdapter: false, vendor: "acme", architecture: "rocket", device: "", description: "" })) {
  Object.defineProperty(GPUAdapterInfo.prototype, name, { get: () => value });
}
`;

test("the choice is made by a measurement that is shown and kept: it is not made again", async ({ stranger }) => {
  test.skip(!full, "compiles every kernel once more");
  const page = await stranger.newPage();
  await beforeWorker(page, asHardware);
  await page.goto(address);
  await startModel(page, "auto");
  await page.getByRole("button", { name: /^Model / }).click();
  const dialog = page.getByRole("dialog", { name: "Model" });
  await expect(dialog.getByText(/[\d.]+ tokens a second on the processor and [\d.]+ on the graphics device/)).toBeVisible();
  await expect(dialog.getByRole("combobox", { name: "Where to run" })).toHaveValue("auto");

  const first = await dialog.getByText(/tokens a second on the processor/).textContent();

  const again = await page.evaluate(async (id) => {
    const { trial, backend } = await globalThis.trimtab.load({ kind: "catalogue", id }, { backend: "auto", precision: "fast" }, () => undefined);
    return { trial, backend };
  }, modelId);
  const speeds = again.trial?.tokensPerSecond;
  expect(speeds?.gpu).toBeGreaterThan(0);
  expect(speeds?.cpu).toBeGreaterThan(speeds?.gpu ?? Number.NaN);
  expect(again.backend).toBe("cpu");
  expect(again.trial?.compileMilliseconds, "the slower device is left alone").toBeUndefined();
  await expect(dialog.getByText(/tokens a second on the processor/)).toHaveText(first ?? "");
});
