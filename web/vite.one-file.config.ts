import { fileURLToPath } from "node:url";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

/**
 * The page as `cargo xtask bundle` puts it into one file: one script for the page and one for its worker. Without a server there
 * are no addresses to be relative to, so that files go by their path from the page's folder.
 */
export default defineConfig({
  base: "/",
  mode: "one-file",
  plugins: [svelte()],
  resolve: { alias: [{ find: "./threads.ts", replacement: fileURLToPath(new URL("src/engine/one_file/no_threads.ts", import.meta.url)) }] },
  // Chrome starts no module worker on a page from `file:`.
  worker: { format: "iife", rolldownOptions: { output: { codeSplitting: false } } },
  build: {
    target: "es2022",
    outDir: "../target/one-file",
    emptyOutDir: true,
    modulePreload: false,
    assetsInlineLimit: 0,
    rolldownOptions: { output: { codeSplitting: false } },
  },
});
