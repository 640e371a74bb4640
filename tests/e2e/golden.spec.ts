/** The engine in the browser against Hugging Face transformers, on the processor; `--full` adds the graphics device and the other module. */
import type { Page } from "@playwright/test";
import { greedyAnswersAgree, likelihoodAgrees, residualAgrees, sampledAnswersAgree, steeringAgrees } from "./agreement.ts";
import { full, pageWithModel, test, type Executor } from "./browser.ts";

const processor: (Executor & { name: string })[] = [
  { name: "CPU, exact", backend: "cpu", precision: "exact" },
  { name: "CPU, fast", backend: "cpu", precision: "fast" },
];
const others: (Executor & { name: string })[] = [
  { name: "CPU, fast, without relaxed SIMD", backend: "cpu", precision: "fast", withoutRelaxedSimd: true },
  { name: "GPU, exact", backend: "gpu", precision: "exact" },
  { name: "GPU, fast", backend: "gpu", precision: "fast" },
];

for (const executor of full ? [...processor, ...others] : processor) {
  test.describe(`${executor.name}, against the reference`, () => {
    test.describe.configure({ mode: "default" });
    let page: Page | undefined;
    const opened = (): Page => {
      if (!page) throw new Error("the page was not opened");
      return page;
    };

    test.beforeAll(async ({ visitor }) => {
      page = await pageWithModel(visitor, executor);
    });
    test.afterAll(async () => {
      await page?.close();
    });

    test("negative log-likelihood of real text, and its first choices", () => likelihoodAgrees(opened(), executor));
    test("residual stream at every layer", () => residualAgrees(opened(), executor));
    test("residual stream at every layer after a change at one", () => steeringAgrees(opened(), executor));
    test("greedy answers", () => greedyAnswersAgree(opened(), executor));
    if (executor.precision === "exact") test("sampled answers", () => sampledAnswersAgree(opened(), executor));
  });
}
