/** Tasks of the page's main thread with a long conversation on the screen, by the clock and by the processor time of their own. */
import type { BrowserContext, CDPSession, Page } from "@playwright/test";
import { address, asNewVisitor } from "./contestants.ts";
import { drag } from "./main_thread.ts";

/** Milliseconds of the task that took the processor longest. */
export interface Task {
  /** Processor time of its thread: what else the machine does is not in it. */
  processor: number;
  clock: number;
}

export interface LongConversation {
  /** Tokens on the screen at the end, in both columns. */
  tokens: number;
  writing: Task;
  dragging: Task;
  /** While what the tokens are coloured by changes, from trait to trait. */
  colouring: Task;
  /** While it is read from storage and shown. */
  opening: Task;
}

/** As many as one answer of 2,000 tokens beside one that ended early. */
const TOKENS = 2300;
const WRITING_MILLISECONDS = 1_800_000;
const CHOICES = { backend: "cpu", maxTokens: 1200, sampler: { temperature: 1, topK: 0, topP: 0.95, repetitionPenalty: 1.1, seed: 1 } };
const QUESTIONS = ["Write a very long story about a town by the sea.", "How does the story go on?", "Tell me about everybody who lives there.", "And what happened a hundred years before?"];

export async function watchLongConversation(): Promise<LongConversation> {
  return asNewVisitor(watchVisit);
}

async function watchVisit(visitor: BrowserContext): Promise<LongConversation> {
  const page = await visitor.newPage();
  await page.addInitScript((choices) => {
    localStorage.setItem("trimtab.choices", choices);
  }, JSON.stringify(CHOICES));
  await page.goto(address);
  await startModel(page);
  await page.getByRole("slider", { name: /^cheerful/ }).fill("1");
  const session = await visitor.newCDPSession(page);

  const writing = await longest(session, async () => {
    for (const question of QUESTIONS) {
      if ((await tokensOf(page)) >= TOKENS) break;
      await page.getByRole("textbox", { name: "Your message" }).fill(question);
      await page.getByRole("button", { name: "Ask", exact: true }).click();
      await page.getByRole("button", { name: /^Answer again/ }).last().and(page.locator(":enabled")).waitFor({ timeout: WRITING_MILLISECONDS });
    }
  });
  const tokens = await tokensOf(page);
  if (tokens < TOKENS) throw new Error(`the conversation has ${String(tokens)} tokens, where ${String(TOKENS)} were wanted`);
  const dragging = await longest(session, async () => drag(page, page.getByRole("slider").first()));
  const by = page.getByRole("combobox", { name: "Colour by" });
  const names = await by.getByRole("option").evaluateAll((options) => options.map((option) => (option as HTMLOptionElement).value));
  const colouring = await longest(session, async () => {
    for (const name of names) {
      await by.selectOption(name);
      await page.waitForTimeout(1000);
    }
  });
  const opening = await longest(session, async () => {
    await page.reload();
    await page.getByRole("option").nth(TOKENS - 1).waitFor({ state: "attached", timeout: 60_000 });
    await startModel(page);
    await page.waitForTimeout(2000);
  });
  return { tokens, writing, dragging, colouring, opening };
}

async function startModel(page: Page): Promise<void> {
  await page.getByRole("button", { name: /^(Load|Start) the model/ }).click();
  await page.getByRole("region", { name: "Steering" }).waitFor({ timeout: 300_000 });
}

async function tokensOf(page: Page): Promise<number> {
  return page.locator(".answer [role=option]").count();
}

interface TraceEvent {
  name: string;
  pid: number;
  tid: number;
  /** Microseconds by the clock, and of the thread's processor time. */
  dur?: number;
  tdur?: number;
  args?: { name?: string };
}

/** The longest of the main thread's tasks during `act`, from Chromium's trace: the Long Tasks API knows the clock alone. */
async function longest(session: CDPSession, act: () => Promise<void>): Promise<Task> {
  const events: TraceEvent[] = [];
  const collect = ({ value }: { value: unknown[] }) => {
    for (const event of value as TraceEvent[]) if (event.name === "thread_name" || (event.name === "RunTask" && (event.dur ?? 0) > 20_000)) events.push(event);
  };
  session.on("Tracing.dataCollected", collect);
  await session.send("Tracing.start", { traceConfig: { includedCategories: ["disabled-by-default-devtools.timeline"], excludedCategories: ["*"] }, transferMode: "ReportEvents" });
  try {
    await act();
  } finally {
    const complete = new Promise((resolve) => session.once("Tracing.tracingComplete", resolve));
    await session.send("Tracing.end");
    await complete;
    session.off("Tracing.dataCollected", collect);
  }
  const main = new Set(events.filter(({ args }) => args?.name === "CrRendererMain").map(({ pid, tid }) => `${String(pid)} ${String(tid)}`));
  if (main.size === 0) throw new Error("the trace names no main thread");
  const tasks = events.filter(({ pid, tid, name }) => name === "RunTask" && main.has(`${String(pid)} ${String(tid)}`)).map(({ dur = 0, tdur }) => ({ processor: (tdur ?? NaN) / 1000, clock: dur / 1000 }));
  const found = tasks.sort((a, b) => b.processor - a.processor)[0] ?? { processor: 0, clock: 0 };
  console.error(`longest tasks of ${String(tasks.length)} over 20 ms: ${JSON.stringify(tasks.slice(0, 4))}`);
  return found;
}
