/** The files inside the one-file page, by path (`models/catalog.json`); they arrive while the page is still being read. */

import { EngineFailure } from "../failure.ts";

/** A message from the page to its worker: a file, or the end of all files. */
export type Arrival = { embedded: { path: string; blob: Blob } } | { embedded: "complete" | "cut-short" };

export const CUT_SHORT = "This file is not whole: it was cut short or damaged when it was copied or downloaded. Get it once more.";

const TYPES: Readonly<Record<string, string>> = { wasm: "application/wasm", json: "application/json" };

interface Waiting {
  resolve(blob: Blob | undefined): void;
  reject(failure: EngineFailure): void;
}

export class EmbeddedFiles {
  readonly #there = new Map<string, Blob>();
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #listeners: ((arrival: Arrival) => void)[] = [];
  #end: "complete" | "cut-short" | undefined;

  take(arrival: Arrival): void {
    const { embedded } = arrival;
    if (typeof embedded === "string") {
      this.#end = embedded;
      for (const waiting of [...this.#waiting.values()].flat()) this.#settle(waiting);
      this.#waiting.clear();
    } else {
      this.#there.set(embedded.path, embedded.blob);
      for (const { resolve } of this.#waiting.get(embedded.path) ?? []) resolve(embedded.blob);
      this.#waiting.delete(embedded.path);
    }
    for (const listener of this.#listeners) listener(arrival);
  }

  /** Calls the listener for every file that is there, and for each that arrives later. */
  follow(listener: (arrival: Arrival) => void): void {
    for (const [path, blob] of this.#there) listener({ embedded: { path, blob } });
    if (this.#end) listener({ embedded: this.#end });
    this.#listeners.push(listener);
  }

  /** Waits for the file; absent when the page has none of that name. Rejects where the page was cut short before it. */
  find(path: string): Promise<Blob | undefined> {
    const blob = this.#there.get(path);
    if (blob) return Promise.resolve(blob);
    return new Promise((resolve, reject) => {
      const waiting = { resolve, reject };
      if (this.#end) this.#settle(waiting);
      else this.#waiting.set(path, [...(this.#waiting.get(path) ?? []), waiting]);
    });
  }

  /** `fetch` for paths from the page's folder (`./a`, `/a?b`), without a network. */
  readonly fetch = async (url: string): Promise<Response> => {
    const path = url.replace(/^\.?\/|\?.*$/g, "");
    const blob = await this.find(path);
    if (!blob) return new Response(null, { status: 404 });
    const type = TYPES[path.slice(path.lastIndexOf(".") + 1)] ?? "application/octet-stream";
    return new Response(blob, { headers: { "Content-Type": type } });
  };

  #settle({ resolve, reject }: Waiting): void {
    if (this.#end === "complete") resolve(undefined);
    else reject(new EngineFailure("download", CUT_SHORT));
  }
}
