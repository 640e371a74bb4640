/** Whether what is written outlives the page, and the sentence for where it does not. */

import type { Failure } from "../../engine/protocol.ts";

/** Kinds of what is kept. */
export type Things = "conversations" | "traits" | "runs" | "screens";
const words: Record<Things, string> = { conversations: "conversations", traits: "traits", runs: "training runs", screens: "screened rows" };
/** What to do before a tab is closed that could not keep them. */
const saving: Record<Things, string> = {
  conversations: "Save everything as a file before you close it",
  traits: "Save everything as a file before you close it",
  runs: "Save everything as a file before you close it",
  screens: "Save the rows that you flagged before you close it",
};

type Trouble = "not kept" | "not read" | "not removed";

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error && thrown.message !== "" ? thrown.message : String(thrown);
}

/** Watches over the use of a database that may fail at any time, or is missing. Says each kind of trouble once, until it is over. */
export class Keeping {
  /** Whether what was written last outlives the page. */
  lasting: boolean = $state(true);
  /** Hears what went wrong, with what to do about it. */
  onTrouble: (failure: Failure) => void = () => undefined;
  readonly #told: Record<Trouble, boolean> = { "not kept": false, "not read": false, "not removed": false };

  /** What is written, in words. */
  private readonly things: string;
  readonly #save: string;

  constructor(
    things: Things,
    private readonly database: boolean,
  ) {
    this.things = words[things];
    this.#save = saving[things];
    this.lasting = database;
  }

  /** Whether the database took what `work` writes; where it did not, memory has to. */
  async write(work: () => Promise<unknown> | undefined): Promise<boolean> {
    const lost = `so closing this tab loses ${this.database ? "what you write now" : `your ${this.things}`}`;
    const save = this.#save;
    if (!this.database) {
      this.#tell("not kept", "quota", `This browser lets the page keep nothing, ${lost}. ${save}.`);
      return false;
    }
    try {
      await work();
      this.#told["not kept"] = false;
      this.lasting = true;
      return true;
    } catch (thrown) {
      this.lasting = false;
      const full = thrown instanceof DOMException && thrown.name === "QuotaExceededError";
      const sentence = full
        ? `The browser has no room left for your ${this.things}, ${lost}. ${save}, or delete old ${this.things} to make room.`
        : `The browser's storage failed (${reasonOf(thrown)}), ${lost}. ${save}.`;
      this.#tell("not kept", "quota", sentence);
      return false;
    }
  }

  /** What the database holds, or `otherwise` where it cannot be read. */
  async read<T>(work: () => Promise<T> | undefined, otherwise: T): Promise<T> {
    try {
      const found = await work();
      this.#told["not read"] = false;
      return found ?? otherwise;
    } catch (thrown) {
      this.#tell("not read", "internal", `The ${this.things} that this browser keeps could not be read (${reasonOf(thrown)}). Reload the page to try again.`);
      return otherwise;
    }
  }

  async remove(work: () => Promise<unknown> | undefined): Promise<void> {
    try {
      await work();
      this.#told["not removed"] = false;
    } catch (thrown) {
      this.#tell("not removed", "internal", `The browser's storage did not remove it (${reasonOf(thrown)}), so it may be back at the next visit. Reload the page and try again.`);
    }
  }

  #tell(trouble: Trouble, kind: Failure["kind"], message: string): void {
    if (this.#told[trouble]) return;
    this.#told[trouble] = true;
    this.onTrouble({ kind, message });
  }
}
