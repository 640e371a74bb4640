/** Models that visitors have: a GGUF file, a Hugging Face folder, a name on the hub. Each is told before it is opened, converted once, and there the next time. */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Page } from "@playwright/test";
import { address, expect, modelId, newVisitor, test } from "./browser.ts";
import { hubServer, type HubServer } from "./hub_server.ts";

const at = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const gguf = at("tests/golden/tiny/tiny.gguf");
/** A folder in our form, which becomes one as others have it by leaving its manifest out. */
const folder = at(`models/${modelId}`);

/** SHA-256 of the weights that the program makes of the same files. */
function converted(input: string, ...further: string[]): string {
  const out = mkdtempSync(join(tmpdir(), "trimtab-converted-"));
  const manifest = execFileSync(at("target/release/trimtab"), ["convert", input, join(out, "model"), "--json", ...further], { encoding: "utf8" });
  rmSync(out, { recursive: true, force: true });
  const { files } = JSON.parse(manifest) as { files: { path: string; sha256: string }[] };
  return files.find(({ path }) => path === "model.safetensors")?.sha256 ?? "none";
}

async function opened(page: Page): Promise<void> {
  await page.goto(address);
  await page.evaluate(() => {
    const choices = JSON.parse(localStorage.getItem("trimtab.choices") ?? "{}") as object;
    localStorage.setItem("trimtab.choices", JSON.stringify({ ...choices, backend: "cpu" }));
  });
  await page.reload();
  await page.getByRole("button", { name: "Open a model of your own" }).first().click();
}

const dialog = (page: Page) => page.getByRole("dialog", { name: "Open a model of your own" });
const ready = async (page: Page, name: string) => {
  await expect(page.getByRole("button", { name: new RegExp(`Model ${name}`) })).toBeVisible({ timeout: 120_000 });
};
/** SHA-256 of the loaded weights, as the model dialog begins to show it. */
const fingerprint = async (page: Page) => {
  await page.getByRole("button", { name: /^Model / }).click();
  const shown = await page.getByRole("dialog", { name: "Model", exact: true }).locator(".mono").textContent();
  await page.keyboard.press("Escape");
  return (shown ?? "").replace("…", "");
};

test("a GGUF file is told, converted to the program's bytes, kept, and removed", async ({ stranger }) => {
  const page = await stranger.newPage();
  await opened(page);
  await page.getByLabel("GGUF file").setInputFiles(gguf);
  await expect(dialog(page)).toContainText("2 layers of width 256");
  await dialog(page).getByRole("button", { name: "Open it" }).click();
  await ready(page, "");
  expect(await fingerprint(page)).toBe(converted(gguf).slice(0, 16));
  // The next visit has it without the file.
  await page.reload();
  await page.getByRole("button", { name: "Model", exact: true }).click();
  await page.getByRole("button", { name: /^Start / }).last().click();
  await ready(page, "");
  expect(await fingerprint(page)).toBe(converted(gguf).slice(0, 16));
  await page.reload();
  await page.getByRole("button", { name: "Model", exact: true }).click();
  await page.getByRole("button", { name: /^Remove / }).click();
  await expect(page.getByRole("heading", { name: "Other models on this machine" })).toBeHidden();
});

test("a GGUF file is taken where it is dropped, and one that is none says so", async ({ stranger }) => {
  const page = await stranger.newPage();
  await page.goto(address);
  const drop = async (name: string, bytes: Buffer) => {
    const transfer = await page.evaluateHandle(
      ({ name, text }) => {
        const data = new DataTransfer();
        data.items.add(new File([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], name));
        return data;
      },
      { name, text: bytes.toString("base64") },
    );
    await page.dispatchEvent("main", "drop", { dataTransfer: transfer });
  };
  await drop("broken.gguf", readFileSync(gguf).subarray(0, 3000));
  await expect(dialog(page).getByRole("alert")).toContainText("cut short");
  await page.keyboard.press("Escape");
  await drop("tiny.gguf", readFileSync(gguf));
  await expect(dialog(page)).toContainText("2 layers of width 256");
});

