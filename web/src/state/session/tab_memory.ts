/** Sliders and colours of this tab, which a reload brings back. They are the tab's own: another one may steer otherwise. */

import type { HeatView } from "./heat_view.ts";

export interface TabMemory {
  sliders: [trait: string, coefficient: number][];
  adapters: [adapter: string, scale: number][];
  view: HeatView;
  viewChosen: boolean;
}

const key = "trimtab.tab";

export function recallTab(): TabMemory | null {
  try {
    const found = JSON.parse(sessionStorage.getItem(key) ?? "null") as Partial<TabMemory> | null;
    const { sliders, adapters, view, viewChosen } = found ?? {};
    if (!Array.isArray(sliders) || typeof view?.by?.kind !== "string") return null;
    const whole = (named: readonly [string, number][]) => named.filter(([name, value]) => typeof name === "string" && Number.isFinite(value));
    return { sliders: whole(sliders), adapters: whole(Array.isArray(adapters) ? adapters : []), view: { by: view.by, layer: view.layer ?? null, insideRun: view.insideRun === true }, viewChosen: viewChosen === true };
  } catch {
    return null;
  }
}

export function rememberTab(memory: TabMemory): void {
  try {
    sessionStorage.setItem(key, JSON.stringify(memory));
  } catch {
    // Where storage is forbidden, sliders begin at 0 after a reload.
  }
}
