/** The page as an app: kept by a service worker, so that it opens without a network, and renewed only when nobody is disturbed. */

import { createContext } from "svelte";
// workbox-window: knows when a worker waits, which takes four events in two objects otherwise.
import { Workbox } from "workbox-window";

export class Installed {
  /** True if a newer version has arrived and waits until every tab is closed, or until it is asked for. */
  waiting = $state(false);
  /** True if another tab opened the newer version: this one shows the old one, which can no longer fetch its own files. */
  renewed = $state(false);
  /** True if the page opens without a network from now on. */
  kept = $state(false);
  #asked = false;
  #workbox: Workbox | null = null;

  /** Has to be made before the page does anything else: another tab may open a newer version while this one is still opening. */
  constructor() {
    if (!("serviceWorker" in navigator)) return;
    // The first worker takes over a page that is as new as itself.
    const first = navigator.serviceWorker.controller === null;
    let changes = 0;
    navigator.serviceWorker.addEventListener("controllerchange", () => {
      changes += 1;
      if (this.#asked) location.reload();
      else if (!first || changes > 1) this.renewed = true;
    });
  }

  /** Registers the service worker. Does nothing where the browser has none: plain HTTP, files, some private windows. */
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

  /** Opens the newer version here. Other tabs say that they are old: an answer may be running there. */
  renew(): void {
    if (this.renewed) return location.reload();
    this.#asked = true;
    this.#workbox?.messageSkipWaiting();
  }
}

export const [getInstalled, setInstalled] = createContext<Installed>();
