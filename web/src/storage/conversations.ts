/** Conversations in the browser's own database, so that a reload or a closed tab loses nothing. */

// idb: IndexedDB with promises in 1 kB; the bare interface is events all the way down.
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import type { Conversation, ConversationHead } from "../session/conversation.ts";

export interface ConversationStore {
  /** False where nothing outlives the page. */
  readonly lasting: boolean;
  /** Newest first. */
  list(): Promise<ConversationHead[]>;
  get(id: string): Promise<Conversation | null>;
  put(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
}

interface Schema extends DBSchema {
  /** Kept apart from the bodies so that the list loads without any answer. */
  heads: { key: string; value: ConversationHead };
  bodies: { key: string; value: Conversation };
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

/** The browser's database, or memory where it is forbidden (some private windows). */
export async function openConversations(): Promise<ConversationStore> {
  try {
    const database = await openDB<Schema>("trimtab", 1, {
      upgrade(fresh) {
        fresh.createObjectStore("heads", { keyPath: "id" });
        fresh.createObjectStore("bodies", { keyPath: "id" });
      },
    });
    return lastingStore(database);
  } catch {
    return memoryStore();
  }
}

function lastingStore(database: IDBPDatabase<Schema>): ConversationStore {
  return {
    lasting: true,
    async list() {
      return (await database.getAll("heads")).sort(newestFirst);
    },
    async get(id) {
      return (await database.get("bodies", id)) ?? null;
    },
    async put(conversation) {
      const write = database.transaction(["heads", "bodies"], "readwrite");
      await Promise.all([
        write.objectStore("heads").put(headOf(conversation)),
        write.objectStore("bodies").put(conversation),
        write.done,
      ]);
    },
    async remove(id) {
      const write = database.transaction(["heads", "bodies"], "readwrite");
      await Promise.all([write.objectStore("heads").delete(id), write.objectStore("bodies").delete(id), write.done]);
    },
  };
}

export function memoryStore(): ConversationStore {
  const kept = new Map<string, Conversation>();
  return {
    lasting: false,
    list: async () => [...kept.values()].map(headOf).sort(newestFirst),
    get: async (id) => kept.get(id) ?? null,
    put: async (conversation) => void kept.set(conversation.id, conversation),
    remove: async (id) => void kept.delete(id),
  };
}
