/** What a visitor of our page waits for and pays with: warm start, memory, growth of cost. */
import type { BrowserContext, Page } from "@playwright/test";
import type { Message } from "../../web/src/engine/protocol.ts";
import type { Backend, Question } from "./answer.ts";
import { address, CONTEXT, loadOurs, openOurs } from "./contestants.ts";

export interface Cost {
  backend: Backend;
  precision: string;
  /** Decoding after a prompt of so many tokens, with so many traits read at every layer. */
  contextTokens: number;
  traits: number;
  decodeTokensPerSecond: number | null;
}

export interface MemoryUse {
  backend: Backend;
  precision: string;
  contextTokens: number;
  wasmBytes: number;
  deviceBytes: number;
}

const DECODED = 12;
const CONTEXTS = [64, 256, CONTEXT - DECODED];
/** From the most that an executor reads: what is there is added to once, and then taken away. */
const TRAITS = [16, 8, 4, 0];

/** Seconds from navigation to the first token of an answer on the CPU executor, everything cached; one a round. */
export async function startWarm(visitor: BrowserContext, question: Question, rounds: number): Promise<number[]> {
  const seconds: number[] = [];
  // The first fills the cache.
  for (let round = 0; round <= rounds; round++) seconds.push(await startOnce(visitor, question));
  return seconds.slice(1);
}

/** One start, of the build at an address. */
export async function startOnce(visitor: BrowserContext, question: Question, at?: string): Promise<number> {
  const page = await openOurs(visitor, at);
  await loadOurs(page, "cpu", "fast");
  const { promptTokens, firstToken } = await answer(page, question.messages, 1);
  if (promptTokens !== question.prompt.length) {
    throw new Error(`the prompt has ${String(promptTokens)} tokens in the page, not ${String(question.prompt.length)}`);
  }
  await page.close();
  return firstToken / 1000;
}

/** How the cost of a token grows with the context and with the traits that are read, and the memory at the end. */
export async function measureGrowth(visitor: BrowserContext, backend: Backend): Promise<{ costs: Cost[]; memory: MemoryUse }> {
  const page = await openOurs(visitor);
  const { precision, traits: ready } = await loadOurs(page, backend, "fast");
  const costs: Cost[] = [];
  for (const contextTokens of CONTEXTS) {
    const decodeTokensPerSecond = await decodeSpeed(page, await messagesOf(page, contextTokens));
    costs.push({ backend, precision, contextTokens, traits: ready.length, decodeTokensPerSecond });
    console.error(`${backend}: ${String(contextTokens)} tokens of context, ${decodeTokensPerSecond?.toFixed(2) ?? "–"} tokens/s`);
  }
  const memory = await page.evaluate(async () => globalThis.trimtab.memory());
  const [contextTokens = 64] = CONTEXTS;
  const messages = await messagesOf(page, contextTokens);
  let present = ready;
  for (const traits of TRAITS) {
    present = await readTraits(page, present, traits);
    costs.push({ backend, precision, contextTokens, traits, decodeTokensPerSecond: await decodeSpeed(page, messages) });
  }
  await page.close();
  return { costs, memory: { backend, precision, contextTokens: CONTEXT, ...memory } };
}

/** The unsteered column's answer; times since navigation began. */
async function answer(page: Page, messages: Message[], maxTokens: number) {
  return page.evaluate(
    async ({ messages, maxTokens }) => {
      const sampler = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 0 };
      const columns = [{ column: "unsteered" as const, messages, plan: [] }];
      const times: number[] = [];
      const [result] = await globalThis.trimtab.generate({ columns, sampler, maxTokens }, (event) => {
        if (event.kind === "token") times.push(performance.now());
      });
      const [firstToken = NaN, lastToken = NaN] = [times[0], times.at(-1)];
      return { firstToken, lastToken, tokens: times.length, promptTokens: result?.answerStart ?? 0 };
    },
    { messages, maxTokens },
  );
}

/** Null where the answer ended too soon to be timed. */
async function decodeSpeed(page: Page, messages: Message[]): Promise<number | null> {
  const { firstToken, lastToken, tokens } = await answer(page, messages, DECODED);
  return tokens < DECODED / 2 ? null : ((tokens - 1) * 1000) / (lastToken - firstToken);
}

/** A conversation of which the chat template makes exactly so many tokens, with a question that has a long answer. */
async function messagesOf(page: Page, tokens: number): Promise<Message[]> {
  const sentence = " The old sailor walked along the shore and looked at the waves.";
  const conversation = (sentences: number, words: number): Message[] => [
    { role: "user", content: `Tell me a long story.${sentence.repeat(sentences)}${" very".repeat(words)} long` },
  ];
  const empty = await rendered(page, conversation(0, 1));
  const each = (await rendered(page, conversation(1, 1))) - empty;
  const sentences = Math.floor((tokens - empty) / each);
  const messages = conversation(sentences, 1 + tokens - empty - sentences * each);
  const made = await rendered(page, messages);
  if (made !== tokens) throw new Error(`the conversation has ${String(made)} tokens, not ${String(tokens)}`);
  return messages;
}

async function rendered(page: Page, messages: Message[]): Promise<number> {
  return page.evaluate(async (messages) => (await globalThis.trimtab.tokenize(messages, true)).length, messages);
}

/** Reads so many traits, adding copies of a ready-made vector where there are fewer: to an executor every direction costs the same. */
async function readTraits(page: Page, present: readonly string[], wanted: number): Promise<string[]> {
  const copies = Array.from({ length: Math.max(0, wanted - present.length) }, (_, index) => `copy ${String(index)}`);
  await page.evaluate(
    async ({ address, copies, removed }) => {
      const file = new Uint8Array(await (await fetch(`${address}/models/vectors/cheerful.safetensors`)).arrayBuffer());
      for (const name of copies) await globalThis.trimtab.addVector(name, file.slice());
      await globalThis.trimtab.removeTraits(removed);
    },
    { address, copies, removed: present.slice(wanted) },
  );
  return [...present.slice(0, wanted), ...copies];
}
