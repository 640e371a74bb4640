/** A model's files and what the catalogue has beside them: fetched, checked, kept. */
import { largestBuffer } from "./adapter.ts";
import { CONFIG, readCatalogue, type ModelEntry } from "./catalogue.ts";
import type { FileEntry } from "./download.ts";
import { choose, convert, describe, isReady, ownModelFiles, type Prepare } from "./conversion.ts";
import { EngineFailure } from "./failure.ts";
import { fetchFiles, lookUp } from "./hub.ts";
import { obtainModel, type ModelFiles, type Tools } from "./model_files.ts";
import { ownModel } from "./own_folder.ts";
import { findOwnModel } from "./own_models.ts";
import type { HubFile, HubModel, LoadOptions, LoadProgress, ModelDescription, ModelSource, OpenedLink, RoomWanted } from "./protocol.ts";
import { files, start } from "./started.ts";
import type { StoreChain } from "./store_chain.ts";

/** More than any file of a vector, a report or a contrast set has. */
export const MAX_VECTOR_BYTES = 64 << 20;

const program = async () => (await start()).program;

let opened: Promise<StoreChain> | undefined;
let entries: Promise<ModelEntry[]> | undefined;

/** Where model files are kept. */
export function store(): Promise<StoreChain> {
  opened ??= files.openStores(async () => new (await program()).Hasher());
  return opened;
}

export async function readEntries(): Promise<ModelEntry[]> {
  entries ??= readCatalogue(files.fetch, files.models);
  try {
    return await entries;
  } catch (error) {
    entries = undefined;
    throw error;
  }
}

export async function entryOf(id: string): Promise<ModelEntry> {
  const entry = (await readEntries()).find((one) => one.id === id);
  if (!entry) throw new EngineFailure("usage", `There is no model ${JSON.stringify(id)} in this page's catalogue.`);
  return entry;
}

async function tools(): Promise<Tools> {
  const { Hasher } = await program();
  return { store: await store(), fetch: files.fetch, hasher: () => new Hasher() };
}

