/** Conversations in the browser's own database, so that a reload or a closed tab loses nothing. */

// idb: IndexedDB with promises in 1 kB; the bare interface is events all the way down.
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { Keeping } from "./keeping.svelte.ts";
import type { Conversation, ConversationHead, Run, Turn } from "../conversation/conversation.ts";

export interface ConversationStore {
  readonly keeping: Keeping;
  /** Newest first. */
  list(): Promise<ConversationHead[]>;
  /** Rejects where the database cannot be read. */
  get(id: string): Promise<Conversation | null>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
}

/** Answers are large (readings at every layer) and kept apart: only those that changed are written. */
interface Body extends Omit<Conversation, "turns"> {
  turns: (Omit<Turn, "runs"> & { runs: string[] })[];
}

type Database = Omit<ConversationStore, "keeping">;

interface Schema extends DBSchema {
  /** Kept apart from the bodies so that the list loads without any answer. */
  heads: { key: string; value: ConversationHead };
  bodies: { key: string; value: Body };
  runs: { key: [conversation: string, run: string]; value: Run };
}

export function headOf(conversation: Conversation): ConversationHead {
  return {
    id: conversation.id,
    title: conversation.title,
    updated: conversation.updated,
    turns: conversation.turns.length,
  };
}

const newestFirst = (a: ConversationHead, b: ConversationHead) => b.updated - a.updated;

/** The browser's database, and memory where that is forbidden (some private windows) or fails. */
export async function openConversations(): Promise<ConversationStore> {
  try {
    const database = await openDB<Schema>("trimtab", 1, {
      upgrade(fresh) {
        fresh.createObjectStore("heads", { keyPath: "id" });
        fresh.createObjectStore("bodies", { keyPath: "id" });
        fresh.createObjectStore("runs");
      },
    });
    return storeOver(inDatabase(database));
  } catch {
    return memoryStore();
  }
}

/** For where nothing outlives the page. */
export const memoryStore = (): ConversationStore => storeOver(null);

/** What the database does not take is kept in memory, until the page is closed. */
function storeOver(database: Database | null): ConversationStore {
  const keeping = new Keeping("conversations", database !== null);
  const here = new Map<string, Conversation>();
  return {
    keeping,
    async list() {
      const kept = await keeping.read<ConversationHead[]>(() => database?.list(), []);
      return [...[...here.values()].map(headOf), ...kept.filter(({ id }) => !here.has(id))].sort(newestFirst);
    },
    async get(id) {
      return here.get(id) ?? (await database?.get(id)) ?? null;
    },
    async put(conversation) {
      if (await keeping.write(() => database?.put(conversation))) here.delete(conversation.id);
      else here.set(conversation.id, conversation);
    },
    async remove(id) {
      here.delete(id);
      await keeping.remove(() => database?.remove(id));
    },
  };
}

/** Every run of a conversation: an array sorts after every string. */
const runsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);

function inDatabase(database: IDBPDatabase<Schema>): Database {
  /** By conversation, the runs that stand in the database as they are. */
  const written = new Map<string, WeakSet<Run>>();
  return {
    list: () => database.getAll("heads"),
    async get(id) {
      const read = database.transaction(["bodies", "runs"]);
      const body = await read.objectStore("bodies").get(id);
      if (body === undefined) return null;
      const runs = await read.objectStore("runs").getAll(runsOf(id));
      const byId = new Map(runs.map((run) => [run.id, run]));
      written.set(id, new WeakSet(runs));
      return { ...body, turns: body.turns.map((turn) => ({ ...turn, runs: turn.runs.flatMap((run) => byId.get(run) ?? []) })) };
    },
    async put(conversation) {
      const { id } = conversation;
      const known = written.get(id) ?? new WeakSet();
      written.set(id, known);
      const changed = conversation.turns.flatMap((turn) => turn.runs).filter((run) => !known.has(run));
      const body: Body = { ...conversation, turns: conversation.turns.map((turn) => ({ ...turn, runs: turn.runs.map((run) => run.id) })) };
      const write = database.transaction(["heads", "bodies", "runs"], "readwrite");
      await Promise.all([
        write.objectStore("heads").put(headOf(conversation)),
        write.objectStore("bodies").put(body),
        ...changed.map((run) => write.objectStore("runs").put(run, [id, run.id])),
        write.done,
      ]);
      for (const run of changed) known.add(run);
    },
    async remove(id) {
      written.delete(id);
      const write = database.transaction(["heads", "bodies", "runs"], "readwrite");
      await Promise.all([
        write.objectStore("heads").delete(id),
        write.objectStore("bodies").delete(id),
        write.objectStore("runs").delete(runsOf(id)),
        write.done,
      ]);
    },
  };
}
