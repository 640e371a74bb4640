import { defineConfig } from "@playwright/test";
import { reporter } from "../reporter.ts";

/** Playwright's runner, without its browsers: what is tested is what Debian's own Firefox and WebKitGTK do. */
export default defineConfig({
  testDir: ".",
  // The model runs on the CPU: one browser at a time.
  workers: 1,
  fullyParallel: false,
  timeout: 20 * 60_000,
  expect: { timeout: 300_000 },
  forbidOnly: process.env["CI"] !== undefined,
  retries: 0,
  reporter,
  outputDir: "../test-results/engines",
});
