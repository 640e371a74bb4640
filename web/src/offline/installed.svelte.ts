/** The page as an app: kept by a service worker, so that it opens without a network, and renewed only when nobody is disturbed. */

import { createContext } from "svelte";
// workbox-window: knows when a worker waits, which takes four events in two objects otherwise.
import { Workbox } from "workbox-window";

export class Installed {
  /** A newer version has arrived and waits until every tab is closed, or until it is asked for. */
  waiting = $state(false);
  /** Whether the page opens without a network from now on. */
  kept = $state(false);
  #workbox: Workbox | null = null;

  /** Does nothing where the browser has no service workers: plain HTTP, files, some private windows. */
  async start(script: string): Promise<void> {
    if (!("serviceWorker" in navigator)) return;
    const workbox = new Workbox(script, { scope: "./" });
    this.#workbox = workbox;
    workbox.addEventListener("waiting", () => (this.waiting = true));
    try {
      await workbox.register();
      await navigator.serviceWorker.ready;
      this.kept = true;
    } catch {
      // Behind a certificate that was clicked through, browsers refuse: the page works all the same while it is served.
    }
  }

  /** Opens the newer version here and in every other tab. */
  renew(): void {
    this.#workbox?.addEventListener("controlling", () => location.reload());
    this.#workbox?.messageSkipWaiting();
  }
}

export const [getInstalled, setInstalled] = createContext<Installed>();
