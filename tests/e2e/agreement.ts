/** The engine in a page against Hugging Face transformers: what is compared, and how near it has to be. */
import type { Page } from "@playwright/test";
import type { Plan, Sampler } from "../../web/src/engine/protocol.ts";
import { expect } from "./browser.ts";
import { greedyMessages, greedyPrompts, residualPrompts, sampledRuns, sequences, steering, tensor, vectorFile, type Message } from "./golden.ts";

/** Where the reference's two best logits are nearer than this, either may be chosen. */
const TIE = 0.01;

const limits = {
  exact: { nll: 0.0002, agreement: 1, residual: 1e-3, alike: (prompts: number) => prompts },
  // Of eight prompts or more, six have to be alike, as in the native tests: where two tokens are nearly as likely, which one 8-bit
  // activations choose differs from one executor to the next, and so do the prompts that part. Of two, one.
  fast: { nll: 0.005, agreement: 0.97, residual: undefined, alike: (prompts: number) => Math.min(6, Math.floor(0.75 * prompts)) },
};

/** An executor as the comparisons name it. */
export interface Compared {
  name: string;
  precision: "exact" | "fast";
}

/** Negative log-likelihood of real text, and its first choices. */
export async function likelihoodAgrees(page: Page, { name, precision }: Compared, extent = { texts: Infinity, tokens: Infinity }): Promise<void> {
  const texts = sequences.slice(0, extent.texts).map((text) => ({ ...text, ids: text.ids.slice(0, extent.tokens) }));
  let ours = 0;
  let reference = 0;
  let tokens = 0;
  let decided = 0;
  let agreed = 0;
  for (const text of texts) {
    const score = await page.evaluate(async (ids) => {
      const { nll, top1 } = await globalThis.trimtab.score(Uint32Array.from(ids));
      return { nll: [...nll], top1: [...top1] };
    }, text.ids);
    expect(score.nll).toHaveLength(text.ids.length - 1);
    for (const [index, nll] of score.nll.entries()) {
      ours += nll;
      reference += text.nll[index] ?? Number.NaN;
      tokens += 1;
      // "Exact" has to agree wherever the reference is decided, "fast" nearly everywhere.
      if (precision === "exact" && (text.gap[index] ?? 0) <= TIE) continue;
      decided += 1;
      if (score.top1[index] === text.top1[index]) agreed += 1;
    }
  }
  const difference = Math.abs(ours - reference) / reference;
  console.log(`${name}: mean NLL ${String(ours / tokens)} on ${String(tokens)} tokens, off by ${String(difference)}; top-1 agreement ${String(agreed / decided)}`);
  expect(difference).toBeLessThanOrEqual(limits[precision].nll);
  expect(agreed / decided).toBeGreaterThanOrEqual(limits[precision].agreement);
}

/** The residual stream at every layer. */
export async function residualAgrees(page: Page, { name, precision }: Compared, extent = { prompts: Infinity, tokens: Infinity }): Promise<void> {
  for (const prompt of residualPrompts.slice(0, extent.prompts)) {
    const reference = tensor("residual.safetensors", prompt.name);
    const ids = prompt.ids.slice(0, extent.tokens);
    const trace = await traced(page, ids, []);
    const [rows, length, width] = reference.shape as [number, number, number];
    expect(trace.shape).toEqual([rows, ids.length, width]);
    const { first, others } = largestDifference(trace.residual, reference.values, { rows, ours: ids.length, theirs: length, width });
    console.log(`${name}: residual of ${prompt.name}, largest ‖Δh‖/‖h‖ ${String(others)}; of the first token ${String(first)}`);
    expect(Number.isFinite(others)).toBe(true);
    const limit = limits[precision].residual;
    if (limit !== undefined) expect(others).toBeLessThanOrEqual(limit);
  }
}

/** The residual stream after changes at a layer. */
export async function steeringAgrees(page: Page, { name, precision }: Compared): Promise<void> {
  const { vector, cases, ids } = steering;
  await page.evaluate(async (file) => globalThis.trimtab.addVector("golden", Uint8Array.from(file)), [...vectorFile(vector)]);
  for (const one of cases) {
    const reference = tensor("steering.safetensors", one.name);
    const plan = one.terms.map((term) => ({ trait: "golden", ...term }));
    const trace = await traced(page, ids, plan);
    const [rows, length, width] = reference.shape as [number, number, number];
    expect(trace.shape).toEqual([one.fromLayer + rows, ids.length, width]);
    const changed = trace.residual.subarray(one.fromLayer * ids.length * width);
    const { first, others } = largestDifference(changed, reference.values, { rows, ours: ids.length, theirs: length, width });
    console.log(`${name}: residual under ${one.name}, largest ‖Δh‖/‖h‖ ${String(others)}; of the first token ${String(first)}`);
    expect(Number.isFinite(others)).toBe(true);
    const limit = limits[precision].residual;
    if (limit !== undefined) expect(Math.max(first, others)).toBeLessThanOrEqual(limit);
  }
}