test("a folder is quantised as the program does it, and goes on after the tab was closed in the middle", async ({ stranger }) => {
  test.setTimeout(240_000);
  const published = mkdtempSync(join(tmpdir(), "trimtab-published-"));
  for (const name of readdirSync(folder).filter((name) => name !== "manifest.json")) copyFileSync(join(folder, name), join(published, name));
  const choose = async (page: Page) => {
    await opened(page);
    await page.getByLabel("Model directory").setInputFiles(published);
    await dialog(page).getByRole("radio", { name: /8 bits/ }).check();
    await dialog(page).getByRole("button", { name: "Open it" }).click();
  };
  const first = await stranger.newPage();
  await choose(first);
  // In the middle, on most machines; on a fast one everything may be there already, and is found.
  await first.waitForTimeout(800);
  await first.close();
  const page = await stranger.newPage();
  await choose(page);
  await ready(page, "");
  // Blocks of the file stay as they are, so that these are the ready-made traits' weights.
  await expect(page.getByRole("slider", { name: /cheerful/ })).toBeVisible();
  rmSync(published, { recursive: true });
});

test.describe("a name on the hub", () => {
  let hub: HubServer;
  let page: Page;
  let leave: () => Promise<void>;

  test.beforeAll(async () => {
    const bytes = readFileSync(gguf);
    hub = await hubServer({ "owner/tiny": { "README.md": Buffer.from("# tiny"), "tiny-Q8_0.gguf": bytes, "tiny-Q4_K_M.gguf": bytes } });
    const visitor = await newVisitor({ flags: hub.flags });
    leave = visitor.leave;
    page = await visitor.context.newPage();
  });

  test.afterAll(async () => {
    await leave();
    await hub.close();
  });

  const lookUp = async (name: string) => {
    await page.getByRole("textbox", { name: "Or by its name on the Hugging Face hub" }).fill(name);
    await page.getByRole("button", { name: "Look it up" }).click();
  };

  test("is asked for on request alone, taken up after a break, checked, and opened", async () => {
    await opened(page);
    expect(hub.requests).toEqual([]);
    await lookUp("owner/tiny");
    await page.getByRole("combobox", { name: "Which form" }).selectOption("tiny-Q8_0.gguf");
    expect(hub.requests).toEqual(["huggingface.co /api/models/owner/tiny/revision/main"]);
    hub.breakAfter = 200_000;
    await page.getByRole("button", { name: /^Fetch .* MB from/ }).click();
    await expect(page.getByRole("progressbar", { name: "Fetching the model" })).toBeHidden({ timeout: 60_000 });
    hub.breakAfter = null;
    // It broke three times and went on each time, or says that it broke off and goes on now.
    if (await page.getByRole("button", { name: /^Fetch .* MB from/ }).isVisible()) await page.getByRole("button", { name: /^Fetch .* MB from/ }).click();
    await expect(dialog(page)).toContainText("2 layers of width 256", { timeout: 60_000 });
    expect(hub.requests.some((request) => request.startsWith("cas-bridge.xethub.hf.co") && request.endsWith("bytes=200000-"))).toBe(true);
    const asked = hub.requests.length;
    await dialog(page).getByRole("button", { name: "Open it" }).click();
    await ready(page, "");
    expect(await fingerprint(page)).toBe(converted(gguf).slice(0, 16));
    expect(hub.requests).toHaveLength(asked);
  });

  test("that is gated, missing, asked too often or no name gets a sentence with a way on", async () => {
    await opened(page);
    for (const [name, sentence] of [
      ["owner/gated", "accept them"],
      ["owner/nothing", "no public model owner/nothing"],
      ["owner/tiny@v9", "no revision"],
      ["owner/busy", "in 2 minutes"],
      ["tiny", "written owner/name"],
    ] as const) {
      await lookUp(name);
      await expect(dialog(page).getByRole("alert")).toContainText(sentence);
    }
    await page.context().setOffline(true);
    await lookUp("owner/tiny");
    await expect(dialog(page).getByRole("alert")).toContainText("need the network");
    await page.context().setOffline(false);
  });
});
