/** Golden links replay in the browser on the processor; `--full` replays them on the graphics device, too. */
import type { Page } from "@playwright/test";
import { full, pageWithModel, test, type Executor } from "./browser.ts";
import { linksReplay } from "./golden_links.ts";

const processor: Executor[] = [
  { backend: "cpu", precision: "exact" },
  { backend: "cpu", precision: "fast" },
];
const device: Executor[] = [
  { backend: "gpu", precision: "exact" },
  { backend: "gpu", precision: "fast" },
];

for (const executor of full ? [...processor, ...device] : processor) {
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
      await linksReplay(page, executor);
    });
  });
}
