// Pictures of the page in its states, with an invented engine, and axe's findings in each.
// `node scripts/screenshots.mjs [OUT] [NAME…]` (OUT: target/screenshots); CHROMIUM names the browser (default /usr/bin/chromium).
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { createServer } from "vite";

const [out = fileURLToPath(new URL("../../target/screenshots", import.meta.url)), ...only] = process.argv.slice(2);
mkdirSync(out, { recursive: true });
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

const load = (page) => page.getByRole("button", { name: /load the model/i }).first().click();
const ready = async (page) => {
  await load(page);
  await page.getByRole("slider", { name: /villainous/ }).waitFor();
};
const slide = (page, name, value) => page.getByRole("slider", { name }).fill(String(value));
const ask = async (page, text = "How was your weekend?") => {
  await page.getByLabel("Your message").fill(text);
  await page.keyboard.press("Enter");
};
const answered = (page) => page.getByRole("button", { name: /answer again/i }).last().waitFor();
const tokens = (page, which) => page.getByRole("group", { name: which }).last().getByRole("option");

/** Name, address, and what is done before the picture. */
const scenes = [
  ["landing", "?mock", async (page) => page.waitForTimeout(1500)],
  ["landing-played", "?mock", async (page) => {
    await page.getByRole("button", { name: "Play again" }).waitFor();
    await page.getByRole("slider").fill("0");
    await page.waitForTimeout(300);
  }],
  ["loading", "?mock&hold=0.44", async (page) => {
    await load(page);
    await page.waitForTimeout(900);
  }],
  ["download-failed", "?mock&fail=download", async (page) => {
    await load(page);
    await page.getByRole("alert").waitFor();
  }],
  ["empty", "?mock", ready],
  ["mid-answer", "?mock&tokenMs=90", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 1.5);
    await ask(page);
    await page.waitForTimeout(1800);
    await slide(page, /cheerful/, 2);
    await page.waitForTimeout(900);
  }],
  ["answered", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2);
    await slide(page, /poetic/, -0.7);
    await ask(page);
    await answered(page);
    await ask(page, "And what will you do next weekend?");
    await page.waitForTimeout(200);
    await answered(page);
    await page.waitForTimeout(400);
  }],
  ["token", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2);
    await ask(page);
    await answered(page);
    await tokens(page, "Steered answer").nth(9).focus();
    await page.waitForTimeout(300);
  }],
  ["surprise-inside", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2.6);
    await ask(page);
    await answered(page);
    await page.getByLabel("Colour by").selectOption("surprise");
    const more = page.getByRole("button", { name: "More about the colours" });
    if (await more.isVisible()) await more.click();
    await page.getByRole("switch").check();
    await page.waitForTimeout(300);
  }],
  ["device-lost", "?mock&tokenMs=5&lose=20&software", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2);
    await ask(page);
    await page.getByRole("alert").waitFor();
    await page.waitForTimeout(300);
  }],
  ["conversations", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await ask(page);
    await answered(page);
    await page.getByRole("button", { name: "Conversations" }).click();
    await page.waitForTimeout(300);
  }],
  ["settings", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await page.getByRole("button", { name: "Settings" }).click();
    await page.getByText("Advanced").click();
    await page.waitForTimeout(200);
  }],
  ["model", "?mock&tokenMs=1&cached", async (page) => {
    await page.getByRole("button", { name: "Start the model" }).click();
    await page.getByRole("slider", { name: /villainous/ }).waitFor();
    await page.getByRole("button", { name: /^Model/ }).click();
    await page.waitForTimeout(200);
  }],
  ["lessons", "?mock#lessons", (page) => page.getByRole("link", { name: /^What is a direction/ }).first().waitFor()],
  ["lesson", "?mock&tokenMs=1#lessons/direction", async (page) => {
    await page.getByRole("heading", { name: "Two answers to one question" }).waitFor();
  }],
  ["lesson-done", "?mock&tokenMs=1#lessons/controls", async (page) => {
    await ready(page);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByRole("button", { name: "Set the page up" }).click();
    await answered(page);
    const fold = page.getByRole("button", { name: "Show the lesson" });
    if (await fold.isVisible()) await fold.click();
    await page.waitForTimeout(300);
  }],
  ["lesson-folded", "?mock&tokenMs=1#lessons/direction", async (page) => {
    await ready(page);
    await page.getByRole("button", { name: "Set the page up" }).click();
    await answered(page);
    await page.waitForTimeout(300);
  }],
  ["teacher", "?mock#lessons/pushing/teacher", (page) => page.getByRole("heading", { name: "Aims" }).waitFor()],
  ["teacher-print", "?mock#lessons/pushing/teacher", async (page) => {
    await page.getByRole("heading", { name: "Aims" }).waitFor();
    await page.emulateMedia({ media: "print" });
  }],
  ["conversation-print", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2);
    await ask(page);
    await answered(page);
    await page.emulateMedia({ media: "print" });
  }],
  ["projector", "?mock&tokenMs=1#lessons/direction", async (page) => {
    await page.evaluate(() => localStorage.setItem("trimtab.choices", JSON.stringify({ projector: true })));
    await page.reload();
    await ready(page);
    await page.getByRole("button", { name: "Set the page up" }).click();
    await answered(page);
    await page.waitForTimeout(300);
  }],
  ["export", "?mock&tokenMs=1", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2);
    await ask(page);
    await answered(page);
    await page.getByText("Export", { exact: true }).click();
  }],
];
/** From a sentence to a draft of a trait. */
const draft = async (page) => {
  await ready(page);
  await page.goto(`${page.url().split("#")[0]}#traits/new`);
  await page.getByLabel("Name", { exact: true }).fill("sea-dog");
  await page.getByLabel("Opposite").fill("city clerk");
  await page.getByLabel(/How does it show/).fill("Talks like an old sailor, with ropes and waves.");
  await page.getByRole("button", { name: "Draft it" }).click();
  await page.getByRole("heading", { name: /sea-dog/ }).waitFor();
};
const made = async (page) => {
  await draft(page);
  await page.getByRole("button", { name: /^Make it/ }).click();
  await page.getByRole("img", { name: /Reading before and evidence after/ }).waitFor();
  await page.waitForTimeout(300);
};
scenes.push(
  ["traits-before-model", "?mock#traits", async (page) => page.getByRole("heading", { name: "Traits" }).waitFor()],
  ["traits-overview", "?mock&tokenMs=0", async (page) => {
    await made(page);
    await page.getByRole("link", { name: "Traits", exact: true }).click();
    await page.getByRole("img", { name: /Cosines/ }).waitFor();
  }],
  ["traits-new", "?mock#traits/new", async (page) => {
    await page.getByLabel("Name", { exact: true }).fill("9 lives");
    await page.getByLabel("Opposite").fill("x");
    await page.getByLabel(/How does it show/).fill("y");
    await page.getByRole("button", { name: "Draft it" }).click();
    await page.getByRole("alert").waitFor();
  }],
  ["traits-draft", "?mock&tokenMs=0", async (page) => {
    await draft(page);
    await page.getByText("5 pairs of instructions").click();
    await page.getByLabel("Pair 2, negative").fill("");
    await page.getByRole("button", { name: "Check it" }).click();
    await page.getByRole("alert").waitFor();
  }],
  ["traits-writing", "?mock&tokenMs=25", async (page) => {
    await draft(page);
    await page.getByRole("button", { name: /^Make it/ }).click();
    await page.waitForTimeout(2500);
  }],
  ["traits-half-made", "?mock&tokenMs=25", async (page) => {
    await draft(page);
    await page.getByRole("button", { name: "Write the responses" }).click();
    await page.waitForTimeout(3000);
    await page.reload();
    await page.getByText(/responses are kept from before/).waitFor();
  }],
  ["traits-made", "?mock&tokenMs=0", made],
  ["traits-doubtful", "?mock&tokenMs=0", async (page) => {
    await ready(page);
    await page.goto(`${page.url().split("#")[0]}#traits/poetic`);
    await page.getByRole("heading", { name: "How it was made" }).waitFor();
  }],
  ["traits-no-report", "?mock&tokenMs=0", async (page) => {
    await ready(page);
    await page.goto(`${page.url().split("#")[0]}#traits/villainous`);
    await page.getByText("There is no report").waitFor();
  }],
  ["gauge", "?mock&tokenMs=0", async (page) => {
    await ready(page);
    await slide(page, /cheerful/, 2);
    await slide(page, /poetic/, 0.7);
    await ask(page);
    await answered(page);
    await page.waitForTimeout(300);
  }],
);
const looks = [
  { name: "light-1440", width: 1440, height: 900, colorScheme: "light" },
  { name: "dark-390", width: 390, height: 844, colorScheme: "dark" },
  { name: "dark-1440", width: 1440, height: 900, colorScheme: "dark" },
  { name: "light-390", width: 390, height: 844, colorScheme: "light" },
  { name: "light-360", width: 360, height: 640, colorScheme: "light" },
];

