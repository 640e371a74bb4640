/** The storage that the browser gives this page. Its figures are estimates, and some browsers give none. */

export interface StorageUse {
  /** Bytes of everything, or null where the browser does not tell. */
  usage: number | null;
  quota: number | null;
  /** True if the browser promised not to remove anything when room is short. */
  persistent: boolean;
}

export async function storageUse(): Promise<StorageUse> {
  // It is missing on plain HTTP.
  const storage = (navigator as Partial<Navigator>).storage;
  if (storage === undefined) return { usage: null, quota: null, persistent: false };
  const [estimate, persistent] = await Promise.all([storage.estimate().catch(() => ({}) as StorageEstimate), storage.persisted().catch(() => false)]);
  return { usage: estimate.usage ?? null, quota: estimate.quota ?? null, persistent };
}

/** Asks the browser not to remove anything by itself; some ask the visitor, most decide alone. */
export async function askToPersist(): Promise<boolean> {
  try {
    return (await (navigator as Partial<Navigator>).storage?.persist()) ?? false;
  } catch {
    return false;
  }
}
