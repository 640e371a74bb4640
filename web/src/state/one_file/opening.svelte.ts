/** How far the one-file page has been read; always null on a page from a server. */
import { Meter } from "../../engine/meter.ts";
import type { LoadProgress } from "../../engine/protocol.ts";

class Opening {
  progress: LoadProgress | null = $state(null);
  #done = 0;
  #meter: Meter | undefined;

  /** Counts `count` more bytes of the `total` bytes of all files. */
  add(count: number, total: number): void {
    this.#meter ??= new Meter("download", total, (progress) => {
      this.progress = progress;
    });
    this.#done += count;
    this.#meter.update(this.#done, this.#done, true);
  }
}

export const opening = new Opening();
