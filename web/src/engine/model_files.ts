/** A catalogue model's files, from the network or from the browser's storage. */
import { WEIGHTS, type ModelEntry } from "./catalogue.ts";
import { obtain, type DownloadOptions } from "./download.ts";
import { Meter } from "./meter.ts";
import { OpfsStore } from "./opfs.ts";
import type { LoadProgress } from "./protocol.ts";
import { MemoryStore, type FileStore } from "./store.ts";

export interface ModelFiles {
  /** By name: `config.json`, `model.safetensors`, … */
  files: Map<string, Blob>;
  /** Of the weight file. */
  sha256: string;
  notices: string[];
}

export const NOT_KEPT =
  "This browser has no room (or no permission) to keep the model, so it was loaded into memory only and will have to be downloaded again next time.";

/** The browser's own storage where there is one. */
export async function openStore(): Promise<FileStore> {
  try {
    return await OpfsStore.mount();
  } catch {
    return new MemoryStore();
  }
}

/** Lets one tab at a time write a file; another one waits, and then finds it. */
async function exclusively<T>(sha256: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  // Insecure pages have no locks; they have no shared storage either.
  const { locks } = navigator as Partial<Pick<Navigator, "locks">>;
  if (!locks) return work();
  return (await locks.request(`trimtab-file-${sha256}`, { signal }, work)) as T;
}

export type Tools = Pick<DownloadOptions, "store" | "fetch" | "hasher" | "retryAfter">;

/** Brings a catalogue model's files from `models` (an address that ends in `/`) or from the store. */
export async function obtainModel(
  entry: ModelEntry,
  models: string,
  tools: Tools,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
): Promise<ModelFiles> {
  const total = entry.files.reduce((sum, file) => sum + file.bytes, 0);
  const meter = new Meter("download", total, onProgress);
  const files = new Map<string, Blob>();
  const fromCache = await isCached(entry, tools.store);
  let [before, received, kept] = [0, 0, true];
  for (const file of entry.files) {
    let at = 0;
    const downloaded = await exclusively(file.sha256, signal, () =>
      obtain(`${models}${entry.id}/${file.name}`, file, {
        ...tools,
        signal,
        onBytes: (bytes, fromNetwork) => {
          if (fromNetwork) received += Math.max(0, bytes - at);
          at = bytes;
          meter.update(before + bytes, received, fromCache);
        },
      }),
    );
    before += file.bytes;
    kept &&= downloaded.kept;
    files.set(file.name, downloaded.blob);
  }
  const weights = entry.files.find((file) => file.name === WEIGHTS);
  return { files, sha256: weights?.sha256 ?? "", notices: kept ? [] : [NOT_KEPT] };
}

export async function isCached(entry: ModelEntry, store: FileStore): Promise<boolean> {
  for (const file of entry.files) {
    if (!(await store.find(file.sha256, file.bytes))) return false;
  }
  return true;
}

export async function removeModel(entry: ModelEntry, store: FileStore): Promise<void> {
  for (const file of entry.files) await store.remove(file.sha256);
}
