/**
 * What the visitor made, finished or half-made, each kind in a database of its own. What is large and changes seldom
 * (a contrast set, a vector file, a run's state) lies apart from the rest, so that a small change does not write it again.
 */

import { type IDBPDatabase, openDB } from "idb";
import { Keeping, type Things } from "./keeping.svelte.ts";
import { OtherTabs } from "./other_tabs.ts";

export interface StoredRecord {
  id: string;
  /** Milliseconds since 1970. */
  updated: number;
}

/** `T` is what a list shows, `P` the large parts by name. Both are kept as they are (structured clone). */
export interface RecordStore<T extends StoredRecord, P extends object> {
  readonly keeping: Keeping;
  /** Newest first. */
  list(): Promise<T[]>;
  /** Writes `fields`, and leaves what another tab wrote meanwhile in the others; all of them where none are named, or where the record is not there. */
  put(record: T, fields?: readonly (keyof T)[]): Promise<void>;
  parts(id: string): Promise<Partial<P>>;
  putPart<K extends keyof P & string>(id: string, name: K, part: P[K]): Promise<void>;
  remove(id: string): Promise<void>;
  /** Hears of the record that another tab wrote or removed. */
  onElsewhere: (id: string) => void;
}

type Database<T extends StoredRecord, P extends object> = Omit<RecordStore<T, P>, "keeping" | "onElsewhere">;

/** The kinds of records: the database's name, and that of its table. Those of traits are as old as the page. */
const databases = { traits: "trimtab-traits", runs: "trimtab-runs", screens: "trimtab-screens" } as const satisfies Partial<Record<Things, string>>;
export type Kind = keyof typeof databases;

const newestFirst = (a: StoredRecord, b: StoredRecord) => b.updated - a.updated;

/** The browser's database, and memory where that is forbidden (some private windows) or fails. */
export async function openRecords<T extends StoredRecord, P extends object>(kind: Kind): Promise<RecordStore<T, P>> {
  const name = databases[kind];
  try {
    const database = await openDB(name, 1, {
      upgrade(fresh) {
        fresh.createObjectStore(kind, { keyPath: "id" });
        fresh.createObjectStore("parts");
      },
    });
    return storeOver(kind, inDatabase<T, P>(database, kind), new OtherTabs(name));
  } catch {
    return memoryRecords(kind);
  }
}

/** Records in memory, for where nothing outlives the page. */
export const memoryRecords = <T extends StoredRecord, P extends object>(kind: Kind): RecordStore<T, P> => storeOver<T, P>(kind, null, null);

/** A store that keeps in memory, until the page is closed, what the database does not take. */
function storeOver<T extends StoredRecord, P extends object>(kind: Kind, database: Database<T, P> | null, tabs: OtherTabs | null): RecordStore<T, P> {
  const keeping = new Keeping(kind, database !== null);
  const records = new Map<string, T>();
  const parts = new Map<string, Map<keyof P, P[keyof P]>>();
  const store: RecordStore<T, P> = {
    keeping,
    onElsewhere: () => undefined,
    async list() {
      const kept = await keeping.read<T[]>(() => database?.list(), []);
      return [...records.values(), ...kept.filter(({ id }) => !records.has(id))].sort(newestFirst);
    },
    async put(record, fields) {
      // What is in memory alone is nowhere else as a whole.
      if (await keeping.write(() => database?.put(record, records.has(record.id) ? undefined : fields))) records.delete(record.id);
      else records.set(record.id, record);
      tabs?.tell(record.id, null);
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
      records.delete(id);
      parts.delete(id);
      await keeping.remove(() => database?.remove(id));
      tabs?.tell(id, null);
    },
  };
  if (tabs !== null) tabs.onTold = (id) => store.onElsewhere(id);
  return store;
}

/** Every part of a record: an array sorts after every string. */
const partsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);

function inDatabase<T extends StoredRecord, P extends object>(database: IDBPDatabase, kind: Kind): Database<T, P> {
  return {
    list: async () => (await database.getAll(kind)) as T[],
    async put(record, fields) {
      const write = database.transaction(kind, "readwrite");
      const stored = (fields === undefined ? undefined : await write.store.get(record.id)) as T | undefined;
      const changed = Object.fromEntries((fields ?? []).map((field) => [field, record[field]]));
      await Promise.all([write.store.put(stored === undefined ? record : { ...stored, ...changed, updated: record.updated }), write.done]);
    },
    async parts(id) {
      const read = database.transaction("parts");
      const [keys, values] = await Promise.all([read.store.getAllKeys(partsOf(id)), read.store.getAll(partsOf(id))]);
      return Object.fromEntries(keys.map((key, at) => [(key as [string, string])[1], values[at] as unknown])) as Partial<P>;
    },
    async putPart(id, name, part) {
      await database.put("parts", part, [id, name]);
    },
    async remove(id) {
      const write = database.transaction([kind, "parts"], "readwrite");
      await Promise.all([write.objectStore(kind).delete(id), write.objectStore("parts").delete(partsOf(id)), write.done]);
    },
  };
}
