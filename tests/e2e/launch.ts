/** How the browser under test is started. */
import type { LaunchOptions } from "@playwright/test";

/** Software WebGPU (SwiftShader), and nothing of the browser's own on the network. */
export const launch: LaunchOptions = {
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
  ],
};
