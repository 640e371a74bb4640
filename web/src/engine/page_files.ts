/** Where the page's own files come from: beside it on a server, or out of the page itself (`one_file`). */
import { KeptFiles } from "./kept_files.ts";
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
  /** Where model files are, or will be kept. */
  openStores(hasher: () => Promise<Hasher>): Promise<StoreChain>;
}

/** For the worker. */
export function pageFiles(): PageFiles {
  if (import.meta.env.MODE === "one-file") return embeddedPageFiles();
  const kept = new KeptFiles((url, init) => fetch(url, init), globalThis.caches);
  return {
    // A built worker lies in a folder of its own.
    models: new URL(import.meta.env.DEV ? "/models/" : "../models/", self.location.href).href,
    fetch: kept.fetch,
    forget: (url) => kept.forget(url),
    openStores,
  };
}
