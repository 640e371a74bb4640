import { svelte } from "@sveltejs/vite-plugin-svelte";
import type { Plugin } from "vite";
import { VitePWA } from "vite-plugin-pwa";
import { defineConfig } from "vitest/config";

/** Only the page's own files, and WebAssembly; nothing inline, nothing from elsewhere but models that a visitor asks for. */
const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self' 'wasm-unsafe-eval'",
  "style-src 'self'",
  "img-src 'self' data:",
  // The hub, and the hosts that it sends large files from; asked only where a visitor looks up a model by its name.
  "connect-src 'self' https://huggingface.co https://*.huggingface.co https://*.hf.co",
  "worker-src 'self'",
  "manifest-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
].join("; ");

/** Built pages only: the development server needs inline styles and a web socket. */
function strictPolicy(): Plugin {
  return {
    name: "strict-content-security-policy",
    apply: "build",
    transformIndexHtml: () => [
      {
        tag: "meta",
        attrs: { "http-equiv": "Content-Security-Policy", content: contentSecurityPolicy },
        injectTo: "head-prepend",
      },
    ],
  };
}

/** The installable app. A new version waits until no tab is open, or until the visitor asks for it. */
const app = () =>
  VitePWA({
    registerType: "prompt",
    injectRegister: false,
    manifest: {
      name: "Trimtab",
      short_name: "Trimtab",
      description: "Turn a language model with a small push, and see what happens. Everything runs on your own machine.",
      start_url: "./",
      scope: "./",
      display: "standalone",
      background_color: "#f6f4ef",
      theme_color: "#12566b",
      icons: [
        { src: "icon.svg", sizes: "any", type: "image/svg+xml", purpose: "any" },
        { src: "icon-192.png", sizes: "192x192", type: "image/png" },
        { src: "icon-512.png", sizes: "512x512", type: "image/png", purpose: "any" },
      ],
    },
    workbox: {
      // Without the WebAssembly modules, of which each browser runs one: src/engine/offline_files.ts keeps that.
      globPatterns: ["**/*.{html,js,css,svg,png,json,jsonl,webmanifest}"],
      maximumFileSizeToCacheInBytes: 8 << 20,
      clientsClaim: true,
    },
  });

export default defineConfig(({ mode }) => ({
  base: "./",
  plugins: [svelte(), strictPolicy(), ...(mode === "production" ? [app()] : [])],
  // Component tests mount components as a browser would.
  resolve: mode === "test" ? { conditions: ["browser"] } : {},
  worker: { format: "es" },
  build: { target: "es2022", modulePreload: { polyfill: false }, assetsInlineLimit: 0 },
  test: { environment: "happy-dom", include: ["src/**/*.test.ts"], setupFiles: ["src/fixtures/test_setup.ts"], testTimeout: 60_000 },
}));
