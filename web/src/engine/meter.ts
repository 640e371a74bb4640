import type { LoadProgress } from "./protocol.ts";

/** Reports at most this often, in milliseconds. */
const INTERVAL = 100;
/** Milliseconds over which the rate is measured. */
const WINDOW = 5_000;
/** Milliseconds before which there is no rate to speak of: a first packet says nothing about the line. */
const MEASURED = 1_000;

/** Turns byte counts into {@link LoadProgress}, with the time left at the present rate. */
export class Meter {
  /** Bytes that took time to get, and when they had arrived. */
  readonly #samples: { at: number; bytes: number }[] = [];
  #reported = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly phase: LoadProgress["phase"],
    private readonly bytesTotal: number,
    private readonly report: (progress: LoadProgress) => void,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Takes the bytes that are there, `bytesWorked` of which had to be fetched. */
  update(bytesDone: number, bytesWorked: number, fromCache: boolean): void {
    const at = this.now();
    this.#samples.push({ at, bytes: bytesWorked });
    while (this.#samples.length > 2 && (this.#samples[0]?.at ?? at) < at - WINDOW) this.#samples.shift();
    if (at - this.#reported < INTERVAL && bytesDone < this.bytesTotal) return;
    this.#reported = at;
    const secondsLeft = this.#secondsLeft(this.bytesTotal - bytesDone);
    this.report({
      phase: this.phase,
      bytesDone,
      bytesTotal: this.bytesTotal,
      fromCache,
      ...(secondsLeft !== undefined && { secondsLeft }),
    });
  }

  #secondsLeft(bytes: number): number | undefined {
    const [first, last] = [this.#samples.at(0), this.#samples.at(-1)];
    if (!first || !last || last.at - first.at < MEASURED) return undefined;
    const perSecond = ((last.bytes - first.bytes) / (last.at - first.at)) * 1_000;
    return perSecond > 0 ? bytes / perSecond : undefined;
  }
}
