/**
 * Traits that the visitor made, finished or half-made, in a database of their own. What is large and changes seldom
 * (the contrast set, a vector file) lies apart from the rest, so that a changed threshold does not write it again.
 */

import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { Keeping } from "./keeping.svelte.ts";
import { OtherTabs } from "./other_tabs.ts";

export interface TraitRecord {
  id: string;
  /** Milliseconds since 1970. */
  updated: number;
}

/** `T` is what a list shows, `P` the large parts by name. Both are kept as they are (structured clone). */
export interface TraitStore<T extends TraitRecord, P extends object> {
  readonly keeping: Keeping;
  /** Newest first. */
  list(): Promise<T[]>;
  /** Writes `fields`, and leaves what another tab wrote meanwhile in the others; all of them where none are named, or where the trait is not there. */
  put(trait: T, fields?: readonly (keyof T)[]): Promise<void>;
  parts(id: string): Promise<Partial<P>>;
  putPart<K extends keyof P & string>(id: string, name: K, part: P[K]): Promise<void>;
  remove(id: string): Promise<void>;
  /** Hears of the trait that another tab wrote or removed. */
  onElsewhere: (id: string) => void;
}

type Database<T extends TraitRecord, P extends object> = Omit<TraitStore<T, P>, "keeping" | "onElsewhere">;

interface Schema extends DBSchema {
  traits: { key: string; value: TraitRecord };
  parts: { key: [trait: string, name: string]; value: unknown };
}

const newestFirst = (a: TraitRecord, b: TraitRecord) => b.updated - a.updated;

/** The browser's database, and memory where that is forbidden (some private windows) or fails. */
export async function openTraits<T extends TraitRecord, P extends object>(): Promise<TraitStore<T, P>> {
  try {
    const database = await openDB<Schema>("trimtab-traits", 1, {
      upgrade(fresh) {
        fresh.createObjectStore("traits", { keyPath: "id" });
        fresh.createObjectStore("parts");
      },
    });
    return storeOver(inDatabase<T, P>(database), new OtherTabs("trimtab-traits"));
  } catch {
    return memoryTraits();
  }
}

/** Traits in memory, for where nothing outlives the page. */
export const memoryTraits = <T extends TraitRecord, P extends object>(): TraitStore<T, P> => storeOver<T, P>(null, null);

/** A store that keeps in memory, until the page is closed, what the database does not take. */
function storeOver<T extends TraitRecord, P extends object>(database: Database<T, P> | null, tabs: OtherTabs | null): TraitStore<T, P> {
  const keeping = new Keeping("traits", database !== null);
  const traits = new Map<string, T>();
  const parts = new Map<string, Map<keyof P, P[keyof P]>>();
  const store: TraitStore<T, P> = {
    keeping,
    onElsewhere: () => undefined,
    async list() {
      const kept = await keeping.read<T[]>(() => database?.list(), []);
      return [...traits.values(), ...kept.filter(({ id }) => !traits.has(id))].sort(newestFirst);
    },
    async put(trait, fields) {
      // What is in memory alone is nowhere else as a whole.
      if (await keeping.write(() => database?.put(trait, traits.has(trait.id) ? undefined : fields))) traits.delete(trait.id);
      else traits.set(trait.id, trait);
      tabs?.tell(trait.id, null);
    },
    async parts(id) {
      const kept = await keeping.read<Partial<P>>(() => database?.parts(id), {});
      return { ...kept, ...Object.fromEntries(parts.get(id) ?? []) };
    },
    async putPart(id, name, part) {
      const here = parts.get(id) ?? new Map<keyof P, P[keyof P]>();
      parts.set(id, here);
      if (await keeping.write(() => database?.putPart(id, name, part))) here.delete(name);
      else here.set(name, part);
    },
    async remove(id) {
      traits.delete(id);
      parts.delete(id);
      await keeping.remove(() => database?.remove(id));
      tabs?.tell(id, null);
    },
  };
  if (tabs !== null) tabs.onTold = (id) => store.onElsewhere(id);
  return store;
}

/** Every part of a trait: an array sorts after every string. */
const partsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);

function inDatabase<T extends TraitRecord, P extends object>(database: IDBPDatabase<Schema>): Database<T, P> {
  return {
    list: async () => (await database.getAll("traits")) as T[],
    async put(trait, fields) {
      const write = database.transaction("traits", "readwrite");
      const stored = fields === undefined ? undefined : await write.store.get(trait.id);
      const changed = Object.fromEntries((fields ?? []).map((field) => [field, trait[field]]));
      await Promise.all([write.store.put(stored === undefined ? trait : { ...stored, ...changed, updated: trait.updated }), write.done]);
    },
    async parts(id) {
      const read = database.transaction("parts");
      const [keys, values] = await Promise.all([read.store.getAllKeys(partsOf(id)), read.store.getAll(partsOf(id))]);
      return Object.fromEntries(keys.map(([, name], at) => [name, values[at]])) as Partial<P>;
    },
    async putPart(id, name, part) {
      await database.put("parts", part, [id, name]);
    },
    async remove(id) {
      const write = database.transaction(["traits", "parts"], "readwrite");
      await Promise.all([write.objectStore("traits").delete(id), write.objectStore("parts").delete(partsOf(id)), write.done]);
    },
  };
}
