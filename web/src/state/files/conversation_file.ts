/** Reads a conversation from a file. Everything is checked and bounded: the file may come from anybody. */

import type { Alternative, Plan, ReadingBlock, Sampler, SteeringTerm, Token } from "../../engine/protocol.ts";
import type { AnswerCoherence } from "../../engine/protocol.ts";
import type { Answer, Conversation, ModelStamp, Run, Turn } from "../conversation/conversation.ts";
import { newId } from "../conversation/conversation.ts";
import { FileError, list, number, object, oneOf, orNaN, orNull, text, whole } from "../untrusted/fields.ts";

const maxTokens = 140_000;
const maxValues = 40_000_000;

/** Floats from `{f32: base64}` of a session's file, or from the plain numbers of a conversation's. */
function floats(value: unknown, where: string): Float32Array {
  if (Array.isArray(value)) {
    if (value.length > maxValues) throw new FileError(`The file is damaged: ${where} is too long.`);
    return Float32Array.from(value, (one: unknown) => orNaN(one, where));
  }
  const packed = text(object(value, where)["f32"], where, maxValues * 6);
  let letters: string;
  try {
    letters = atob(packed);
  } catch {
    throw new FileError(`The file is damaged: ${where} is not base64.`);
  }
  if (letters.length % 4 !== 0) throw new FileError(`The file is damaged: ${where} is cut short.`);
  const bytes = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, at) => view.getFloat32(at * 4, true));
}

function block(value: unknown, where: string): ReadingBlock {
  const { tokens, traits, layerRows, values } = object(value, where);
  const found = {
    tokens: whole(tokens, where, maxTokens),
    traits: whole(traits, where, 1000),
    layerRows: whole(layerRows, where, 1000),
    values: floats(values, where),
  };
  if (found.values.length !== found.tokens * found.traits * found.layerRows) throw new FileError(`The file is damaged: ${where} has another number of readings than it says.`);
  return found;
}

function alternative(value: unknown, where: string): Alternative {
  const { text: piece, id, logprob } = object(value, where);
  return { text: text(piece, where, 1000), id: whole(id, where), logprob: orNaN(logprob, where) };
}

function token(value: unknown, where: string): Token {
  const { id, text: piece, part, logprob, alternatives } = object(value, where);
  return {
    id: whole(id, where),
    text: text(piece, where, 1000),
    part: oneOf(part, ["template", "prompt", "response"] as const, where),
    logprob: orNaN(logprob, where),
    alternatives: list(alternatives, where, 50, alternative),
  };
}

function operation(value: unknown, where: string): SteeringTerm["operation"] {
  const { kind, coefficient, low, high, scale } = object(value, where);
  switch (oneOf(kind, ["add", "ablate", "clamp", "tune"] as const, where)) {
    case "tune":
      return { kind: "tune", scale: number(scale, where) };
    case "add":
      return { kind: "add", coefficient: number(coefficient, where) };
    case "ablate":
      return { kind: "ablate" };
    case "clamp":
      return { kind: "clamp", low: number(low, where), high: number(high, where) };
  }
}

function plan(value: unknown, where: string): Plan {
  return list(value, where, 100, (item, at): SteeringTerm => {
    const { trait, operation: how, layers, scope } = object(item, at);
    return {
      trait: text(trait, at, 500),
      operation: operation(how, at),
      ...(layers === undefined ? {} : { layers: list(layers, at, 1000, (layer) => whole(layer, at, 1000)) }),
      scope: oneOf(scope, ["all", "prompt", "response"] as const, at),
    };
  });
}

function coherence(value: unknown, where: string): AnswerCoherence {
  const { verdict, meanLogprob, distinct2, band } = object(value, where);
  const { low, high, mean, deviation, distinct2: lowest, answers } = object(band, where);
  return {
    verdict: oneOf(verdict, ["coherent", "too-unlikely", "too-likely", "repetitive", "empty"] as const, where),
    meanLogprob: orNaN(meanLogprob, where),
    distinct2: orNaN(distinct2, where),
    band: { low: orNaN(low, where), high: orNaN(high, where), mean: orNaN(mean, where), deviation: orNaN(deviation, where), distinct2: orNaN(lowest, where), answers: whole(answers, where) },
  };
}

