/** What a visitor waits for on a slow line and a slow computer, on the page as it is published and compressed. */
import { address, expect, test } from "./browser.ts";

/** 10 Mbit/s, and a processor a quarter as fast. */
const BYTES_A_SECOND = 10_000_000 / 8;
const SLOWER = 4;
/** Seconds until the button can be pressed, and until the worker's program runs. */
const BUTTON = 3;
const PROGRAM = 5;

test("the button is there within three seconds, and the program runs within five", async ({ stranger }) => {
  const page = await stranger.newPage();
  const session = await stranger.newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.emulateNetworkConditions", { offline: false, latency: 40, downloadThroughput: BYTES_A_SECOND, uploadThroughput: BYTES_A_SECOND });
  await session.send("Emulation.setCPUThrottlingRate", { rate: SLOWER });
  let bytes = 0;
  page.on("response", (response) => {
    void response.request().sizes().then(({ responseBodySize }) => (bytes += responseBodySize));
  });
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  await page.goto(address, { waitUntil: "commit" });
  await expect(page.getByRole("button", { name: /^Load the model/ })).toBeVisible();
  const button = seconds();
  await expect.poll(() => page.evaluate(() => "trimtab" in globalThis), { intervals: [50] }).toBe(true);
  // A link that is none is refused by the program itself.
  await page.evaluate(() => globalThis.trimtab.openLink("none").catch(() => undefined));
  const program = seconds();
  console.log(`button after ${button.toFixed(2)} s, program after ${program.toFixed(2)} s, ${String(bytes)} bytes`);
  expect(button).toBeLessThanOrEqual(BUTTON);
  expect(program).toBeLessThanOrEqual(PROGRAM);
});
