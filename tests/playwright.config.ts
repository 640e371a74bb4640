import { defineConfig } from "@playwright/test";
import { launch } from "./e2e/launch.ts";
import { reporter } from "./reporter.ts";

const full = process.env["TRIMTAB_FULL"] === "1";

/** Hardly compute: they run beside the Rust tests. */
const still = ["any_host", "failures", "first_sight", "links_open", "offline", "offline_file"].map((name) => `${name}.spec.ts`);
/** Of the page as it is published alone: `cargo xtask test --full browser`. */
const release = ["device_loss", "slow_line", "threads"].map((name) => `${name}.spec.ts`);

export default defineConfig({
  testDir: "e2e",
  // One visitor computes on the processor while another one's graphics device, a program here, is compiled. No clock that a slow machine could miss.
  workers: full ? 1 : 2,
  fullyParallel: false,
  timeout: (full ? 90 : 10) * 60_000,
  expect: { timeout: 30_000 },
  // A control that is not there is missed within a minute; answers are waited for by the tests themselves.
  use: { launchOptions: launch, actionTimeout: 60_000, serviceWorkers: "block" },
  projects: [
    { name: "still", testMatch: still },
    { name: "computing", testIgnore: [...still, ...release] },
    { name: "release", testMatch: release },
  ],
  forbidOnly: process.env["CI"] !== undefined,
  retries: 0,
  reporter,
  outputDir: "test-results",
});
