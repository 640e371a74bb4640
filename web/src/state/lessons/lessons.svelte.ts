/** State of lessons that outlives a lesson's view while the page is open. */

import { createContext } from "svelte";
import { SvelteMap } from "svelte/reactivity";
import { Progress } from "./progress.svelte.ts";

const key = "trimtab.lesson";

export class Lessons {
  readonly progress = new Progress();
  /** Names of the traits that were there when a lesson was opened, by lesson. */
  readonly traitsBefore = new SvelteMap<string, ReadonlySet<string>>();
  /** The lesson, by its name in the address, that stays beside every page until it is left; this tab has it also after a reload. */
  #beside: string | null = $state(kept());

  get beside(): string | null {
    return this.#beside;
  }

  set beside(name: string | null) {
    this.#beside = name;
    try {
      if (name === null) sessionStorage.removeItem(key);
      else sessionStorage.setItem(key, name);
    } catch {
      // Without storage the lesson stays until a reload.
    }
  }
}

function kept(): string | null {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

export const [getLessons, setLessons] = createContext<Lessons>();
