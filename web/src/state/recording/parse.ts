/** Reads `generated/recording.json` as the untrusted file it is: bounded, every field checked. */

import { collected } from "../one_file/collect.ts";
import { FileError, list, number, object, oneOf, orNull, text } from "../untrusted/fields.ts";
import type { RecordedDose, RecordedToken, Recording } from "./format.ts";

const maxCharacters = 1_000_000;
const maxTokens = 400;

function token(value: unknown, where: string): RecordedToken {
  const { id, text: written, part, logprob, reread } = object(value, where);
  return {
    id: number(id, where),
    text: text(written, where),
    part: oneOf(part, ["template", "prompt", "response"], where),
    logprob: orNull(logprob, (one) => number(one, where)),
    reread: orNull(reread, (one) => number(one, where)),
  };
}

function dose(value: unknown, where: string): RecordedDose {
  const { coefficient, tokens, end } = object(value, where);
  return { coefficient: number(coefficient, where), tokens: list(tokens, `${where}, tokens`, maxTokens, token), end: oneOf(end, ["end-token", "max-tokens"], where) };
}

export function parseRecording(json: string): Recording {
  if (json.length > maxCharacters) throw new FileError("The recording is too large.");
  const from = object(JSON.parse(json) as unknown, "the recording");
  const [model, trait, sampler] = [object(from["model"], "model"), object(from["trait"], "trait"), object(from["sampler"], "sampler")];
  const { layers, min, max } = object(trait["recommended"], "recommended");
  const doses = list(from["doses"], "doses", 5, dose);
  if (doses.length !== 5 || doses.some(({ tokens }) => tokens.length === 0)) throw new FileError("The recording has not five doses with tokens.");
  if (!doses.every((one, i) => i === 0 || one.coefficient > (doses[i - 1]?.coefficient ?? Infinity))) throw new FileError("The recording's doses are not in order.");
  if (!doses.some((one) => one.coefficient === 0)) throw new FileError("In the recording no dose is 0.");
  const texts = (object: Record<string, unknown>) => (name: string) => text(object[name], name);
  const numbers = (object: Record<string, unknown>) => (name: string) => number(object[name], name);
  const [own, ofModel, ofTrait, setting] = [texts(from), texts(model), texts(trait), numbers(sampler)];
  return {
    schema: oneOf(from["schema"], ["trimtab-recording-1"], "schema"),
    madeWith: own("madeWith"),
    madeOn: own("madeOn"),
    model: { name: ofModel("name"), sha256: ofModel("sha256"), licence: ofModel("licence") },
    trait: {
      name: ofTrait("name"),
      opposite: ofTrait("opposite"),
      description: ofTrait("description"),
      hash: ofTrait("hash"),
      recommended: { layers: list(layers, "layers", 512, number), min: number(min, "min"), max: number(max, "max") },
      dosePerUnit: number(trait["dosePerUnit"], "dosePerUnit"),
    },
    layer: number(from["layer"], "layer"),
    scope: oneOf(from["scope"], ["all", "prompt", "response"], "scope"),
    sampler: { temperature: setting("temperature"), topK: setting("topK"), topP: setting("topP"), repetitionPenalty: setting("repetitionPenalty"), seed: setting("seed") },
    question: own("question"),
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
  throw new FileError(`The recording could not be fetched (${response.status}).`);
}
