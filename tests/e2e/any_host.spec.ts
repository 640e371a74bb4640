/** The folder for any host, `dist/site` from `cargo xtask bundle --site`, on a server that can do next to nothing. */
import { createReadStream, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import type { Page } from "@playwright/test";
import { complaints, expect, load, newVisitor, portable, test } from "./browser.ts";
import { startModel } from "./conversation.ts";

const { site } = portable;
/** Somewhere below the host's root. */
const BASE = "/somebody/trimtab/";
const TYPES: Readonly<Record<string, string>> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".svg": "image/svg+xml" };

/** No ranges, no compression, no headers but the type. */
function dumbServer(asked: string[]): Server {
  return createServer(({ url }, answer) => {
    const path = new URL(url ?? "/", "http://host").pathname;
    const name = path.startsWith(BASE) ? path.slice(BASE.length) || "index.html" : "";
    asked.push(name);
    const file = join(site, name);
    if (name === "" || name.includes("..") || !statSync(file, { throwIfNoEntry: false })?.isFile()) {
      answer.writeHead(404).end();
      return;
    }
    answer.writeHead(200, { "Content-Type": TYPES[extname(name)] ?? "application/octet-stream" });
    createReadStream(file).pipe(answer);
  });
}

let server: Server;
let port: number;
const asked: string[] = [];

test.beforeAll(async () => {
  server = dumbServer(asked);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  ({ port } = server.address() as AddressInfo);
});

test.afterAll(() => {
  server.closeAllConnections();
  server.close();
});

const weights = () => asked.filter((name) => name.includes("model.safetensors"));

/** The next visit finds the model in the browser's storage, put together. */
async function visitAgain(page: Page): Promise<void> {
  asked.length = 0;
  await page.reload();
  await expect(page.getByRole("button", { name: "Start the model" })).toBeVisible();
  expect(weights()).toEqual([]);
}

test("page and model come from a folder of small files on a plain host", async () => {
  const { context, leave } = await newVisitor();
  const heard = complaints(context);
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${String(port)}${BASE}`);
  await load(page, { backend: "cpu", precision: "fast" }, portable.modelId);
  expect(weights().length).toBeGreaterThan(1);
  for (const part of weights()) expect(statSync(join(site, part)).size).toBeLessThanOrEqual(24_000_000);

  const text = await page.evaluate(async () => {
    const request = {
      columns: [{ column: "unsteered" as const, messages: [{ role: "user" as const, content: "What is snow?" }], plan: [] }],
      sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 },
      maxTokens: 4,
    };
    return (await globalThis.trimtab.generate(request, () => undefined))[0]?.text;
  });
  expect(text).toBeTruthy();
  await visitAgain(page);
  expect(heard).toEqual([]);
  await leave();
});

test("over plain HTTP from another machine the page says that there is no graphics device, and keeps the model", async () => {
  // A name that is not this machine's: to the browser, an insecure page.
  const name = "teacher.example";
  const { context, leave } = await newVisitor({ flags: [`--host-resolver-rules=MAP ${name} 127.0.0.1`] });
  const heard = complaints(context);
  const page = await context.newPage();
  await page.goto(`http://${name}:${String(port)}${BASE}`);
  expect(await page.evaluate(() => isSecureContext)).toBe(false);
  await startModel(page, "auto");
  await expect(page.getByText(/no graphics device \(WebGPU\).*processor/)).toBeVisible();
  await expect(page.getByText(/will have to be downloaded again/)).toBeHidden();
  await visitAgain(page);
  expect(heard).toEqual([]);
  await leave();
});
