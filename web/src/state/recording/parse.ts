/** Reads `generated/recording.json` as the untrusted file it is: bounded, every field checked. */

import { collected } from "../one_file/collect.ts";
import type { RecordedDose, RecordedToken, Recording } from "./format.ts";

const maxCharacters = 1_000_000;
const maxTokens = 400;

export class RecordingError extends Error {}

type Fields = Record<string, unknown>;

function fields(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new RecordingError(`${where} is not an object`);
  return value as Fields;
}

function text(from: Fields, name: string): string {
  const value = from[name];
  if (typeof value !== "string" || value.length > 20_000) throw new RecordingError(`${name} is not a text`);
  return value;
}

function number(from: Fields, name: string): number {
  const value = from[name];
  if (typeof value !== "number" || !Number.isFinite(value)) throw new RecordingError(`${name} is not a number`);
  return value;
}

function numberOrNull(from: Fields, name: string): number | null {
  return from[name] === null ? null : number(from, name);
}

function list(from: Fields, name: string, min: number, max: number): unknown[] {
  const value = from[name];
  if (!Array.isArray(value) || value.length < min || value.length > max) throw new RecordingError(`${name} has a wrong length`);
  return value as unknown[];
}

function choice<T extends string>(from: Fields, name: string, allowed: readonly T[]): T {
  const found = allowed.find((one) => one === from[name]);
  if (found === undefined) throw new RecordingError(`${name} is none of ${allowed.join(", ")}`);
  return found;
}

function token(value: unknown): RecordedToken {
  const from = fields(value, "a token");
  return {
    id: number(from, "id"),
    text: text(from, "text"),
    part: choice(from, "part", ["template", "prompt", "response"]),
    logprob: numberOrNull(from, "logprob"),
    reread: numberOrNull(from, "reread"),
  };
}

function dose(value: unknown): RecordedDose {
  const from = fields(value, "a dose");
  return {
    coefficient: number(from, "coefficient"),
    tokens: list(from, "tokens", 1, maxTokens).map(token),
    end: choice(from, "end", ["end-token", "max-tokens"]),
  };
}

export function parseRecording(json: string): Recording {
  if (json.length > maxCharacters) throw new RecordingError("the file is too large");
  const from = fields(JSON.parse(json) as unknown, "the recording");
  const model = fields(from["model"], "model");
  const trait = fields(from["trait"], "trait");
  const recommended = fields(trait["recommended"], "recommended");
  const sampler = fields(from["sampler"], "sampler");
  const doses = list(from, "doses", 5, 5).map(dose);
  if (!doses.every((one, i) => i === 0 || one.coefficient > (doses[i - 1]?.coefficient ?? Infinity))) {
    throw new RecordingError("the doses are not in order");
  }
  if (!doses.some((one) => one.coefficient === 0)) throw new RecordingError("no dose is 0");
  return {
    schema: choice(from, "schema", ["trimtab-recording-1"]),
    madeWith: text(from, "madeWith"),
    madeOn: text(from, "madeOn"),
    model: { name: text(model, "name"), sha256: text(model, "sha256"), licence: text(model, "licence") },
    trait: {
      name: text(trait, "name"),
      opposite: text(trait, "opposite"),
      description: text(trait, "description"),
      hash: text(trait, "hash"),
      recommended: {
        layers: list(recommended, "layers", 1, 512).map((layer) => number({ layer }, "layer")),
        min: number(recommended, "min"),
        max: number(recommended, "max"),
      },
      dosePerUnit: number(trait, "dosePerUnit"),
    },
    layer: number(from, "layer"),
    scope: choice(from, "scope", ["all", "prompt", "response"]),
    sampler: {
      temperature: number(sampler, "temperature"),
      topK: number(sampler, "topK"),
      topP: number(sampler, "topP"),
      repetitionPenalty: number(sampler, "repetitionPenalty"),
      seed: number(sampler, "seed"),
    },
    question: text(from, "question"),
    doses,
  };
}

/** The recording that the build made. In development without one: a stand-in that says that it is not real. */
export async function fetchRecording(): Promise<Recording> {
  const path = "./generated/recording.json";
  const response = await (import.meta.env.MODE === "one-file" ? collected().fetch(path) : fetch(path));
  const type = response.headers.get("content-type") ?? "";
  if (response.ok && !type.includes("text/html")) return parseRecording(await response.text());
  if (import.meta.env.DEV) return (await import("./fixtures/stand_in.ts")).standIn;
  throw new RecordingError(`the recording could not be fetched (${response.status})`);
}
