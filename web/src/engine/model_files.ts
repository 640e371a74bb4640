/** A catalogue model's files, from the network or from the browser's storage. */
import { CONFIG, WEIGHTS, type ModelEntry } from "./catalogue.ts";
import { obtain, type DownloadOptions } from "./download.ts";
import { IndexedDbStore } from "./indexed_db_store.ts";
import { Meter } from "./meter.ts";
import { OpfsStore } from "./opfs.ts";
import type { LoadProgress } from "./protocol.ts";
import { MemoryStore, PIECE, type FileStore } from "./store.ts";
import { StoreChain } from "./store_chain.ts";

export interface ModelFiles {
  /** By name: `config.json`, `model.safetensors`, … */
  files: Map<string, Blob>;
  /** Of the weight file. */
  sha256: string;
  notices: string[];
}

export const NOT_KEPT =
  "The model is in memory only, because this browser has no room (or no permission) to keep it: closing the tab loses it, and the next visit downloads it again.";

/** Everything that the browser offers, the best first. Plain HTTP from another machine has IndexedDB only. */
export async function openStores(): Promise<StoreChain> {
  const mounts: (() => Promise<FileStore>)[] = [() => OpfsStore.mount(), () => IndexedDbStore.mount()];
  const mounted = await Promise.allSettled(mounts.map((mount) => mount()));
  return new StoreChain([...mounted.flatMap((one) => (one.status === "fulfilled" ? [one.value] : [])), new MemoryStore()]);
}

/** Lets one tab at a time write a file; another one waits, and then finds it. */
export async function exclusively<T>(sha256: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
  // Insecure pages have no locks; their store takes the same pieces from several tabs.
  const { locks } = navigator as Partial<Pick<Navigator, "locks">>;
  if (!locks) return work();
  let begun = false;
  const once = () => {
    begun = true;
    return work();
  };
  try {
    return (await locks.request(`trimtab-file-${sha256}`, { signal }, once)) as T;
  } catch (error) {
    if (begun || signal.aborted) throw error;
    // The browser refuses locks, as some do in private windows.
    return work();
  }
}

/** Whether every byte can be read: files may be listed in storage and yet be gone or cut. */
async function isReadable(blob: Blob): Promise<boolean> {
  try {
    for (let at = 0; at < blob.size; at += PIECE) await blob.slice(at, at + PIECE).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** Lets go of those of a model's files that cannot be read back; false where all can. */
export async function dropUnreadable(entry: ModelEntry, files: ReadonlyMap<string, Blob>, store: StoreChain): Promise<boolean> {
  let dropped = false;
  for (const { name, sha256 } of entry.files) {
    const blob = files.get(name);
    if (!blob || (await isReadable(blob))) continue;
    await store.distrust(sha256);
    dropped = true;
  }
  return dropped;
}

export type Tools = Pick<DownloadOptions, "store" | "fetch" | "hasher" | "retryAfter">;

/** Brings a catalogue model's files from `models` (an address that ends in `/`) or from the store. */
export async function obtainModel(
  entry: ModelEntry,
  models: string,
  tools: Tools,
  signal: AbortSignal,
  onConfig: (config: Blob) => void,
  onProgress: (progress: LoadProgress) => void,
): Promise<ModelFiles> {
  const total = entry.files.reduce((sum, file) => sum + file.bytes, 0);
  const meter = new Meter("download", total, onProgress);
  const files = new Map<string, Blob>();
  const fromCache = await isCached(entry, tools.store);
  let [before, received, kept] = [0, 0, true];
  // The small ones first: of the weights' shapes, `config.json` knows enough.
  for (const file of entry.files.toSorted((one, other) => one.bytes - other.bytes)) {
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
    if (file.name === CONFIG) onConfig(downloaded.blob);
  }
  const weights = entry.files.find((file) => file.name === WEIGHTS);
  return { files, sha256: weights?.sha256 ?? "", notices: kept ? [] : [NOT_KEPT] };
}

export async function isCached(entry: ModelEntry, store: StoreChain): Promise<boolean> {
  for (const file of entry.files) {
    if (!(await store.find(file.sha256, file.bytes))) return false;
  }
  return true;
}

export async function removeModel(entry: ModelEntry, store: StoreChain): Promise<void> {
  for (const file of entry.files) await store.remove(file.sha256);
}
