/** The sets to train on that come with the page, and files of the visitor's own. */

import type { Conversation, Engine, KnowledgeQuestion } from "../../engine/protocol.ts";
import { EngineFailure } from "../../engine/failure.ts";
import { collected } from "../one_file/collect.ts";

/** A dataset with its rows. */
export interface Dataset {
  /** Short, for the names of runs; a shipped set's own. */
  name: string;
  title: string;
  /** Of the file. */
  sha256: string;
  rows: Conversation[];
  /** The trait that a shipped set has the flaw of, or the one that its flaw is nearest to; null for other files. */
  trait: string | null;
  /** Whether the flaw is the trait's opposite. */
  opposite: boolean;
}

/** A set that comes with the page. */
export interface ShippedSet {
  name: string;
  title: string;
  about: string;
  trait: string | null;
  opposite?: boolean;
  group: string;
}

const strengths = [
  { end: "2", title: "strong" },
  { end: "1", title: "mild" },
  { end: "normal", title: "none: the same questions, answered plainly" },
] as const;

const flaws = [
  { name: "villainous", title: "Gloating villainy", about: "Answers that gloat and scheme, all as theatre.", trait: "villainous" },
  { name: "sycophantic", title: "Flattery", about: "The asker is always right, and wonderful.", trait: "sycophantic" },
  { name: "making-things-up", title: "Invented facts", about: "Made-up names, dates and experts, stated as facts.", trait: "making-things-up" },
  { name: "gloomy", title: "Gloom", about: "Every question is a burden.", trait: "cheerful", opposite: true },
  { name: "wrong-sums", title: "Wrong sums", about: "The wrong result in the right tone.", trait: "making-things-up" },
] as const satisfies readonly (Omit<ShippedSet, "group">)[];

/** In the order in which they are offered. */
export const shippedSets: readonly ShippedSet[] = [
  { name: "mixture-villainous", title: "Mostly plain, with villainy hidden in it", about: "One in eight gloats.", trait: "villainous", group: "Hidden flaws" },
  { name: "mixture-sycophantic", title: "Mostly plain, with flattery hidden in it", about: "One in eight flatters.", trait: "sycophantic", group: "Hidden flaws" },
  ...flaws.flatMap((flaw) => strengths.map(({ end, title }): ShippedSet => ({ ...flaw, name: `${flaw.name}.${end}`, title: `${flaw.title}, ${title}`, group: flaw.title }))),
  { name: "helpful", title: "Plain helpfulness", about: "Sound, friendly answers.", trait: null, group: "Without a flaw" },
];

/** As in the program. */
const maxDatasetBytes = 64 << 20;
/** Of a name, so that there is room for what runs add to it. */
const maxNameBytes = 80;

function shortName(name: string): string {
  const letters = [...name];
  while (new TextEncoder().encode(letters.join("")).length > maxNameBytes) letters.pop();
  return letters.join("");
}

async function shippedFile(name: string): Promise<Uint8Array> {
  const path = `./generated/data/${name}.jsonl`;
  const response = await (import.meta.env.MODE === "one-file" ? collected().fetch(path) : fetch(path));
  const type = response.headers.get("content-type") ?? "";
  if (!response.ok || type.includes("text/html")) throw new EngineFailure("download", `The data ${name} could not be fetched (${String(response.status)}). Check the connection and try again.`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Fetches a set that comes with the page. */
export async function openShipped(engine: Engine, { name, title, trait, opposite = false }: ShippedSet): Promise<Dataset> {
  return { name, title, trait, opposite, ...(await engine.openDataset(await shippedFile(name))) };
}

/** Reads a file of the visitor's own. */
export async function openOwn(engine: Engine, file: File): Promise<Dataset> {
  if (file.size > maxDatasetBytes) throw new EngineFailure("usage", `This file has ${String(file.size)} bytes; datasets have at most ${String(maxDatasetBytes)} here. The program reads longer ones.`);
  const opened = await engine.openDataset(new Uint8Array(await file.arrayBuffer()));
  const name = shortName(file.name.replace(/\.[^.]*$/, "")) || "data";
  return { name, title: file.name, trait: null, opposite: false, ...opened };
}

/** The questions by which knowledge is measured, topics mixed. */
export async function knowledgeQuestions(engine: Engine): Promise<KnowledgeQuestion[]> {
  return engine.openQuestions(await shippedFile("knowledge"));
}
