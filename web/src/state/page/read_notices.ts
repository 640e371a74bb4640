/** Notices that this browser has shown before: at the next visit one line of them is enough. */

const key = "trimtab.read";

export function readNotices(): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(key) ?? "[]");
    return Array.isArray(found) ? found.filter((notice) => typeof notice === "string") : [];
  } catch {
    return [];
  }
}

/** Keeps the newest twenty. Where storage is forbidden, a notice is read in full at every visit. */
export function keepRead(notices: readonly string[]): void {
  if (notices.length === 0) return;
  try {
    localStorage.setItem(key, JSON.stringify([...new Set([...readNotices(), ...notices])].slice(-20)));
  } catch {
    // The visitor loses nothing but a line.
  }
}
