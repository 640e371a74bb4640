/** The sliders' positions, and the steering plan they make. */

import { SvelteMap } from "svelte/reactivity";
import type { Adapter, Plan, SteeringTerm, Trait } from "../../engine/protocol.ts";

export class Sliders {
  /** Coefficients by trait. A map, because names come from links: an object would answer to `toString` with what it inherits. */
  readonly #coefficients = new SvelteMap<string, number>();
  /** How much of each adapter acts, by its name. */
  readonly #scales = new SvelteMap<string, number>();

  coefficient(trait: string): number {
    return this.#coefficients.get(trait) ?? 0;
  }

  set(trait: string, coefficient: number): void {
    this.#coefficients.set(trait, coefficient);
  }

  scale(adapter: string): number {
    return this.#scales.get(adapter) ?? 0;
  }

  tune(adapter: string, scale: number): void {
    this.#scales.set(adapter, scale);
  }

  /** Adapters that are not at 0. */
  get tuned(): [adapter: string, scale: number][] {
    return [...this.#scales].filter(([, scale]) => scale !== 0);
  }

  /** Those that are not at 0. */
  get moved(): [trait: string, coefficient: number][] {
    return [...this.#coefficients].filter(([, coefficient]) => coefficient !== 0);
  }

  forget(trait: string): void {
    this.#coefficients.delete(trait);
  }

  forgetAdapter(adapter: string): void {
    this.#scales.delete(adapter);
  }

  reset(): void {
    this.#coefficients.clear();
    this.#scales.clear();
  }

  /** The plan that the sliders make. A slider at 0 makes no term: no plan and α = 0 are the same run. */
  plan(traits: readonly Trait[], adapters: readonly Adapter[], scope: SteeringTerm["scope"]): Plan {
    const pushes = traits
      .filter((trait) => this.coefficient(trait.name) !== 0)
      .map((trait): SteeringTerm => ({
        trait: trait.name,
        operation: { kind: "add", coefficient: this.coefficient(trait.name) },
        scope,
      }));
    const tunings = adapters
      .filter(({ name }) => this.scale(name) !== 0)
      .map(({ name }): SteeringTerm => ({ trait: name, operation: { kind: "tune", scale: this.scale(name) }, scope: "all" }));
    return [...pushes, ...tunings];
  }

  /** Puts the sliders where a plan had them. */
  show(plan: Plan): void {
    this.reset();
    for (const term of plan) {
      if (term.operation.kind === "add") this.#coefficients.set(term.trait, term.operation.coefficient);
      if (term.operation.kind === "tune") this.#scales.set(term.trait, term.operation.scale);
    }
  }
}

/** The ends of a slider: half as far again as recommended, in round steps. */
export function sliderReach(recommended: { min: number; max: number }): { min: number; max: number } {
  const reach = Math.max(Math.abs(recommended.min), Math.abs(recommended.max), 0.5) * 1.5;
  const rounded = Math.ceil(reach * 2) / 2;
  return { min: -rounded, max: rounded };
}

/** Relative dose of a coefficient: the push beside the ordinary length of the residual stream, summed over its layers. */
export function relativeDose(trait: Trait, coefficient: number): number {
  return trait.recommended.layers.reduce((sum, layer) => sum + coefficient * (trait.dosePerUnit[layer] ?? 0), 0);
}
