/** Approximate sizes of stored things: the browser's own figure is one for everything together. */

import type { Session } from "../../state/session/session.svelte.ts";

/** Approximate bytes of plain data as structured clone would write it. */
export function sizeOf(value: unknown): number {
  if (ArrayBuffer.isView(value)) return value.byteLength;
  if (typeof value === "string") return value.length + 4;
  if (Array.isArray(value)) return value.reduce<number>((sum, one) => sum + sizeOf(one), 8);
  if (typeof value === "object" && value !== null) return Object.entries(value).reduce((sum, [name, one]) => sum + name.length + sizeOf(one), 8);
  return 8;
}

export async function sizeOfConversations({ chat }: Session): Promise<number> {
  let bytes = 0;
  // One after the other: together they may be larger than memory.
  for (const { id } of chat.heads) bytes += sizeOf(await chat.store.get(id).catch(() => null));
  return bytes;
}

/** Sizes by the trait's id. */
export async function sizesOfTraits({ workshop }: Session): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  for (const trait of workshop.traits) sizes.set(trait.id, sizeOf(trait) + sizeOf(await workshop.store.parts(trait.id).catch(() => ({}))));
  return sizes;
}

/** Sizes by the run's id. */
export async function sizesOfRuns({ lab }: Session): Promise<ReadonlyMap<string, number>> {
  const sizes = new Map<string, number>();
  for (const run of lab.runs) sizes.set(run.id, sizeOf(run) + sizeOf(await lab.store.parts(run.id).catch(() => ({}))));
  return sizes;
}

/** Size of every screen together; 0 where there is none. */
export async function sizeOfScreens({ lab }: Session): Promise<number> {
  return (await lab.screening.all().catch(() => [])).reduce((bytes, one) => bytes + sizeOf(one), 0);
}
