/** What a visitor reads when something is missing or breaks. */
import { chromium } from "@playwright/test";
import { BrokenServer } from "./broken_server.ts";
import { address, expect, test } from "./browser.ts";
import { runOn } from "./conversation.ts";
import { launch } from "./launch.ts";

test("without WebGPU a sentence says so, and what to do", async () => {
  const browser = await chromium.launch({ ...launch, args: ["--no-sandbox", "--disable-features=WebGPU", "--disable-gpu"] });
  const page = await browser.newPage();
  await page.goto(address);
  await page.getByRole("button", { name: /98 MB/ }).click();
  await expect(page.getByText(/no graphics device \(WebGPU\).*processor/)).toBeVisible({ timeout: 300_000 });
  await browser.close();
});

test("a download that breaks off says so, and goes on from where it was", async ({ page }) => {
  const allowance = 30_000_000;
  const server = await BrokenServer.start(allowance);
  await page.goto(server.address);
  await runOn(page, "cpu");
  await page.getByRole("button", { name: /98 MB/ }).click();
  const alert = page.getByRole("alert");
  await expect(alert).toContainText(/model\.safetensors/, { timeout: 120_000 });
  await expect(alert.getByRole("button", { name: "Try again" })).toBeVisible();
  expect(server.ranges[0]).toBe("");

  const broken = server.ranges.length;
  server.allowance = undefined;
  await alert.getByRole("button", { name: "Try again" }).click();
  await expect(page.getByRole("region", { name: "Steering" })).toBeVisible({ timeout: 300_000 });
  await expect(alert).toBeHidden();
  const resumed = server.ranges.slice(broken);
  expect(resumed).toHaveLength(1);
  const from = Number(/^bytes=(\d+)-$/.exec(resumed[0] ?? "")?.[1]);
  expect(from).toBeGreaterThan(allowance / 2);
  expect(from).toBeLessThanOrEqual(allowance);
  await server.stop();
});
