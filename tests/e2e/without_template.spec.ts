/** A model without a chat template (a tiny GPT-2): it continues a text as transformers does, traits are refused with the reason, and the page says so. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { address, complaints, expect, test } from "./browser.ts";
import { ask, text } from "./conversation.ts";

const family = fileURLToPath(new URL("../golden/families/gpt2/", import.meta.url));
const reference = JSON.parse(readFileSync(join(family, "reference.json"), "utf8")) as { prompt: number[]; greedy: number[] };
/** Its vocabulary has 64 tokens and no words: each is a letter here, so that a text says which tokens it is made of. */
const letters = [..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"];
const written = (ids: readonly number[]) => ids.map((id) => letters[id]).join("");

/** The folder as Hugging Face would have it. */
function published(): string {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-gpt2-"));
  for (const name of ["config.json", "model.safetensors"]) copyFileSync(join(family, name), join(folder, name));
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: "",
      end_of_word_suffix: "",
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(letters.map((letter, id) => [letter, id])),
      merges: [],
    },
  };
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizer));
  return folder;
}

test("a model without a chat template continues what is written, and no trait is made for it", async ({ stranger }) => {
  const heard = complaints(stranger);
  const page = await stranger.newPage();
  await page.goto(address);
  const choices = { backend: "cpu", maxTokens: reference.greedy.length, sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 } };
  await page.evaluate((choices) => {
    localStorage.setItem("trimtab.choices", JSON.stringify(choices));
  }, choices);
  await page.reload();
  const folder = published();
  await page.getByRole("button", { name: "Open a model of your own" }).first().click();
  await page.getByLabel("Model directory").setInputFiles(folder);
  const dialog = page.getByRole("dialog", { name: "Open a model of your own" });
  await expect(dialog).toContainText("2 layers of width 64");
  await dialog.getByRole("radio", { name: /as it is/ }).check();
  await dialog.getByRole("button", { name: "Open it" }).click();
  await expect(page.getByRole("button", { name: /^Model ./ })).toBeVisible({ timeout: 120_000 });
  const notice = page.getByText("This model has no chat template: it continues what you write and does not answer it");
  await expect(notice).toBeVisible();

  // Nothing is put around the text, and transformers continues it with the same tokens.
  const prompt = written(reference.prompt);
  const ids = await page.evaluate(async (content) => [...(await globalThis.trimtab.tokenize([{ role: "user", content }], true))], prompt);
  expect(ids).toEqual(reference.prompt);
  await ask(page, prompt);
  for (const column of ["Unsteered", "Steered"] as const) expect(await text(page, column)).toBe(written(reference.greedy));
  await expect(notice).toBeVisible();

  await page.evaluate(() => (location.hash = "#traits/new"));
  await page.getByRole("textbox", { name: "Name", exact: true }).fill("merry");
  await page.getByRole("textbox", { name: "Opposite", exact: true }).fill("mournful");
  await page.getByRole("textbox", { name: /^How does it show/ }).fill("Laughs and jokes.");
  await page.getByRole("textbox", { name: /how does the opposite show/ }).fill("Sighs and mourns.");
  await page.getByRole("button", { name: "Draft it" }).click();
  await page.getByRole("button", { name: "Write the responses" }).click();
  await expect(page.getByText(/it continues a text and does not answer, and a trait is found in answers/)).toBeVisible();
  expect(heard, "errors on the console").toEqual([]);
  rmSync(folder, { recursive: true });
});
