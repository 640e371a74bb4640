/**
 * Takes the files of the one-file page out of the document while it is being read, piece by piece, so that
 * their text and their bytes are never there as a whole at the same time.
 *
 * `cargo xtask bundle` wrote each file as `<script type="application/octet-stream" data-file="PATH">` elements of at most
 * a mebibyte of base64, in order; each may be compressed by itself (`data-gzip`), and the last one of a file is marked `data-last`.
 * An element marked `data-end` closes the list; `<meta name="trimtab-bytes">` has the length of all files together. Scripts of that type are never run.
 */
import type { WorkerPort } from "../../engine/client.ts";
import { EmbeddedFiles } from "../../engine/one_file/embedded_files.ts";
import { opening } from "./opening.svelte.ts";

const PIECES = 'script[type="application/octet-stream"]';

function decode(base64: string): Uint8Array<ArrayBuffer> {
  const { fromBase64 } = Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  // Chrome has it from version 140 on, several times as fast.
  if (fromBase64) return fromBase64.call(Uint8Array, base64);
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

/** A piece as a blob, whose bytes are the browser's, not this tab's. Rejects where the text is damaged. */
async function open(base64: string, gzip: boolean): Promise<Blob> {
  const blob = new Blob([decode(base64)]);
  return gzip ? new Response(blob.stream().pipeThrough(new DecompressionStream("gzip"))).blob() : blob;
}

/** Collects pieces in the document's order, and puts files together. */
export class Collector {
  #parts: Promise<Blob>[] = [];
  readonly #finishing: Promise<void>[] = [];

  constructor(
    private readonly files: EmbeddedFiles,
    private readonly onBytes: (count: number) => void = () => undefined,
  ) {}

  /** Takes one element's text; the element itself can go. */
  take(path: string, base64: string, { last, gzip }: { last: boolean; gzip: boolean }): void {
    const part = open(base64, gzip);
    part.then(
      ({ size }) => {
        this.onBytes(size);
      },
      () => {
        // The end reports it.
      },
    );
    this.#parts.push(part);
    if (!last) return;
    this.#finishing.push(this.#finish(path, this.#parts));
    this.#parts = [];
  }

  /** Reports, after the last file, whether all pieces were whole. */
  async end(): Promise<void> {
    const finished = await Promise.allSettled(this.#finishing);
    this.files.take({ embedded: finished.every(({ status }) => status === "fulfilled") ? "complete" : "cut-short" });
  }

  async #finish(path: string, parts: Promise<Blob>[]): Promise<void> {
    this.files.take({ embedded: { path, blob: new Blob(await Promise.all(parts)) } });
  }
}

/** Follows the document until it is read to its end. */
export function collect(page: Document, files: EmbeddedFiles): void {
  const total = Number(page.querySelector<HTMLMetaElement>('meta[name="trimtab-bytes"]')?.content);
  const collector = new Collector(files, (count) => {
    opening.add(count, total);
  });
  /** Takes all pieces but the last, which may still be growing; the element that closes the list is one more. */
  const take = () => {
    const pieces = [...page.querySelectorAll<HTMLElement>(PIECES)];
    const last = pieces.pop();
    for (const piece of pieces) {
      const { file, last, gzip } = piece.dataset;
      if (file !== undefined) collector.take(file, piece.textContent, { last: last !== undefined, gzip: gzip !== undefined });
      piece.remove();
    }
    return last;
  };
  const finish = () => {
    observer.disconnect();
    const end = take();
    if (end?.dataset["end"] === undefined) files.take({ embedded: "cut-short" });
    else void collector.end();
    end?.remove();
  };
  const observer = new MutationObserver(take);
  if (page.readyState === "loading") {
    observer.observe(page.body, { childList: true });
    page.addEventListener("DOMContentLoaded", finish);
    take();
  } else {
    finish();
  }
}

let files: EmbeddedFiles | undefined;

/** The page's files. */
export function collected(): EmbeddedFiles {
  if (!files) {
    files = new EmbeddedFiles();
    collect(document, files);
  }
  return files;
}

/** The engine's worker, whose program is the text of an element, with all files as they arrive. */
export function startEmbeddedWorker(): WorkerPort {
  const program = document.getElementById("worker")?.textContent ?? "";
  const url = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
  // No module: Chrome starts none on a page from `file:`.
  const worker = new Worker(url, { name: "trimtab" });
  collected().follow((arrival) => {
    worker.postMessage(arrival);
  });
  return worker;
}
