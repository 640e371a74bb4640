/** The models that this page offers: `models/catalog.json`, beside the page. */
import type { FileEntry, FilePart } from "./download.ts";
import { EngineFailure } from "./failure.ts";

export interface ModelEntry {
  id: string;
  name: string;
  licence: string;
  /** Where the weights were published, for people. */
  source: string;
  /** Files under `models/ID/`. */
  files: FileEntry[];
  /** Ready-made vectors under `models/vectors/`; a trait has the name of its file. */
  vectors: FileEntry[];
  /** Reports about these traits, in the same folder, under `NAME.report.json`. */
  reports: FileEntry[];
  /** Replaced vectors, in the same folder, named by their tensor's hash, as links name them. */
  replaced: FileEntry[];
  /** The model's neutral answers, in the same folder; at most one file. */
  neutral: FileEntry[];
}

export const CONFIG = "config.json";
export const WEIGHTS = "model.safetensors";
/** Names that {@link ModelEntry.files} may have; nothing else is fetched. */
export const MODEL_FILES: ReadonlySet<string> = new Set([
  CONFIG,
  "tokenizer.json",
  "tokenizer_config.json",
  "chat_template.jinja",
  WEIGHTS,
]);

const MAX_JSON = 1 << 20;
const MAX_MODELS = 64;
const MAX_FILES = 64;
const MAX_PARTS = 4096;
const PLAIN_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const SHA256 = /^[0-9a-f]{64}$/;

type Fetch = (url: string, init?: RequestInit) => Promise<Response>;

function unusable(url: string, reason: string): EngineFailure {
  return new EngineFailure("download", `${url} is not usable (${reason}). The page was not built or copied completely; its publisher has to do that again.`);
}

/** A small JSON file beside the page, its size bounded. */
export async function fetchJson(fetch: Fetch, url: string): Promise<unknown> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    if (error instanceof EngineFailure) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new EngineFailure("download", `${url} could not be fetched (${reason}). Check the connection and try again.`);
  }
  if (!response.ok) throw unusable(url, `the server answered ${String(response.status)}`);
  const text = await response.text();
  if (text.length > MAX_JSON) throw unusable(url, "it is longer than 1 MiB");
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw unusable(url, "it is no JSON");
  }
}

type Fields = Partial<Record<string, unknown>>;

function fieldsOf(value: unknown): Fields {
  return typeof value === "object" && value !== null ? (value as Fields) : {};
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value.length > 0 && value.length <= 4096 ? value : undefined;
}

function filePart(url: string, part: unknown): FilePart {
  const { path, bytes } = fieldsOf(part);
  if (typeof path !== "string" || !PLAIN_NAME.test(path)) throw unusable(url, "a part of a file has no plain name");
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes <= 0) throw unusable(url, `${path} has no length`);
  return { name: path, bytes };
}

/** The parts of a file of `bytes` bytes, checked; undefined where the file lies there whole. */
function fileParts(url: string, path: string, bytes: number, parts: unknown): FilePart[] | undefined {
  if (parts === undefined) return undefined;
  if (!Array.isArray(parts) || parts.length > MAX_PARTS) throw unusable(url, `${path} has no list of parts, or too many`);
  const checked = parts.map((part) => filePart(url, part));
  if (checked.reduce((sum, part) => sum + part.bytes, 0) !== bytes) throw unusable(url, `the parts of ${path} are not ${String(bytes)} bytes together`);
  return checked;
}

function fileEntry(url: string, file: unknown): FileEntry {
  const { path, bytes, sha256, parts: list } = fieldsOf(file);
  if (typeof path !== "string" || !PLAIN_NAME.test(path)) throw unusable(url, "a file has no plain name");
  if (typeof bytes !== "number" || !Number.isSafeInteger(bytes) || bytes < 0) throw unusable(url, `${path} has no length`);
  if (typeof sha256 !== "string" || !SHA256.test(sha256)) throw unusable(url, `${path} has no SHA-256`);
  const parts = fileParts(url, path, bytes, list);
  return { name: path, bytes, sha256, ...(parts && { parts }) };
}

/** The files of a model that a manifest or the catalogue names, checked. */
export function modelFiles(url: string, files: unknown): FileEntry[] {
  if (!Array.isArray(files) || files.length > MAX_FILES) throw unusable(url, "it lists no files, or too many");
  const entries = files.map((file) => fileEntry(url, file)).filter((entry) => MODEL_FILES.has(entry.name));
  if (!entries.some((entry) => entry.name === WEIGHTS)) throw unusable(url, `it does not list ${WEIGHTS}`);
  return entries;
}

/** Reads the catalogue under `models` (an address that ends in `/`). */
export async function readCatalogue(fetch: Fetch, models: string): Promise<ModelEntry[]> {
  const url = `${models}catalog.json`;
  const { format, models: list } = fieldsOf(await fetchJson(fetch, url));
  if (format !== 1) throw unusable(url, `its format is ${String(format)}, and this page reads 1`);
  if (!Array.isArray(list) || list.length > MAX_MODELS) throw unusable(url, "it lists no models, or too many");
  return list.map((item): ModelEntry => {
    const { id, name, licence, source, files, vectors, reports, replaced, neutral } = fieldsOf(item);
    if (typeof id !== "string" || !PLAIN_NAME.test(id)) throw unusable(url, "a model has no plain id");
    const entries = (listed: unknown) => (Array.isArray(listed) ? listed.slice(0, MAX_FILES) : []).map((entry) => fileEntry(url, entry));
    return {
      id,
      name: text(name) ?? id,
      licence: text(licence) ?? "unknown",
      source: text(source) ?? "unknown",
      files: modelFiles(url, files),
      vectors: entries(vectors),
      reports: entries(reports),
      replaced: entries(replaced),
      neutral: entries(neutral).slice(0, 1),
    };
  });
}
