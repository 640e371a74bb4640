/** The reference's numbers, as `tests/golden/README.md` describes them. */
import { readFileSync } from "node:fs";
import type { Plan } from "../../web/src/engine/protocol.ts";

type Term = Plan[number];

const folder = new URL("../golden/", import.meta.url);

interface Sequence {
  name: string;
  ids: number[];
  nll: number[];
  top1: number[];
  gap: number[];
}

interface GreedyPrompt {
  prompt_ids: number[];
  ids: number[];
  argmax: number[];
  gap: number[];
}

interface SteeringCase {
  name: string;
  from_layer: number;
  terms: { operation: "add" | "ablate" | "clamp"; coefficient?: number; low?: number; high?: number; layers: number[]; scope: "all" | "prompt" | "response" }[];
}

interface SampledRun {
  sampler: { temperature: number; top_k: number; top_p: number; repetition_penalty: number; seed: number };
  prompt_ids: number[];
  ids: number[];
  gap: number[];
}

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

function json<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(name, folder), "utf8")) as T;
}

export const sequences = json<{ sequences: Sequence[] }>("nll.json").sequences;
export const residualPrompts = json<{ prompts: { name: string; ids: number[] }[] }>("residual.json").prompts;
export const greedyPrompts = json<{ prompts: GreedyPrompt[] }>("greedy.json").prompts;
export const sampledRuns = json<{ runs: SampledRun[] }>("sampled.json").runs;
export const extractPairs = json<{ pairs: { side: 1 | -1; prompt_ids: number[]; full_ids: number[] }[] }>("extract.json").pairs;
export const greedyMessages = json<{ greedy: Message[][] }>("texts/conversations.json").greedy;

const changed = json<{ ids: number[]; cases: SteeringCase[] }>("steering.json");

/** Changes of all tokens, in the page's words. A trace has no response for the others to tell apart. */
export const steering = {
  ids: changed.ids,
  vector: tensor("steering.safetensors", "vector"),
  cases: changed.cases
    .filter(({ terms }) => terms.every(({ scope }) => scope === "all"))
    .map(({ name, from_layer, terms }) => ({ name, fromLayer: from_layer, terms: terms.map((term) => ({ operation: operation(term), layers: term.layers, scope: "all" as const })) })),
};

function operation({ operation, coefficient = 0, low = 0, high = 0 }: SteeringCase["terms"][number]): Term["operation"] {
  if (operation === "add") return { kind: "add", coefficient };
  return operation === "ablate" ? { kind: "ablate" } : { kind: "clamp", low, high };
}

export interface Tensor {
  shape: number[];
  values: Float32Array;
}

/** One F32 tensor of a golden safetensors file. */
export function tensor(file: string, name: string): Tensor {
  return safetensors(readFileSync(new URL(file, folder)))(name);
}

/** A safetensors file of one tensor. */
export function vectorFile({ shape, values }: Tensor): Buffer {
  const header = Buffer.from(JSON.stringify({ vector: { dtype: "F32", shape, data_offsets: [0, values.byteLength] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.from(values.buffer, values.byteOffset, values.byteLength)]);
}

/** The F32 tensors of a safetensors file by name. */
export function safetensors(bytes: Buffer): (name: string) => Tensor {
  const headerLength = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return (name) => {
    const entry = header[name];
    if (entry?.dtype !== "F32") throw new Error(`there is no F32 tensor ${name}`);
    const [begin, end] = entry.data_offsets;
    const data = bytes.subarray(8 + headerLength + begin, 8 + headerLength + end);
    return { shape: entry.shape, values: new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength)) };
  };
}
