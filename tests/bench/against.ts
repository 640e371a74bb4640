/**
 * Compares the pages of two builds in headless Chromium, which answer in turns. Reads a {@link Job} as JSON from standard input,
 * writes a {@link Report} to standard output; `cargo xtask bench --against DIR` does both.
 */
import { readFileSync } from "node:fs";
import { chromium, type BrowserContext } from "@playwright/test";
import { costOfToken, countGpu, type TokenCost } from "../e2e/gpu_counters.ts";
import type { Question } from "./answer.ts";
import { answerOurs, asNewVisitor, launchOptions, loadOurs, openOurs } from "./contestants.ts";
import { startOnce } from "./page.ts";

interface Job {
  question: Question;
  /** For the warm start. */
  shortQuestion: Question;
  pairs: number;
  /** Of the two builds. */
  addresses: [string, string];
  countedTokens: number;
}

/** Seconds of the two builds. */
type Pair = [number, number];

interface Report {
  browser: string;
  cpu: { written: Pair[]; read: Pair[]; start: Pair[] };
  gpu: TokenCost[];
}

/** As many pairs as asked for, after one that warms up. Which build begins changes from pair to pair. */
async function inTurns<T>(pairs: number, measure: (build: 0 | 1) => Promise<T>): Promise<[T, T][]> {
  const measured: [T, T][] = [];
  for (let pair = 0; pair <= pairs; pair++) {
    if (pair % 2 === 0) {
      const first = await measure(0);
      measured.push([first, await measure(1)]);
    } else {
      const second = await measure(1);
      measured.push([await measure(0), second]);
    }
    console.error(`pair ${String(pair)} of ${String(pairs)}: ${JSON.stringify(measured.at(-1))}`);
  }
  return measured.slice(1);
}

async function answers(visitors: [BrowserContext, BrowserContext], { question, pairs, addresses }: Job) {
  const open = async (build: 0 | 1) => {
    const page = await openOurs(visitors[build], addresses[build]);
    await loadOurs(page, "cpu", "fast");
    return page;
  };
  const pages = [await open(0), await open(1)] as const;
  const measured = await inTurns(pairs, async (build) => {
    const { times, promptTokens } = await answerOurs(pages[build], question.messages, question.maxTokens);
    if (promptTokens !== question.prompt.length || times.length < 2) throw new Error("a build read another prompt, or gave no answer");
    const [first = NaN, last = NaN] = [times[0], times.at(-1)];
    return { read: first / 1000, written: (last - first) / 1000 / (times.length - 1) };
  });
  for (const page of pages) await page.close();
  return {
    written: measured.map(([ours, theirs]): Pair => [ours.written, theirs.written]),
    read: measured.map(([ours, theirs]): Pair => [ours.read, theirs.read]),
  };
}

/** In a browser without a service worker, which would answer the request for the worker's script by itself. */
async function onGpu(address: string, tokens: number): Promise<TokenCost> {
  const browser = await chromium.launch(launchOptions);
  try {
    const context = await browser.newContext({ serviceWorkers: "block" });
    const page = await openOurs(context, address, countGpu);
    await loadOurs(page, "webgpu", "fast");
    const cost = await costOfToken(page, tokens);
    console.error(`${address}: ${JSON.stringify(cost)}`);
    return cost;
  } finally {
    await browser.close();
  }
}

async function main(job: Job): Promise<void> {
  const browser = await chromium.launch(launchOptions);
  const name = `Chromium ${browser.version()}`;
  await browser.close();
  const cpu = await asNewVisitor((ours) =>
    asNewVisitor(async (theirs) => {
      const visitors: [BrowserContext, BrowserContext] = [ours, theirs];
      const start = await inTurns(job.pairs, (build) => startOnce(visitors[build], job.shortQuestion, job.addresses[build]));
      return { ...(await answers(visitors, job)), start };
    }),
  );
  const gpu = [await onGpu(job.addresses[0], job.countedTokens), await onGpu(job.addresses[1], job.countedTokens)];
  const report: Report = { browser: name, cpu, gpu };
  process.stdout.write(JSON.stringify(report));
}

await main(JSON.parse(readFileSync(0, "utf8")) as Job);
