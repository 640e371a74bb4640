/** A model in another form than ours, a GGUF file or a Hugging Face folder: described, converted, and kept in the browser. */
import { CONFIG, WEIGHTS } from "./catalogue.ts";
import type { Hasher } from "./download.ts";
import { EngineFailure } from "./failure.ts";
import { folderPath } from "./folder_paths.ts";
import { Meter } from "./meter.ts";
import { exclusively, NOT_KEPT, type ModelFiles, type Tools } from "./model_files.ts";
import { findOwnModel, keepOwnModel, type OwnModel } from "./own_models.ts";
import type { LoadProgress, ModelDescription, Quantisation, RoomWanted } from "./protocol.ts";
import { PIECE } from "./store.ts";
import { BytesLost, type ArrivingFile, type StoredFile } from "./store_chain.ts";

/** Part of every model's id: another version of the conversion may give other bytes. */
const VERSION = "trimtab conversion 1";

/** The program's half: what the files are, and the weights in our form. */
export interface PreparedModel {
  description(): Omit<ModelDescription, "source" | "room">;
  room(asked: RoomWanted): ModelDescription["room"];
  files(): Map<string, Uint8Array<ArrayBuffer>>;
  weightBytes(): number;
  writeWeights(from: number, write: (bytes: Uint8Array<ArrayBuffer>) => Promise<void>): Promise<void>;
  free(): void;
}

export type Prepare = (files: Map<string, Blob>, asked: { folder: string; gguf?: string; quantisation?: Quantisation }) => Promise<PreparedModel>;

/** What a visitor opened, taken apart. */
export interface Chosen {
  /** By name. */
  files: Map<string, File>;
  folder: string;
  gguf?: string;
}

/** Picks the model out of what was chosen: a GGUF file where there is one, else a folder. */
export function choose(opened: readonly File[]): Chosen {
  const ggufs = opened.filter(({ name }) => name.toLowerCase().endsWith(".gguf"));
  const [gguf, another] = ggufs;
  if (another !== undefined) {
    throw new EngineFailure("usage", `There are ${String(ggufs.length)} GGUF files in what you opened (${ggufs.slice(0, 3).map(({ name }) => name).join(", ")} …). Open the one that you want.`);
  }
  // Deeper folders hold other forms of the same model.
  const own = opened.filter((file) => folderPath(file).length <= 2);
  const files = new Map(own.map((file) => [file.name, file]));
  const folder = own.map(folderPath).find((path) => path.length === 2)?.[0];
  if (gguf !== undefined) files.set(gguf.name, gguf);
  return { files, folder: folder ?? "your own model", ...(gguf !== undefined && { gguf: gguf.name }) };
}

/** Whether the files can be loaded as they are: one weight file, whatever its numbers' form. */
export function isReady({ files, gguf }: Chosen): boolean {
  return gguf === undefined && [CONFIG, "tokenizer.json", WEIGHTS].every((name) => files.has(name));
}

const askFor = ({ folder, gguf }: Chosen, quantisation: Quantisation | undefined) => ({
  folder,
  ...(gguf !== undefined && { gguf }),
  ...(quantisation !== undefined && { quantisation }),
});

/** What a model is and needs; of the weights, the headers alone are read. */
export async function describe(chosen: Chosen, prepare: Prepare, asked: RoomWanted): Promise<ModelDescription> {
  const prepared = await prepare(chosen.files, askFor(chosen, undefined));
  try {
    return { ...prepared.description(), source: chosen.gguf ?? chosen.folder, room: prepared.room(asked) };
  } finally {
    prepared.free();
  }
}

/** Hash of everything that the model is made of, and of how. */
async function identify(chosen: Chosen, quantisation: Quantisation | undefined, tools: Tools, signal: AbortSignal, onProgress: (progress: LoadProgress) => void): Promise<string> {
  const named = (name: string) => name === chosen.gguf || name === "tokenizer.json" || (chosen.gguf === undefined && /\.(safetensors|json|jinja)$/i.test(name));
  const files = [...chosen.files.values()].filter(({ name }) => named(name)).toSorted((one, other) => (one.name < other.name ? -1 : 1));
  const meter = new Meter("check", files.reduce((sum, { size }) => sum + size, 0), onProgress);
  const hasher = tools.hasher();
  const text = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  hasher.update(text([VERSION, quantisation ?? null]));
  let done = 0;
  for (const file of files) {
    hasher.update(text([file.name, file.size]));
    for (let at = 0; at < file.size; at += PIECE) {
      signal.throwIfAborted();
      const bytes = new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer());
      hasher.update(bytes);
      done += bytes.length;
      meter.update(done, done, true);
    }
  }
  return hasher.finish();
}

