/** The page that the address names: `#traits`, `#traits/NAME`, `#train`, `#lessons`, `#lessons/NAME`, `#lessons/NAME/teacher`, else Play (`#r=…` opens a link there). */

import { createContext } from "svelte";

export type Route =
  | { page: "play"; link: string | null }
  | { page: "traits"; trait: string | null }
  | { page: "train" }
  | { page: "lessons"; lesson: string | null; teacher: boolean };

export function routeOf(hash: string): Route {
  if (hash.startsWith("#r=")) return { page: "play", link: hash.slice(3) };
  const [page, name = "", part] = hash.slice(1).split("/", 3);
  if (page === "traits") return { page, trait: decoded(name) };
  if (page === "train") return { page };
  if (page === "lessons") return { page, lesson: decoded(name), teacher: part === "teacher" };
  return { page: "play", link: null };
}

/** The address of a page of Traits: a trait's, or the list. */
export function traitsAddress(trait: string | null): string {
  return trait === null ? "#traits" : `#traits/${encodeURIComponent(trait)}`;
}

/** The name; null for none, and for one that no page of ours made. */
function decoded(name: string): string | null {
  try {
    return decodeURIComponent(name) || null;
  } catch {
    return null;
  }
}

export class Router {
  route: Route = $state.raw(routeOf(location.hash));

  follow(hash: string): void {
    this.route = routeOf(hash);
  }
}

export const [getRouter, setRouter] = createContext<Router>();