/** Greedy answers to ten chats. */
export async function greedyAnswersAgree(page: Page, { name, precision }: Compared): Promise<void> {
  const length = precision === "exact" ? 48 : 16;
  let alike = 0;
  for (const [index, prompt] of greedyPrompts.entries()) {
    const messages = greedyMessages[index] ?? [];
    const run = await answer(page, messages, { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 }, length);
    expect(run.prompt).toEqual(prompt.prompt_ids);
    const gap = partingGap(`${name}: greedy prompt ${String(index)}`, run.answer, prompt);
    if (gap === undefined || gap <= TIE) alike += 1;
  }
  expect(alike).toBeGreaterThanOrEqual(limits[precision].alike(greedyPrompts.length));
}

/** Answers under five samplers with the same noise. */
export async function sampledAnswersAgree(page: Page, { name }: Compared): Promise<void> {
  for (const run of sampledRuns) {
    const messages = greedyMessages[greedyPrompts.findIndex((prompt) => String(prompt.prompt_ids) === String(run.prompt_ids))];
    if (!messages) throw new Error("the sampled run's prompt is not among the greedy ones");
    const { temperature, top_k: topK, top_p: topP, repetition_penalty: repetitionPenalty, seed } = run.sampler;
    const { answer: ids } = await answer(page, messages, { temperature, topK, topP, repetitionPenalty, seed }, run.gap.length);
    expect(partingGap(`${name}: sampled, seed ${String(seed)}`, ids, run) ?? 0).toBeLessThanOrEqual(TIE);
  }
}

/** The residual stream as `trace` gives it. Millions of numbers leave the page as one text: as JSON they would take half a minute. */
async function traced(page: Page, ids: number[], plan: Plan): Promise<{ residual: Float32Array; shape: number[] }> {
  const { address, shape } = await page.evaluate(
    async ({ ids, plan }) => {
      const { residual, shape } = await globalThis.trimtab.trace(Uint32Array.from(ids), plan);
      const reader = new FileReader();
      const read = new Promise((resolve) => {
        reader.addEventListener("load", resolve);
      });
      reader.readAsDataURL(new Blob([residual as BlobPart]));
      await read;
      return { address: reader.result as string, shape };
    },
    { ids, plan },
  );
  const bytes = Buffer.from(address.slice(address.indexOf(",") + 1), "base64");
  return { residual: new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength)), shape };
}

/** The ids of a rendered prompt and of the unsteered answer to it. */
async function answer(page: Page, messages: Message[], sampler: Sampler, maxTokens: number): Promise<{ prompt: number[]; answer: number[] }> {
  return page.evaluate(
    async ({ messages, sampler, maxTokens }) => {
      const prompt = await globalThis.trimtab.tokenize(messages, true);
      const [result] = await globalThis.trimtab.generate({ columns: [{ column: "unsteered", messages, plan: [] }], sampler, maxTokens }, () => undefined);
      return { prompt: [...prompt], answer: result?.tokens.slice(result.answerStart).map((token) => token.id) ?? [] };
    },
    { messages, sampler, maxTokens },
  );
}

/** How far apart the reference's two best were where the answer parts from it, if it does. */
function partingGap(name: string, ids: number[], reference: { ids: number[]; gap: number[] }): number | undefined {
  expect(ids.length).toBeGreaterThan(0);
  const parted = ids.findIndex((id, place) => id !== reference.ids[place]);
  const gap = parted < 0 ? undefined : (reference.gap[parted] ?? Infinity);
  console.log(`${name}: ${gap === undefined ? `${String(ids.length)} tokens alike` : `parts at token ${String(parted)}, where the reference's two best are ${String(gap)} apart`}`);
  return gap;
}

/** Largest ‖Δh‖/‖h‖ over layers and tokens, the first token apart. */
function largestDifference(
  ours: Float32Array,
  theirs: Float32Array,
  shape: { rows: number; ours: number; theirs: number; width: number },
): { first: number; others: number } {
  let first = 0;
  let others = 0;
  for (let row = 0; row < shape.rows; row++) {
    for (let token = 0; token < shape.ours; token++) {
      let change = 0;
      let norm = 0;
      for (let column = 0; column < shape.width; column++) {
        const expected = theirs[(row * shape.theirs + token) * shape.width + column] ?? Number.NaN;
        const found = ours[(row * shape.ours + token) * shape.width + column] ?? Number.NaN;
        change += (found - expected) ** 2;
        norm += expected ** 2;
      }
      const relative = Math.sqrt(change / norm);
      if (token === 0) first = Math.max(first, relative);
      else others = Math.max(others, relative);
    }
  }
  return { first, others };
}