const root = fileURLToPath(new URL("..", import.meta.url));
const server = await createServer({ root, server: { port: 0, hmr: false, watch: null }, logLevel: "error" });
await server.listen();
const address = server.resolvedUrls.local[0];
const browser = await chromium.launch({
  executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
  args: ["--headless=new", "--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run", "--disable-quic"],
});
let findings = 0;
try {
  for (const { name: look, width, height, colorScheme } of looks) {
    for (const [scene, query, act] of scenes) {
      const name = `${scene}-${look}`;
      if (only.length > 0 && !only.some((wanted) => name.includes(wanted))) continue;
      const context = await browser.newContext({ viewport: { width, height }, colorScheme });
      const page = await context.newPage();
      page.setDefaultTimeout(15_000);
      page.on("pageerror", (error) => console.log(`${name}: page error: ${error.message}`));
      page.on("console", (message) => message.type() === "error" && console.log(`${name}: console: ${message.text()}`));
      try {
        await page.goto(address + query);
        await act(page);
        await page.screenshot({ path: `${out}/${name}.png`, fullPage: scene.startsWith("traits") });
        await page.evaluate(axe);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        for (const { id, impact, nodes } of violations) {
          findings += 1;
          console.log(`${name}: axe ${impact} ${id}: ${nodes.slice(0, 3).map((node) => `${node.target} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
        }
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        if (wide > 0) console.log(`${name}: ${wide} px too wide`);
      } catch (error) {
        findings += 1;
        console.log(`${name}: ${error.message}`);
      }
      await context.close();
    }
  }
} finally {
  await browser.close();
  await server.close();
}
console.log(`${findings} findings`);
process.exitCode = findings > 0 ? 1 : 0;
