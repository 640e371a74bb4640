/** State of lessons that outlives a lesson's view while the page is open. */

import { createContext } from "svelte";
import { SvelteMap } from "svelte/reactivity";
import { Progress } from "./progress.svelte.ts";

export class Lessons {
  readonly progress = new Progress();
  /** The lesson to come back to from another page. */
  underWay: { name: string; title: string } | null = $state.raw(null);
  /** Names of the traits that were there when a lesson was opened, by lesson. */
  readonly traitsBefore = new SvelteMap<string, ReadonlySet<string>>();
}

export const [getLessons, setLessons] = createContext<Lessons>();
