/** Shared runs that were opened here: each is listed, and Play goes back to the last one, until it is closed. */

import { createContext } from "svelte";

export interface OpenedRun {
  code: string;
  title: string;
}

const key = "trimtab.opened-links";
const most = 20;

function kept(): OpenedRun[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(key) ?? "[]");
    if (!Array.isArray(found)) return [];
    return found.filter((one): one is OpenedRun => typeof (one as OpenedRun | null)?.code === "string" && typeof (one as OpenedRun).title === "string").slice(0, most);
  } catch {
    return [];
  }
}

export class OpenedLinks {
  /** The newest first. */
  list: OpenedRun[] = $state.raw(kept());
  /** The code of the one that Play goes back to. */
  current: string | null = $state(null);

  open(code: string, title: string): void {
    this.current = code;
    this.#keep([{ code, title }, ...kept().filter((one) => one.code !== code)].slice(0, most));
  }

  close(code: string): void {
    if (this.current === code) this.current = null;
    this.#keep(kept().filter((one) => one.code !== code));
  }

  #keep(list: OpenedRun[]): void {
    this.list = list;
    try {
      localStorage.setItem(key, JSON.stringify(list));
    } catch {
      // Without room they are listed until the tab is closed.
    }
  }
}

export const [getOpenedLinks, setOpenedLinks] = createContext<OpenedLinks>();
