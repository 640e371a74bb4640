/** What the browser keeps for this page. Its figures are estimates, and some browsers give none. */

export interface Kept {
  /** Bytes of everything, or null where the browser does not tell. */
  usage: number | null;
  quota: number | null;
  /** Whether the browser promised not to remove it when room is short. */
  persistent: boolean;
}

export async function whatIsKept(): Promise<Kept> {
  // Missing on plain HTTP.
  const storage = (navigator as Partial<Navigator>).storage;
  if (storage === undefined) return { usage: null, quota: null, persistent: false };
  const [estimate, persistent] = await Promise.all([storage.estimate().catch(() => ({}) as StorageEstimate), storage.persisted().catch(() => false)]);
  return { usage: estimate.usage ?? null, quota: estimate.quota ?? null, persistent };
}

/** Asks the browser not to remove anything by itself; some ask the visitor, most decide alone. */
export async function askToKeep(): Promise<boolean> {
  try {
    return (await (navigator as Partial<Navigator>).storage?.persist()) ?? false;
  } catch {
    return false;
  }
}
