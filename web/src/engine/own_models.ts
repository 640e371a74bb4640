/**
 * Models of the visitor's own that were converted here: what they are and where their weights are kept, by a hash of what they
 * were made of. A browser without a database remembers them as long as the worker lives.
 */
import { openDB, type DBSchema, type IDBPDatabase } from "idb";
import type { StoreChain } from "./store_chain.ts";

export interface OwnModel {
  /** Of the source and of how it was converted; the weights lie in the store under it. */
  id: string;
  name: string;
  licence: string;
  /** Names of the files that it was made of. */
  source: string;
  notes: string[];
  weights: { bytes: number; sha256: string };
  /** Everything but the weights. */
  files: { name: string; sha256: string; bytes: Uint8Array<ArrayBuffer> }[];
}

interface Schema extends DBSchema {
  models: { key: string; value: OwnModel };
}

const forgotten = new Map<string, OwnModel>();
let opened: Promise<IDBPDatabase<Schema>> | undefined;

function database(): Promise<IDBPDatabase<Schema>> {
  opened ??= openDB<Schema>("trimtab-own-models", 1, {
    upgrade(fresh) {
      fresh.createObjectStore("models", { keyPath: "id" });
    },
  });
  return opened;
}

/** Runs `work` in the database; undefined where there is none. */
async function attempt<T>(work: (database: IDBPDatabase<Schema>) => Promise<T>): Promise<T | undefined> {
  try {
    return await work(await database());
  } catch {
    return undefined;
  }
}

export async function keepOwnModel(model: OwnModel): Promise<void> {
  if ((await attempt((kept) => kept.put("models", model))) === undefined) forgotten.set(model.id, model);
}

/** Those whose weights are still there. */
export async function listOwnModels(store: StoreChain): Promise<OwnModel[]> {
  const all = [...((await attempt((kept) => kept.getAll("models"))) ?? []), ...forgotten.values()];
  const there = await Promise.all(all.map(({ id, weights }) => store.find(id, weights.bytes)));
  return all.filter((_, at) => there[at] !== undefined);
}

export async function findOwnModel(id: string): Promise<OwnModel | undefined> {
  return (await attempt((kept) => kept.get("models", id))) ?? forgotten.get(id);
}

export async function removeOwnModel(id: string, store: StoreChain): Promise<void> {
  await store.remove(id);
  forgotten.delete(id);
  await attempt((kept) => kept.delete("models", id));
}
