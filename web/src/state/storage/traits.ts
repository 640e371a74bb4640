/**
 * Traits that the visitor made, finished or half-made, in a database of their own. What is large and changes seldom
 * (the contrast set, a vector file) lies apart from the rest, so that a changed threshold does not write it again.
 */

import { type DBSchema, type IDBPDatabase, openDB } from "idb";

export interface Kept {
  id: string;
  /** Milliseconds since 1970. */
  updated: number;
}

/** `T` is what a list shows, `P` the large parts by name. Both are kept as they are (structured clone). */
export interface TraitStore<T extends Kept, P extends object> {
  /** False where nothing outlives the page. */
  readonly lasting: boolean;
  /** Newest first. */
  list(): Promise<T[]>;
  put(trait: T): Promise<void>;
  parts(id: string): Promise<Partial<P>>;
  putPart<K extends keyof P & string>(id: string, name: K, part: P[K]): Promise<void>;
  remove(id: string): Promise<void>;
}

interface Schema extends DBSchema {
  traits: { key: string; value: Kept };
  parts: { key: [trait: string, name: string]; value: unknown };
}

const newestFirst = (a: Kept, b: Kept) => b.updated - a.updated;

/** The browser's database, or memory where it is forbidden (some private windows). */
export async function openTraits<T extends Kept, P extends object>(): Promise<TraitStore<T, P>> {
  try {
    const database = await openDB<Schema>("trimtab-traits", 1, {
      upgrade(fresh) {
        fresh.createObjectStore("traits", { keyPath: "id" });
        fresh.createObjectStore("parts");
      },
    });
    return lastingStore(database);
  } catch {
    return memoryTraits();
  }
}

/** Every part of a trait: an array sorts after every string. */
const partsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);

function lastingStore<T extends Kept, P extends object>(database: IDBPDatabase<Schema>): TraitStore<T, P> {
  return {
    lasting: true,
    async list() {
      return ((await database.getAll("traits")) as T[]).sort(newestFirst);
    },
    async put(trait) {
      await database.put("traits", trait);
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

export function memoryTraits<T extends Kept, P extends object>(): TraitStore<T, P> {
  const traits = new Map<string, T>();
  const parts = new Map<string, Partial<P>>();
  return {
    lasting: false,
    list: async () => [...traits.values()].sort(newestFirst),
    put: async (trait) => void traits.set(trait.id, trait),
    parts: async (id) => ({ ...parts.get(id) }),
    putPart: async (id, name, part) => void parts.set(id, { ...parts.get(id), [name]: part } as Partial<P>),
    remove: async (id) => {
      traits.delete(id);
      parts.delete(id);
    },
  };
}
