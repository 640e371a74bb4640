// ESLint rather than Biome: its Svelte plugin also checks the templates.
// eslint-plugin-import-x: the fork of eslint-plugin-import that runs with ESLint 10; it resolves every import before it judges the path.
import { importX } from "eslint-plugin-import-x";
import svelte from "eslint-plugin-svelte";
import globals from "globals";
import ts from "typescript-eslint";
import svelteConfig from "./svelte.config.js";

/** Folders from the lowest to the highest. Each may import from those before it, so that no circle can arise. */
const layers = [
  "engine",
  "format.ts",
  ...["untrusted", "conversation", "storage", "one_file", "model", "traits", "training", "session", "page", "recording", "links", "lessons", "files"].map((folder) => `state/${folder}`),
  ...["elements", "charts", "heatmap", "model", "steer", "share", "exports", "chat", "recording", "link", "traits", "train", "play", "lessons", "offline", "shell", "App.svelte"].map((folder) => `views/${folder}`),
];
const zones = layers.slice(0, -1).map((layer, at) => ({
  target: `./src/${layer}`,
  from: layers.slice(at + 1).map((higher) => `./src/${higher}`),
  message: `${layer} lies below it: folders depend in one direction (see layers in eslint.config.js).`,
}));
/** Tests and what they are made of may look from above. */
const tests = ["**/*.test.ts", "src/fixtures/**"];

export default ts.config(
  { ignores: ["dist/", "node_modules/", "src/generated/", "public/"] },
  ...ts.configs.strict,
  ...svelte.configs.recommended,
  { languageOptions: { globals: { ...globals.browser } } },
  {
    files: ["**/*.svelte", "**/*.svelte.ts"],
    languageOptions: { parserOptions: { parser: ts.parser, extraFileExtensions: [".svelte"], svelteConfig } },
  },
  {
    rules: {
      eqeqeq: ["error", "always", { null: "ignore" }],
      "no-console": "error",
      // Model text, links and files are shown as text, never as HTML.
      "svelte/no-at-html-tags": "error",
    },
  },
  {
    files: ["src/**"],
    ignores: tests,
    plugins: { "import-x": importX },
    rules: { "import-x/no-restricted-paths": ["error", { zones }] },
  },
  { files: ["**/*.test.ts"], rules: { "@typescript-eslint/no-non-null-assertion": "off" } },
  { files: ["scripts/**"], languageOptions: { globals: { ...globals.node } }, rules: { "no-console": "off" } },
);
