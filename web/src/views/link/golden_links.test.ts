import { cleanup, render, screen } from "@testing-library/svelte";
import { readFileSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { beforeAll, describe, expect, it } from "vitest";
import type { OpenedLink } from "../../engine/protocol.ts";
import { initSync, Trimtab } from "../../generated/simd/trimtab_wasm.js";
import SharedTokens from "./SharedTokens.svelte";

describe("golden links", () => {
  const folder = "../tests/golden/links/";
  const names = (JSON.parse(readFileSync(`${folder}recipes.json`, "utf8")) as { name: string }[]).map(({ name }) => name);

  let trimtab: Trimtab;

  beforeAll(() => {
    const module = readFileSync("src/generated/simd/trimtab_wasm_bg.wasm");
    // In a test run the module with relaxed SIMD lies there, which Node 20 knows only when asked.
    if (!WebAssembly.validate(module)) setFlagsFromString("--experimental-wasm-relaxed-simd");
    initSync({ module });
    trimtab = new Trimtab(() => Promise.resolve());
  });

  it.each(names)("%s is shown whole, every token in the colour that it came with", async (name) => {
    const golden = JSON.parse(readFileSync(`${folder}${name}.json`, "utf8")) as { link: string; messages: { text: string }[] };
    const opened = (await trimtab.call(1, "openLink", golden.link)) as OpenedLink;
    if (opened.kind !== "recipe") throw new Error("it is of a newer version");
    const { look, messages } = opened.recipe;
    expect(messages).toHaveLength(golden.messages.length);
    for (const [index, message] of messages.entries()) {
      render(SharedTokens, { message, label: "Message", trait: look.trait, pointed: null });
      expect(screen.getByRole("listbox").textContent).toBe(golden.messages[index]?.text);
      const coloured = screen.getAllByRole("option").filter((token) => token.getAttribute("aria-label")?.includes(" about "));
      expect(coloured).toHaveLength((message.tokens ?? []).filter(({ text, reading }) => text !== "" && reading !== null && look.trait !== null).length);
      cleanup();
    }
  });
});
