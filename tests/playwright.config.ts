import { defineConfig } from "@playwright/test";
import { launch } from "./e2e/launch.ts";

const full = process.env["TRIMTAB_FULL"] === "1";

export default defineConfig({
  testDir: "e2e",
  // The model runs on the CPU here (SwiftShader): one browser at a time, and no clock that a slow machine could miss.
  workers: 1,
  fullyParallel: false,
  timeout: (full ? 90 : 10) * 60_000,
  expect: { timeout: 30_000 },
  // A control that is not there is missed within a minute; answers are waited for by the tests themselves.
  use: { launchOptions: launch, actionTimeout: 60_000, serviceWorkers: "block" },
  forbidOnly: process.env["CI"] !== undefined,
  retries: 0,
  reporter: [["list"]],
  outputDir: "test-results",
});
