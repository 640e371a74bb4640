/** Work that one tab at a time may do. */

import { EngineFailure } from "../../engine/failure.ts";

/** Does the work unless another tab is at the same; `elsewhere` is what is said then. Plain HTTP has no locks: there the last one to write wins. */
export async function aloneWith(name: string, elsewhere: string, work: () => Promise<void>): Promise<void> {
  const { locks } = navigator as { locks?: LockManager | null };
  if (locks == null) return work();
  await locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock === null) throw new EngineFailure("usage", elsewhere);
    await work();
  });
}
