/**
 * Times our page, and with `peers` other runtimes, in headless Chromium. Reads a {@link Job} as JSON
 * from standard input, writes a {@link Report} to standard output; `cargo xtask bench` does both.
 */
import { readFileSync } from "node:fs";
import { chromium } from "@playwright/test";
import type { Backend, Question, Subject } from "./answer.ts";
import { asNewVisitor, launchOptions } from "./contestants.ts";
import { watchLongConversation, type LongConversation } from "./long_conversation.ts";
import { watchMainThread, type LongestTask } from "./main_thread.ts";
import { measureGrowth, startWarm, type Cost, type MemoryUse } from "./page.ts";
import { runRounds, type Outcome } from "./rounds.ts";

interface Job {
  question: Question;
  /** For the warm start. */
  shortQuestion: Question;
  rounds: number;
  peers: boolean;
}

interface Report {
  browser: string;
  outcomes: Outcome[];
  warmStartSeconds: number[];
  longestTask: LongestTask;
  longConversation: LongConversation;
  costs: Cost[];
  memory: MemoryUse[];
}

const OURS: Subject[] = [
  { runtime: "trimtab", backend: "cpu", weights: "q4_1", precision: "exact" },
  { runtime: "trimtab", backend: "cpu", weights: "q4_1", precision: "fast" },
  { runtime: "trimtab", backend: "cpu", weights: "q4_1", precision: "fast", isolated: true },
  { runtime: "trimtab", backend: "webgpu", weights: "q4_1", precision: "fast" },
];
const PEERS: Subject[] = [
  { runtime: "wllama", backend: "cpu", weights: "q4_1" },
  { runtime: "wllama", backend: "cpu", weights: "q8_0" },
  { runtime: "onnxruntime-web", backend: "cpu", weights: "f32" },
  { runtime: "onnxruntime-web", backend: "webgpu", weights: "f32" },
];
const BACKENDS: Backend[] = ["cpu", "webgpu"];

async function main(job: Job): Promise<Report> {
  const browser = await chromium.launch(launchOptions);
  const version = browser.version();
  await browser.close();
  // Before other browsers, whose closing would keep the cores busy.
  const longestTask = await watchMainThread(job.rounds);
  const longConversation = await watchLongConversation();
  const report: Report = { browser: `Chromium ${version}`, outcomes: [], warmStartSeconds: [], longestTask, longConversation, costs: [], memory: [] };
  report.outcomes = await runRounds(job.peers ? [...OURS, ...PEERS] : OURS, job.question, job.rounds);

  await asNewVisitor(async (visitor) => {
    report.warmStartSeconds = await startWarm(visitor, job.shortQuestion, job.rounds);
    for (const backend of BACKENDS) {
      const { costs, memory } = await measureGrowth(visitor, backend);
      report.costs.push(...costs);
      report.memory.push(memory);
    }
  });
  return report;
}

const job = JSON.parse(readFileSync(0, "utf8")) as Job | { only: "longConversation" };
process.stdout.write(JSON.stringify("only" in job ? await watchLongConversation() : await main(job)));
