/**
 * Small files beside the page, kept for visits without a network: the catalogue, the ready-made traits, and the one of the
 * WebAssembly modules that this browser runs. The service worker keeps the page's own files by a list that is fixed when the
 * page is built; these are other ones on every server, or in every browser.
 */

type Fetch = (url: string, init?: RequestInit) => Promise<Response>;
type Way = "named by content" | "newest" | "not kept";

const NAME = "trimtab-files";

/** A name or an address with a hash stands for the same bytes for ever; the catalogue changes with its server. */
function wayOf({ pathname, searchParams }: URL): Way {
  if (pathname.endsWith(".wasm") || searchParams.has("sha256")) return "named by content";
  return pathname.endsWith("/catalog.json") ? "newest" : "not kept";
}

/** True if `other` is an older version of the file `one`, which nobody will ask for again. */
function takesThePlaceOf(one: URL, other: URL): boolean {
  if (one.href === other.href) return false;
  return one.pathname === other.pathname || (one.pathname.endsWith(".wasm") && other.pathname.endsWith(".wasm"));
}

export class OfflineFiles {
  /** `storage` is missing on plain HTTP: then nothing is kept. */
  constructor(
    private readonly network: Fetch,
    private readonly storage: CacheStorage | undefined,
  ) {}

  readonly fetch: Fetch = async (url, init) => {
    const way = wayOf(new URL(url, location.href));
    if (way === "not kept") return this.network(url, init);
    // A browser that knows of no network is not asked for a request that it reports as an error.
    const offline = (navigator as Partial<Navigator>).onLine === false ? await this.find(url) : undefined;
    if (offline !== undefined) return offline;
    if (way === "named by content") return (await this.find(url)) ?? this.fetchAndKeep(url, init);
    try {
      const answer = await this.fetchAndKeep(url, init);
      // A server that is down may still have something before it that answers.
      return answer.status >= 500 ? ((await this.find(url)) ?? answer) : answer;
    } catch (error) {
      init?.signal?.throwIfAborted();
      const kept = await this.find(url);
      if (kept === undefined) throw error;
      return kept;
    }
  };

  /** Drops a file that is not what its address promised. */
  async forget(url: string): Promise<void> {
    await this.open().then((cache) => cache?.delete(url)).catch(() => undefined);
  }

  private async open(): Promise<Cache | undefined> {
    return this.storage?.open(NAME);
  }

  private async find(url: string): Promise<Response | undefined> {
    return this.open().then((cache) => cache?.match(url)).catch(() => undefined);
  }

  private async fetchAndKeep(url: string, init?: RequestInit): Promise<Response> {
    const answer = await this.network(url, init);
    // Storage that is full or forbidden costs later visits without a network, not this one.
    if (answer.ok) await this.keep(url, answer.clone()).catch(() => undefined);
    return answer;
  }

  private async keep(url: string, answer: Response): Promise<void> {
    const cache = await this.open();
    if (cache === undefined) return;
    await cache.put(url, answer);
    const here = new URL(url, location.href);
    for (const { url: other } of await cache.keys()) {
      if (takesThePlaceOf(here, new URL(other))) await cache.delete(other);
    }
  }
}