/** Writes the weights after what an earlier try left, which is hashed first. */
class Writing {
  readonly #hasher: Hasher;
  #done = 0;
  /** Why a piece was not taken; the program turns it into a sentence. */
  #refused: unknown;

  constructor(
    private readonly prepared: PreparedModel,
    private readonly file: ArrivingFile,
    tools: Tools,
    private readonly signal: AbortSignal,
    private readonly meter: Meter,
  ) {
    this.#hasher = tools.hasher();
  }

  async run(): Promise<StoredFile & { sha256: string }> {
    const total = this.prepared.weightBytes();
    if (this.file.length > total) await this.file.clear();
    while (this.#done < this.file.length) {
      this.#take(await this.file.read(this.#done, Math.min(PIECE, this.file.length - this.#done)), false);
    }
    try {
      await this.prepared.writeWeights(this.#done, (bytes) => this.#append(bytes));
    } catch (error) {
      throw this.#refused ?? error;
    }
    const sha256 = this.#hasher.finish();
    return { ...(await this.file.seal()), sha256 };
  }

  async #append(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.file.append(bytes);
      this.#take(bytes, true);
    } catch (error) {
      this.#refused = error;
      throw error;
    }
  }

  #take(bytes: Uint8Array<ArrayBuffer>, isNew: boolean): void {
    this.signal.throwIfAborted();
    this.#hasher.update(bytes);
    this.#done += bytes.length;
    this.meter.update(this.#done, isNew ? this.#done : 0, !isNew);
  }
}

async function write(id: string, prepared: PreparedModel, tools: Tools, signal: AbortSignal, onProgress: (progress: LoadProgress) => void): Promise<StoredFile & { sha256: string }> {
  for (;;) {
    const file = await tools.store.open(id);
    try {
      return await new Writing(prepared, file, tools, signal, new Meter("convert", prepared.weightBytes(), onProgress)).run();
    } catch (error) {
      signal.throwIfAborted();
      // Storage lost what it had: from the beginning, into the store that is open then.
      if (!(error instanceof BytesLost)) throw error;
    } finally {
      await file.close();
    }
  }
}

function hashOf(bytes: Uint8Array<ArrayBuffer>, tools: Tools): string {
  const hasher = tools.hasher();
  hasher.update(bytes);
  return hasher.finish();
}

/** A converted model's files, where its weights are still kept. */
export async function ownModelFiles(model: OwnModel, tools: Pick<Tools, "store">): Promise<(ModelFiles & { name: string; licence: string }) | undefined> {
  const weights = await tools.store.find(model.id, model.weights.bytes);
  if (!weights) return undefined;
  const files = new Map<string, Blob>(model.files.map(({ name, bytes }) => [name, new Blob([bytes])]));
  files.set(WEIGHTS, weights.blob);
  return { files, sha256: model.weights.sha256, notices: weights.durable ? [] : [NOT_KEPT], name: model.name, licence: model.licence };
}

/** Converts what was chosen, unless that was done before, and gives its files as they are kept. */
export async function convert(
  chosen: Chosen,
  quantisation: Quantisation | undefined,
  tools: Tools,
  prepare: Prepare,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<ModelFiles & { name: string; licence: string }> {
  const prepared = await prepare(chosen.files, askFor(chosen, quantisation));
  try {
    const id = await identify(chosen, quantisation, tools, signal, onProgress);
    const known = await findOwnModel(id);
    const found = known && (await ownModelFiles(known, tools));
    if (found) return found;
    const written = await exclusively(id, signal, () => write(id, prepared, tools, signal, onProgress));
    const { name, licence, notes } = prepared.description();
    const files = [...prepared.files()].map(([file, bytes]) => ({ name: file, bytes, sha256: hashOf(bytes, tools) }));
    const model: OwnModel = {
      id,
      name,
      licence: licence ?? "unknown",
      source: chosen.gguf ?? chosen.folder,
      notes,
      weights: { bytes: prepared.weightBytes(), sha256: written.sha256 },
      files,
    };
    await keepOwnModel(model);
    const kept = await ownModelFiles(model, tools);
    if (!kept) throw new EngineFailure("quota", "The converted model is gone from the browser's storage already. Make room on this machine, and open it again.");
    return { ...kept, notices: [...kept.notices, ...notes] };
  } finally {
    prepared.free();
  }
}
