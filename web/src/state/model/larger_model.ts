/** The next model that somebody may want after the one that is loaded, and what to expect of it here. */
import type { LoadedModel } from "../../engine/protocol.ts";
import { hubModels, type HubModelSuggestion } from "./hub_models.ts";

const KEY = "trimtab.larger-model";
/** A model of fewer times as many numbers makes too little difference to be worth the wait. */
const TIMES = 3;

export interface LargerModel extends HubModelSuggestion {
  /** Tokens a second to expect here: every token passes all numbers once, so that speed goes with their count. */
  tokensPerSecond: number;
}

/** The smallest suggested model that is much larger than the loaded one, which wrote `tokensPerSecond`; null where there is none. */
export function largerModel({ parameters }: Pick<LoadedModel, "parameters">, tokensPerSecond: number): LargerModel | null {
  const larger = hubModels.filter((one) => one.parameters >= TIMES * parameters).toSorted((one, other) => one.parameters - other.parameters);
  const [next] = larger;
  return next === undefined || !(tokensPerSecond > 0) || !(parameters > 0) ? null : { ...next, tokensPerSecond: (tokensPerSecond * parameters) / next.parameters };
}

/** Whether the visitor sent the offer away, in this browser. */
export function isDismissed(): boolean {
  try {
    return localStorage.getItem(KEY) === "dismissed";
  } catch {
    return false;
  }
}

export function dismiss(): void {
  try {
    localStorage.setItem(KEY, "dismissed");
  } catch {
    // Then it is gone until the page is loaded again.
  }
}
