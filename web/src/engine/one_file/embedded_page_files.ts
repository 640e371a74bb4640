/** The files of the one-file page, as its worker gets them, and a model that needs no download. */
import { readCatalogue } from "../catalogue.ts";
import type { Hasher } from "../download.ts";
import type { PageFiles } from "../page_files.ts";
import { MemoryStore, PIECE, type FileStore } from "../store.ts";
import { StoreChain } from "../store_chain.ts";
import type { Alarm } from "../rpc.ts";
import { CUT_SHORT, EmbeddedFiles, type Arrival } from "./embedded_files.ts";

const MODELS = "/models/";

/** Model files that lie in the page, checked by hash when they are first asked for; other files are kept in memory. */
export class EmbeddedStore extends MemoryStore implements FileStore {
  override readonly durable = true;
  readonly #checked = new Map<string, Promise<Blob | undefined>>();

  constructor(
    private readonly files: EmbeddedFiles,
    /** Paths of model files by SHA-256. */
    private readonly paths: ReadonlyMap<string, string>,
    private readonly hasher: () => Promise<Hasher>,
  ) {
    super();
  }

  override find(sha256: string, bytes: number): Promise<Blob | undefined> {
    const path = this.paths.get(sha256);
    if (path === undefined) return super.find(sha256, bytes);
    const checking = this.#checked.get(sha256) ?? this.#check(path, sha256);
    this.#checked.set(sha256, checking);
    return checking.then((blob) => (blob?.size === bytes ? blob : undefined));
  }

  async #check(path: string, sha256: string): Promise<Blob | undefined> {
    const blob = await this.files.find(path);
    if (!blob) return undefined;
    const hasher = await this.hasher();
    for (let at = 0; at < blob.size; at += PIECE) {
      hasher.update(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
    }
    return hasher.finish() === sha256 ? blob : undefined;
  }
}

export function embeddedPageFiles(): PageFiles {
  const files = new EmbeddedFiles();
  // This listener comes before the worker's own one, which only knows calls.
  self.addEventListener("message", (event: MessageEvent<Partial<Arrival>>) => {
    if (event.data.embedded === undefined) return;
    event.stopImmediatePropagation();
    files.take(event.data as Arrival);
    // Told at once: what is missing may be the weights alone, which nobody waits for yet.
    if (event.data.embedded === "cut-short") (self as unknown as { postMessage(alarm: Alarm): void }).postMessage({ alarm: { kind: "download", message: CUT_SHORT }, fatal: false });
  });
  return {
    models: MODELS,
    fetch: files.fetch,
    forget: () => Promise.resolve(),
    openStores: async (hasher) => {
      const paths = new Map<string, string>();
      for (const { id, files: entries } of await readCatalogue(files.fetch, MODELS)) {
        for (const { name, sha256 } of entries) paths.set(sha256, `models/${id}/${name}`);
      }
      return new StoreChain([new EmbeddedStore(files, paths, hasher)]);
    },
  };
}
