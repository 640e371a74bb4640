/**
 * Firefox and WebKitGTK as Debian packages them, each by its own remote control, behind the few things that a visitor does.
 *
 * puppeteer-core: Playwright drives a patched Firefox only; this drives the real one by WebDriver BiDi, without geckodriver.
 * selenium-webdriver: speaks classic WebDriver, the only protocol of WebKitWebDriver, and is kept by those who write the standard.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";
import { launch } from "puppeteer-core";
import { Builder, By, Key, until } from "selenium-webdriver";

/** Elements are named by XPath, which both protocols know. */
export interface Browser {
  readonly name: string;
  open(address: string): Promise<void>;
  /** Waits until the element is there and can be seen. */
  see(xpath: string, milliseconds?: number): Promise<void>;
  click(xpath: string): Promise<void>;
  /** Takes the place of what the field holds; numbers are taken up with Enter, because Firefox without a screen has no focus to lose. */
  fill(xpath: string, text: string): Promise<void>;
  press(xpath: string, key: "End" | "Enter" | "Escape"): Promise<void>;
  /** The value of a JavaScript expression in the page, once it is settled. */
  evaluate(expression: string): Promise<unknown>;
  picture(path: `${string}.png`): Promise<void>;
  leave(): Promise<void>;
}

const PATIENCE = 60_000;
/** A script waits for what the model does. */
const SCRIPT = 600_000;

function took(text: string, value: unknown): void {
  if (value !== text) throw new Error(`a field was given ${JSON.stringify(text)} and holds ${JSON.stringify(value)}`);
}

/** Installs Debian packages where a program is missing, or says what is missing. */
function ensure(program: string, found: () => boolean, packages: readonly string[]): void {
  if (found()) return;
  console.log(`installing ${packages.join(", ")} for ${program}`);
  try {
    execFileSync("apt-get", ["update", "-qq"], { stdio: "inherit" });
    execFileSync("apt-get", ["install", "-y", "-qq", "--no-install-recommends", ...packages], { stdio: "inherit", env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } });
  } catch (cause) {
    throw new Error(`${program} is missing and could not be installed. As root on Debian: apt-get install ${packages.join(" ")}`, { cause });
  }
  if (!found()) throw new Error(`${program} is missing, although ${packages.join(", ")} are installed.`);
}

export async function firefox(): Promise<Browser> {
  const executablePath = process.env["FIREFOX"] ?? "/usr/bin/firefox-esr";
  ensure("Firefox", () => existsSync(executablePath), ["firefox-esr"]);
  const browser = await launch({ browser: "firefox", executablePath, headless: true, protocolTimeout: SCRIPT });
  const [first] = await browser.pages();
  const page = first ?? (await browser.newPage());
  await page.setViewport({ width: 1280, height: 900 });
  const seen = async (xpath: string, timeout = PATIENCE) => {
    const element = await page.waitForSelector(`::-p-xpath(${xpath})`, { visible: true, timeout });
    if (element === null) throw new Error(`nothing to be seen at ${xpath}`);
    return element;
  };
  return {
    name: await browser.version(),
    open: async (address) => void (await page.goto(address)),
    see: async (xpath, milliseconds) => void (await seen(xpath, milliseconds)),
    click: async (xpath) => (await seen(xpath)).click(),
    fill: async (xpath, text) => {
      const field = await seen(xpath);
      await field.focus();
      await page.keyboard.down("Control");
      await page.keyboard.press("a");
      await page.keyboard.up("Control");
      await page.keyboard.type(text);
      took(text, await field.evaluate((node) => (node as HTMLInputElement).value));
    },
    press: async (xpath, key) => (await seen(xpath)).press(key),
    evaluate: (expression) => page.evaluate(expression),
    picture: async (path) => void (await page.screenshot({ path })),
    leave: () => browser.close(),
  };
}