/** A file of the catalogue's folder of vectors, checked. */
export async function vectorsFile(entry: FileEntry, signal?: AbortSignal): Promise<Uint8Array> {
  const { Hasher } = await program();
  if (entry.bytes > MAX_VECTOR_BYTES) throw new Error("it is larger than any that is read");
  // With its hash in the address, so that what is kept of it is never another version's.
  const url = `${files.models}vectors/${entry.name}?sha256=${entry.sha256}`;
  const response = await files.fetch(url, signal && { signal });
  if (!response.ok) throw new Error(`the server answered ${String(response.status)}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  const hasher = new Hasher();
  hasher.update(bytes);
  if (hasher.finish() !== entry.sha256) {
    await files.forget(url);
    throw new Error("its SHA-256 is not the promised one");
  }
  return bytes;
}

/** The catalogue's vector files of a model, checked; one that cannot be had is left out, with a sentence. */
export async function readyVectors(vectors: readonly FileEntry[], signal: AbortSignal, notices: string[]): Promise<{ name: string; bytes: Uint8Array }[]> {
  const fetched = vectors.map(async (entry) => {
    try {
      return { name: entry.name.replace(/\.safetensors$/, ""), bytes: await vectorsFile(entry, signal) };
    } catch (error) {
      signal.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      notices.push(`The ready-made trait ${entry.name} could not be loaded (${reason}), so it is missing here. Reload the page to try again.`);
      return undefined;
    }
  });
  return (await Promise.all(fetched)).filter((vector) => vector !== undefined);
}

export interface Found extends ModelFiles {
  name: string;
  licence: string;
  /** What the catalogue offers beside the model. */
  ready: ReadyMade;
}

export type ReadyMade = Pick<ModelEntry, "vectors" | "reports" | "replaced" | "neutral">;
export const NOTHING: ReadyMade = { vectors: [], reports: [], replaced: [], neutral: [] };

/** What is known about a ready-made trait, as its file has it; null where nothing is. */
export async function reportFile(ready: ReadyMade, name: string): Promise<Uint8Array | null> {
  const entry = ready.reports.find((report) => report.name === `${name}.report.json`);
  if (!entry) return null;
  try {
    return await vectorsFile(entry);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new EngineFailure("download", `The report on ${name} could not be read (${reason}). Reload the page to try again.`);
  }
}

/** The vectors that a link names and that newer ones of their names took the place of. */
export async function olderVectors(ready: ReadyMade, opened: OpenedLink): Promise<Uint8Array[]> {
  if (opened.kind !== "recipe") return [];
  const named = new Set(opened.recipe.traits.map(({ hash }) => `${String(hash)}.safetensors`));
  return Promise.all(
    ready.replaced
      .filter(({ name }) => named.has(name))
      .map((entry) =>
        vectorsFile(entry).catch((error: unknown) => {
          const reason = error instanceof Error ? error.message : String(error);
          throw new EngineFailure("download", `A trait that the link was made with could not be loaded (${reason}). Try again where the page can be reached.`);
        }),
      ),
  );
}

export async function findFiles(source: ModelSource, signal: AbortSignal, onConfig: (config: Blob) => void, onProgress: (progress: LoadProgress) => void): Promise<Found> {
  const own = await tools();
  if (source.kind === "catalogue") {
    const entry = await entryOf(source.id);
    const found = await obtainModel(entry, files.models, own, signal, onConfig, onProgress);
    return { ...found, name: entry.name, licence: entry.licence, ready: entry };
  }
  const found = await ownFiles(source, own, signal, onConfig, onProgress);
  // The same weights deserve the same traits, wherever they lay.
  const twin = await readEntries().then(
    (all) => all.find((entry) => entry.files.some((file) => file.sha256 === found.sha256)),
    () => undefined,
  );
  return { ...found, ready: twin ?? NOTHING };
}

async function ownFiles(
  source: Exclude<ModelSource, { kind: "catalogue" }>,
  own: Tools,
  signal: AbortSignal,
  onConfig: (config: Blob) => void,
  onProgress: (progress: LoadProgress) => void,
): Promise<Omit<Found, "ready">> {
  if (source.kind === "own") {
    const model = await findOwnModel(source.id);
    const found = model && (await ownModelFiles(model, own));
    if (!found) throw new EngineFailure("usage", "This model is no longer in the browser's storage. Open its file again.");
    const config = found.files.get(CONFIG);
    if (config) onConfig(config);
    return found;
  }
  const chosen = choose(source.files);
  if (source.quantisation === undefined && isReady(chosen)) {
    const config = chosen.files.get(CONFIG);
    if (config) onConfig(config);
    return ownModel(source.files, own, signal, onProgress);
  }
  const found = await convert(chosen, source.quantisation, own, await prepare(), signal, onProgress);
  const config = found.files.get(CONFIG);
  if (config) onConfig(config);
  return found;
}

/** The program's conversion. */
async function prepare(): Promise<Prepare> {
  const { PreparedModel } = await program();
  return (files, asked) => PreparedModel.prepare(files, asked) as unknown as ReturnType<Prepare>;
}

/** The hub is no part of the page's own files, of which a page in one file brings all. */
const hubFetch: Tools["fetch"] = (url, init) => fetch(url, init);

export async function lookUpModel(name: string, options: LoadOptions): Promise<HubModel> {
  const own = await program();
  const found = await lookUp(name, own, hubFetch, AbortSignal.timeout(30_000));
  if (!("oneOf" in found.files)) return found;
  const asked = await roomWanted(options);
  const oneOf = found.files.oneOf.map((file) => {
    const tooLarge = own.fileShortage(file.bytes, asked);
    return tooLarge === undefined ? file : { ...file, tooLarge };
  });
  return { ...found, files: { oneOf } };
}

export async function fetchModel(name: string, wanted: readonly HubFile[], signal: AbortSignal, onProgress: (progress: LoadProgress) => void): Promise<File[]> {
  return fetchFiles(name, wanted, await program(), { ...(await tools()), fetch: hubFetch }, signal, onProgress);
}

async function roomWanted({ backend, precision, context }: LoadOptions): Promise<RoomWanted> {
  const buffer = await largestBuffer(backend);
  // Chromium says it in GiB, rounded and at most 8; other browsers do not.
  const { deviceMemory } = navigator as { deviceMemory?: number };
  return {
    precision,
    ...(backend !== "auto" && { backend }),
    ...(context !== undefined && { context }),
    ...(buffer !== null && { largestBuffer: buffer }),
    ...(deviceMemory !== undefined && { memory: deviceMemory * 2 ** 30 }),
  };
}

/** What a visitor's files are; null where they can be loaded as they are and come with a manifest. */
export async function describeFiles(opened: readonly File[], options: LoadOptions): Promise<ModelDescription | null> {
  const chosen = choose(opened);
  if (isReady(chosen) && chosen.files.has("manifest.json")) return null;
  return describe(chosen, await prepare(), await roomWanted(options));
}
