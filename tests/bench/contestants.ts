/** Opens each runtime in a browser of its own and loads the checkpoint into it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium, type Browser, type BrowserContext, type Page } from "@playwright/test";
import type { Engine, Message } from "../../web/src/engine/protocol.ts";
import { launch } from "../e2e/launch.ts";
import type { Answer, Backend, Contestant, Peer, Question, Subject } from "./answer.ts";

declare global {
  var trimtab: Engine;
  var peer: Peer;
}

export const address = process.env["TRIMTAB_URL"] ?? "http://127.0.0.1:8420";
/** The same page isolated from other origins, so that it has threads. */
const isolatedAddress = process.env["TRIMTAB_ISOLATED_URL"] ?? address;
/** Tokens that a conversation may hold, for every runtime. */
export const CONTEXT = 1024;

const sampler = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 0 };

/** A software adapter where there is no other; `BENCH_ADAPTER=hardware` lets the browser take what the machine has. */
export const launchOptions =
  process.env["BENCH_ADAPTER"] === "hardware"
    ? { ...launch, args: (launch.args ?? []).filter((flag) => !flag.startsWith("--use-webgpu-adapter")) }
    : launch;

/** In a browser that was never here, which is forgotten afterwards. */
export async function asNewVisitor<T>(visit: (visitor: BrowserContext) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "trimtab-bench-"));
  const visitor = await chromium.launchPersistentContext(folder, launchOptions);
  try {
    return await visit(visitor);
  } finally {
    await visitor.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The page of a build at its address, `prepared` before it is fetched. */
export async function openOurs(context: BrowserContext | Browser, at = address, prepared: (page: Page) => Promise<void> = async () => undefined): Promise<Page> {
  const page = await context.newPage();
  await prepared(page);
  await page.goto(at);
  await page.waitForFunction(() => "trimtab" in globalThis);
  return page;
}

export async function loadOurs(page: Page, backend: Backend, precision: "exact" | "fast") {
  return page.evaluate(
    async ({ backend, precision, context }) => {
      const [card] = await globalThis.trimtab.catalogue();
      if (!card) throw new Error("the catalogue is empty");
      const source = { kind: "catalogue", id: card.id } as const;
      const model = await globalThis.trimtab.load(source, { backend: backend === "webgpu" ? "gpu" : "cpu", precision, context }, () => undefined);
      const threads = Number(/(\d+) threads$/.exec(model.adapter)?.[1] ?? 1);
      return { backend: model.backend, precision: model.precision, traits: model.traits.map(({ name }) => name), threads };
    },
    { backend, precision, context: CONTEXT },
  );
}

/**
 * Our own answer, by the verb that the page itself uses, from an empty cache: the steered
 * column without a plan reads its prompt as other runtimes do, without scoring every token of it.
 */
export async function answerOurs(page: Page, messages: Message[], maxTokens: number): Promise<Answer> {
  return page.evaluate(
    async ({ messages, maxTokens, sampler }) => {
      const trimtab = globalThis.trimtab;
      // Rows of the cache are used again only under the same plan, so this leaves none to use.
      const push = { trait: "cheerful", operation: { kind: "add", coefficient: 0.01 }, scope: "all" } as const;
      await trimtab.generate({ columns: [{ column: "steered", messages: [{ role: "user", content: "Hi" }], plan: [push] }], sampler, maxTokens: 1 }, () => undefined);
      const times: number[] = [];
      const start = performance.now();
      const [result] = await trimtab.generate({ columns: [{ column: "steered", messages, plan: [] }], sampler, maxTokens }, (event) => {
        if (event.kind === "token") times.push(performance.now() - start);
      });
      if (!result) throw new Error("there is no answer");
      return { times, text: result.text, promptTokens: result.answerStart };
    },
    { messages, maxTokens, sampler },
  );
}

export async function openContestant(subject: Subject): Promise<Contestant> {
  const browser = await chromium.launch(launchOptions);
  try {
    return await (subject.runtime === "trimtab" ? openTrimtab(browser, subject) : openPeer(browser, subject));
  } catch (error) {
    await browser.close();
    throw error;
  }
}

async function openTrimtab(browser: Browser, subject: Subject): Promise<Contestant> {
  const page = await openOurs(browser, subject.isolated === true ? isolatedAddress : address);
  const loaded = await loadOurs(page, subject.backend, subject.precision ?? "exact");
  const wanted = subject.backend === "webgpu" ? "gpu" : "cpu";
  if (loaded.backend !== wanted || loaded.precision !== subject.precision) {
    throw new Error(`it runs on ${loaded.backend}, ${loaded.precision}, where ${wanted}, ${String(subject.precision)} was asked for`);
  }
  return {
    subject,
    threads: loaded.threads,
    answer: async (question) => answerOurs(page, question.messages, question.maxTokens),
    leave: async () => browser.close(),
  };
}

async function openPeer(browser: Browser, subject: Subject): Promise<Contestant> {
  const wllama = subject.runtime === "wllama";
  const page = await browser.newPage();
  await page.goto(`${address}/pages/${wllama ? "wllama" : "onnxruntime"}.html`);
  await page.waitForFunction(() => "peer" in globalThis);
  const file = `/files/${subject.weights}.${wllama ? "gguf" : "onnx"}`;
  const { threads } = await page.evaluate(async (options) => globalThis.peer.load(options), { file, backend: subject.backend, context: CONTEXT });
  return {
    subject,
    threads,
    answer: async (question: Question) => page.evaluate(async (question) => globalThis.peer.answer(question), question),
    leave: async () => browser.close(),
  };
}