/** Debian puts it into a folder of the library's version. */
function miniBrowser(): string | undefined {
  const libraries = "/usr/lib/x86_64-linux-gnu";
  if (!existsSync(libraries)) return undefined;
  const paths = readdirSync(libraries)
    .filter((folder) => folder.startsWith("webkit2gtk-") || folder.startsWith("webkitgtk-"))
    .map((folder) => `${libraries}/${folder}/MiniBrowser`);
  return paths.find(existsSync);
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => (typeof address === "object" && address !== null ? resolve(address.port) : reject(new Error("no port is free"))));
    });
  });
}

/** WebKit's driver starts the browser inside a screen of its own, because MiniBrowser cannot do without one. */
async function webkitDriver(): Promise<{ address: string; driver: ChildProcess }> {
  const port = await freePort();
  // In a group of its own, so that screen, driver and browser end together.
  const driver = spawn("xvfb-run", ["-a", "-s", "-screen 0 1280x1000x24", "WebKitWebDriver", `--port=${String(port)}`], { detached: true, stdio: "inherit" });
  const address = `http://127.0.0.1:${String(port)}`;
  for (let tries = 0; tries < 100; tries++) {
    if (await fetch(`${address}/status`).then(({ ok }) => ok, () => false)) return { address, driver };
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  throw new Error("WebKitWebDriver did not start within 20 seconds");
}

export async function webkit(): Promise<Browser> {
  ensure("WebKitGTK", () => existsSync("/usr/bin/WebKitWebDriver") && existsSync("/usr/bin/xvfb-run") && miniBrowser() !== undefined, ["webkit2gtk-driver", "xvfb", "xauth"]);
  const { address, driver } = await webkitDriver();
  const end = () => {
    if (driver.pid !== undefined) process.kill(-driver.pid);
  };
  try {
    const browser = await new Builder()
      .usingServer(address)
      .withCapabilities({ browserName: "MiniBrowser", "webkitgtk:browserOptions": { binary: miniBrowser(), args: ["--automation"] } })
      .build();
    await browser.manage().setTimeouts({ script: SCRIPT, pageLoad: PATIENCE });
    const version = (await browser.getCapabilities()).get("browserVersion") as string | undefined;
    const seen = async (xpath: string, milliseconds = PATIENCE) => {
      const element = await browser.wait(until.elementLocated(By.xpath(xpath)), milliseconds, `nothing at ${xpath}`);
      return browser.wait(until.elementIsVisible(element), milliseconds, `nothing to be seen at ${xpath}`);
    };
    const keys = { End: Key.END, Enter: Key.ENTER, Escape: Key.ESCAPE };
    return {
      name: `WebKitGTK ${version ?? ""}`,
      open: (to) => browser.get(to),
      see: async (xpath, milliseconds) => void (await seen(xpath, milliseconds)),
      click: async (xpath) => (await seen(xpath)).click(),
      fill: async (xpath, text) => {
        const field = await seen(xpath);
        // Emptying it first would be a change of its own, and WebKit's driver does not know Ctrl+A.
        await browser.executeScript("arguments[0].focus(); arguments[0].select();", field);
        await field.sendKeys(text);
        took(text, await field.getProperty("value"));
      },
      press: async (xpath, key) => (await seen(xpath)).sendKeys(keys[key]),
      evaluate: async (expression) => {
        const { value, error } = await browser.executeAsyncScript<{ value?: unknown; error?: string }>(
          `const done = arguments[arguments.length - 1];
          Promise.resolve().then(() => (${expression})).then((value) => done({ value }), (error) => done({ error: String(error?.message ?? error) }));`,
        );
        if (error !== undefined) throw new Error(error);
        return value;
      },
      picture: async (path) => {
        const { writeFile } = await import("node:fs/promises");
        await writeFile(path, await browser.takeScreenshot(), "base64");
      },
      leave: async () => {
        await browser.quit().catch(() => undefined);
        end();
      },
    };
  } catch (error) {
    end();
    throw error;
  }
}