function answer(value: unknown, where: string): Answer {
  const { tokens, inRun, reread, rereadLogprob, segments, end, tokensPerSecond, coherence: sense } = object(value, where);
  return {
    tokens: list(tokens, `${where}, tokens`, maxTokens, token),
    inRun: orNull(inRun, (one) => block(one, `${where}, readings`)),
    reread: orNull(reread, (one) => block(one, `${where}, re-readings`)),
    rereadLogprob: orNull(rereadLogprob, (one) => floats(one, `${where}, probabilities`)),
    segments: list(segments, `${where}, segments`, 10_000, (item, at) => {
      const segment = object(item, at);
      return { fromToken: whole(segment["fromToken"], at, maxTokens), plan: plan(segment["plan"], at) };
    }),
    // An answer that was being written when the file was made stopped there.
    end: orNull(end, (one) => oneOf(one, ["end-token", "max-tokens", "context-full", "stopped", "failed", "cut"] as const, where)) ?? "stopped",
    tokensPerSecond: orNull(tokensPerSecond, (one) => number(one, where)),
    ...(sense === undefined || sense === null ? {} : { coherence: coherence(sense, `${where}, coherence`) }),
  };
}

function sampler(value: unknown, where: string): Sampler {
  const { temperature, topK, topP, repetitionPenalty, seed } = object(value, where);
  return {
    temperature: number(temperature, where, 0, 100),
    topK: whole(topK, where),
    topP: number(topP, where, 0, 1),
    repetitionPenalty: number(repetitionPenalty, where, 0, 100),
    seed: whole(seed, where, 0xffff_ffff),
  };
}

function stamp(value: unknown, where: string): ModelStamp {
  const { name, sha256, backend, precision, traits, adapters } = object(value, where);
  return {
    name: text(name, where, 500),
    sha256: text(sha256, where, 200),
    backend: text(backend, where, 50),
    precision: text(precision, where, 50),
    traits: list(traits, where, 1000, (item, at) => {
      const one = object(item, at);
      return { name: text(one["name"], at, 500), opposite: text(one["opposite"], at, 500), hash: text(one["hash"], at, 200), layers: list(one["layers"], at, 1000, (layer) => whole(layer, at, 1000)) };
    }),
    ...(adapters !== undefined && {
      adapters: list(adapters, where, 100, (item, at) => {
        const one = object(item, at);
        return { name: text(one["name"], at, 500), sha256: text(one["sha256"], at, 200) };
      }),
    }),
  };
}

function run(value: unknown, where: string): Run {
  const { id, after, sampler: how, maxTokens: most, model, answers, prompt } = object(value, where);
  const both = object(answers, `${where}, answers`);
  return {
    id: identity(id),
    after: list(after, where, 10_000, (one) => text(one, where, 100)),
    sampler: sampler(how, where),
    maxTokens: whole(most, where, maxTokens),
    model: stamp(model, `${where}, model`),
    answers: { unsteered: answer(both["unsteered"], `${where}, unsteered answer`), steered: answer(both["steered"], `${where}, steered answer`) },
    prompt: orNull(prompt, (one) => {
      const found = object(one, where);
      return { tokens: list(found["tokens"], `${where}, question`, maxTokens, token), block: block(found["block"], `${where}, question`) };
    }),
  };
}

function turn(value: unknown, where: string): Turn {
  const { id, user, runs, shown } = object(value, where);
  const found = list(runs, `${where}, answers`, 1000, run);
  return { id: identity(id), user: text(user, where), runs: found, shown: Math.min(whole(shown, where), Math.max(found.length - 1, 0)) };
}

/** The id, or a new one in place of an id that this page could not have made: ids name places in storage and on the page. */
function identity(value: unknown): string {
  return typeof value === "string" && /^[\w-]{1,64}$/.test(value) ? value : newId();
}

export function conversationFrom(value: unknown, where: string): Conversation {
  const { id, title, created, updated, system, turns } = object(value, where);
  return {
    id: identity(id),
    title: text(title, `${where}, title`, 1000),
    created: number(created, where, 0),
    updated: number(updated, where, 0),
    system: text(system, `${where}, instructions`),
    turns: list(turns, `${where}, questions`, 10_000, turn),
  };
}
