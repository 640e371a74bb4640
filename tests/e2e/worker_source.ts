/** What a test puts in front of the worker's own script, before the page is opened. */
import type { Page } from "@playwright/test";

export async function beforeWorker(page: Page, source: string): Promise<void> {
  await page.route(/worker[^/]*\.js$/, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: source + (await response.text()) });
  });
}
