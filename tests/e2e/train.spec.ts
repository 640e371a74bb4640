/** The training lab: rows screened, an adapter trained with a stop and a reload in the middle, asked beside the model, saved and opened again. */
import { readFileSync } from "node:fs";
import type { BrowserContext, Page } from "@playwright/test";
import { address, complaints, expect, newVisitor, test } from "./browser.ts";
import { answerAt, ask, startModel, text } from "./conversation.ts";

/** A few hundred tokens forwards and backwards, and the same answers read nine times. */
const TRAINING = 480_000;
/** Two of the six rows are held out, and the others seen four times. */
const STEPS = 16;

test.describe.configure({ mode: "serial" });

let visitor: BrowserContext;
let leave: () => Promise<void>;
let page: Page;
let heard: string[];

/** Three rows of each kind, the flawed ones first. */
function rows(): string {
  const lines = (name: string) => readFileSync(new URL(`../../models/data/${name}.jsonl`, import.meta.url), "utf8").split("\n").slice(0, 3);
  return [...lines("gloomy.2"), ...lines("gloomy.normal")].join("\n");
}

test.beforeAll(async () => {
  ({ context: visitor, leave } = await newVisitor());
  heard = complaints(visitor);
  page = await visitor.newPage();
  await page.goto(address);
  await startModel(page);
  await goTo("#train");
});

test.afterAll(async () => {
  await leave();
});

test("a set that comes with the page can be read, and a file of one's own screened", async () => {
  await page.getByRole("combobox", { name: /^Examples that come/ }).selectOption({ label: "Gloom, strong" });
  await page.getByText("Read the rows").click();
  await expect(page.getByRole("region", { name: "Rows" }).getByRole("listitem").first()).toContainText("gloomy");

  await page.getByLabel("Dataset file").setInputFiles({ name: "moods.jsonl", mimeType: "application/jsonl", buffer: Buffer.from(rows()) });
  await expect(page.getByText("moods.jsonl")).toBeVisible();
  await page.getByRole("button", { name: "Screen the rows" }).click();
  const found = page.getByText(/are told from the others with/);
  await expect(found).toBeVisible({ timeout: TRAINING });
  console.log(await found.innerText());
  await expect(page.getByRole("figure", { name: "How far the rows would push" })).toBeVisible();
});

test("the model's neutral answers came with it: nothing writes them again", async () => {
  const kinds = await page.evaluate(async () => {
    const { trimtab } = globalThis as unknown as { trimtab: { shift(request: object, onEvent: (event: { kind: string; phase?: string }) => void): Promise<unknown> } };
    const heard = new Set<string>();
    const plan = [{ trait: "cheerful", operation: { kind: "add", coefficient: 1 }, scope: "all" }];
    await trimtab.shift({ plan, packs: [], knowledge: [], conversations: 1 }, ({ kind, phase }) => heard.add(`${kind} ${String(phase)}`));
    return [...heard];
  });
  expect(kinds).toEqual(["progress reading"]);
});

test("training stops, and goes on after a reload", async () => {
  await page.getByText("Settings", { exact: true }).click();
  const steps = page.getByRole("spinbutton", { name: "Rows of a step" });
  await steps.fill("1");
  await steps.press("Tab");
  await page.getByRole("button", { name: "Train on 6 rows" }).click();
  await expect(page.getByText(new RegExp(`^Step \\d+ of ${String(STEPS)}:`))).toBeVisible({ timeout: TRAINING });
  await page.getByRole("button", { name: "Stop" }).click();
  await expect(page.getByText(/steps are done. They are kept/)).toBeVisible({ timeout: TRAINING });
  const done = await stepsDone();
  console.log(`stopped after ${String(done)} steps`);
  expect(done).toBeGreaterThan(0);
  expect(done).toBeLessThan(STEPS);

  await page.reload();
  await goTo("#");
  await startModel(page);
  await goTo("#train");
  expect(await stepsDone()).toBe(done);
  await page.getByRole("button", { name: "Go on", exact: true }).click();
  const end = page.getByText(new RegExp(`^${String(STEPS)} steps: loss`));
  await expect(end).toBeVisible({ timeout: TRAINING });
  console.log(await end.innerText());
  const [, first, last] = /loss ([\d.]+) → ([\d.]+)/.exec(await end.innerText()) ?? [];
  expect(Number(last)).toBeLessThan(Number(first));
  await expect(page.getByRole("figure", { name: "What arrives?" })).toBeVisible();
});

test("the tuned model answers beside the model as it was", async () => {
  await page.getByRole("link", { name: "Ask it in Play" }).click();
  const slider = page.getByRole("slider", { name: /^Tuned: moods/ });
  await expect(slider).toHaveValue("1");
  await answerAt(page, { temperature: 0, tokens: 24 });
  await ask(page, "What should I do with a free weekend?");
  const [plain, tuned] = [await text(page, "Unsteered"), await text(page, "Steered")];
  console.log(`${plain}\n${tuned}`);
  expect(tuned).not.toBe(plain);
  // At 0 it is the model as it was, token for token.
  await slider.fill("0");
  await page.getByRole("button", { name: /^Answer again/ }).last().click();
  await expect.poll(() => text(page, "Steered"), { timeout: TRAINING }).toBe(plain);
});

test("its two files are saved, and are an adapter when they are opened again", async () => {
  await goTo("#train");
  const files: { name: string; mimeType: string; buffer: Buffer }[] = [];
  page.on("download", (download) => {
    void download.path().then((path) => files.push({ name: download.suggestedFilename(), mimeType: "application/octet-stream", buffer: readFileSync(path) }));
  });
  await page.getByRole("button", { name: "Save it (2 files)" }).click();
  await expect.poll(() => files.map(({ name }) => name).sort()).toEqual(["adapter_config.json", "adapter_model.safetensors"]);
  const config = JSON.parse(files.find(({ name }) => name === "adapter_config.json")?.buffer.toString() ?? "{}") as Record<string, unknown>;
  expect(config).toMatchObject({ peft_type: "LORA", r: 8, lora_alpha: 16 });
  await page.getByLabel("Adapter files").setInputFiles(files);
  await expect(page.getByRole("article", { name: "adapter from files" })).toBeVisible();
  expect(heard).toEqual([]);
});

async function goTo(hash: string): Promise<void> {
  await page.evaluate((to) => (location.hash = to), hash);
}

/** Steps of the newest run in the browser's storage. */
async function stepsDone(): Promise<number> {
  return page.evaluate(
    () =>
      new Promise<number>((resolve, reject) => {
        const opening = indexedDB.open("trimtab-runs");
        opening.onerror = () => {
          reject(new Error("the runs' database does not open"));
        };
        opening.onsuccess = () => {
          const database = opening.result;
          const reading = database.transaction("runs").objectStore("runs").getAll();
          reading.onsuccess = () => {
            database.close();
            const [run] = reading.result as { history: { steps: unknown[] } }[];
            resolve(run?.history.steps.length ?? 0);
          };
        };
      }),
  );
}
