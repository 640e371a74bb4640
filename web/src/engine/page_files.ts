/** Where the page's own files come from: beside it on a server, or out of the page itself (`one_file`). */
import { OfflineFiles } from "./offline_files.ts";
import { embeddedPageFiles } from "./one_file/embedded_page_files.ts";
import type { Hasher } from "./download.ts";
import { openStores } from "./model_files.ts";
import type { StoreChain } from "./store_chain.ts";

export interface PageFiles {
  /** Address of the folder of models, as `fetch` takes it; it ends in `/`. */
  readonly models: string;
  readonly fetch: (url: string, init?: RequestInit) => Promise<Response>;
  /** Drops a file that is not what its address promised, so that it is fetched anew. */
  forget(url: string): Promise<void>;
  /** Opens the store of model files. */
  openStores(hasher: () => Promise<Hasher>): Promise<StoreChain>;
}

/** The page's files, as the worker gets them. */
export function pageFiles(): PageFiles {
  if (import.meta.env.MODE === "one-file") return embeddedPageFiles();
  const kept = new OfflineFiles((url, init) => fetch(url, init), globalThis.caches);
  return {
    // A built worker lies in a folder of its own, so that paths begin one folder up.
    models: new URL(import.meta.env.DEV ? "/models/" : "../models/", self.location.href).href,
    fetch: kept.fetch,
    forget: (url) => kept.forget(url),
    openStores,
  };
}
