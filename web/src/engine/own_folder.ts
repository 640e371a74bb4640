/** A model in a folder of the visitor's own. */
import { MODEL_FILES, WEIGHTS, modelFiles } from "./catalogue.ts";
import type { FileEntry } from "./download.ts";
import { EngineFailure } from "./failure.ts";
import { folderPath } from "./folder_paths.ts";
import { Meter } from "./meter.ts";
import type { ModelFiles, Tools } from "./model_files.ts";
import type { LoadProgress } from "./protocol.ts";
import { PIECE } from "./store.ts";

const MAX_MANIFEST = 1 << 20;

async function hash(blob: Blob, tools: Pick<Tools, "hasher">, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<string> {
  const hasher = tools.hasher();
  for (let at = 0; at < blob.size; at += PIECE) {
    signal.throwIfAborted();
    hasher.update(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
    onBytes(Math.min(at + PIECE, blob.size));
  }
  return hasher.finish();
}

/** What a folder's own `manifest.json` says. */
async function readManifest(file: File): Promise<{ files: FileEntry[]; name: string | undefined; licence: string | undefined }> {
  let manifest: unknown;
  try {
    manifest = file.size > MAX_MANIFEST ? undefined : JSON.parse(await file.text());
  } catch {
    // Reported below, with the other ways of being no manifest.
  }
  if (typeof manifest !== "object" || manifest === null) {
    throw new EngineFailure("corrupt-model", "The folder's manifest.json is not usable. Remove it, or convert the model again.");
  }
  const { files, name, licence } = manifest as Partial<Record<string, unknown>>;
  const text = (value: unknown) => (typeof value === "string" && value.length <= 4096 ? value : undefined);
  return { files: modelFiles("manifest.json", files), name: text(name), licence: text(licence) };
}

/** Picks a model out of the files that the visitor chose, and checks them where a manifest says what they are. */
export async function ownModel(
  chosen: readonly File[],
  tools: Pick<Tools, "hasher">,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<ModelFiles & { name: string; licence: string }> {
  const files = new Map<string, Blob>();
  let manifest: File | undefined;
  let name: string | undefined;
  for (const file of chosen) {
    const path = folderPath(file);
    if (file.name === "manifest.json") manifest = file;
    if (!MODEL_FILES.has(file.name)) continue;
    files.set(file.name, file);
    if (path.length === 2) name = path[0];
  }
  const missing = ["config.json", "tokenizer.json", WEIGHTS].filter((file) => !files.has(file));
  if (missing.length > 0) {
    throw new EngineFailure(
      "usage",
      `What you opened has no ${missing.join(" and no ")}. Choose the folder of a model (config.json, tokenizer.json and one model.safetensors), as Hugging Face publishes it or "trimtab convert" writes it.`,
    );
  }
  const described = manifest ? await readManifest(manifest) : undefined;
  const promised = described?.files ?? [];
  const weights = files.get(WEIGHTS);
  const meter = new Meter("download", weights?.size ?? 0, onProgress);
  let sha256 = "";
  for (const [file, blob] of files) {
    const entry = promised.find((one) => one.name === file);
    if (!entry && file !== WEIGHTS) continue;
    const found = await hash(blob, tools, signal, (bytes) => {
      if (file === WEIGHTS) meter.update(bytes, bytes, true);
    });
    if (entry && entry.sha256 !== found) {
      throw new EngineFailure(
        "corrupt-model",
        `${file} is not the file that the folder's manifest.json describes (SHA-256 ${found}, not ${entry.sha256}). It is damaged or was replaced: copy it again, or remove the manifest if you changed it on purpose.`,
      );
    }
    if (file === WEIGHTS) sha256 = found;
  }
  return {
    files,
    sha256,
    notices: [],
    name: described?.name ?? name ?? "your own model",
    licence: described?.licence ?? "unknown",
  };
}
