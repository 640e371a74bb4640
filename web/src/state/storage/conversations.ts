/** Conversations in the browser's own database, so that a reload or a closed tab loses nothing. */

// idb: IndexedDB with promises in 1 kB; the bare interface is events all the way down.
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import type { Conversation, ConversationHead, Run, Turn } from "../conversation/conversation.ts";
import { type AnswerPart, compact, joined } from "../conversation/growing_answer.ts";

export interface ConversationStore {
  /** False where nothing outlives the page. */
  readonly lasting: boolean;
  /** Newest first. */
  list(): Promise<ConversationHead[]>;
  get(id: string): Promise<Conversation | null>;
  /** Writes what changed since it was read or written. */
  put(conversation: Conversation): Promise<void>;
  /** Keeps what was added to the answers of a run that is being written; parts are numbered from 0. The next `put` takes their place. */
  append(conversation: string, run: string, number: number, parts: AnswerPart[]): Promise<void>;
  remove(id: string): Promise<void>;
}

/** Answers are large (readings at every layer) and kept apart: only those that changed are written. */
interface Body extends Omit<Conversation, "turns"> {
  turns: (Omit<Turn, "runs"> & { runs: string[] })[];
}

interface RunPart {
  run: string;
  parts: AnswerPart[];
}

interface Schema extends DBSchema {
  /** Kept apart from the bodies so that the list loads without any answer. */
  heads: { key: string; value: ConversationHead };
  bodies: { key: string; value: Body };
  /** A run, and behind it what was added to it while it was being written. */
  runs: { key: [conversation: string, run: string] | [conversation: string, run: string, part: number]; value: Run | RunPart };
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
        fresh.createObjectStore("runs");
      },
    });
    return lastingStore(database);
  } catch {
    return memoryStore();
  }
}

/** Every run of a conversation with its parts: an array sorts after every string. */
const runsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);
/** The parts of a run without the run: an array sorts after every number. */
const partsOf = (id: string, run: string) => IDBKeyRange.bound([id, run, 0], [id, run, []]);

function lastingStore(database: IDBPDatabase<Schema>): ConversationStore {
  /** By conversation, the runs that stand in the database as they are. */
  const written = new Map<string, WeakSet<Run>>();
  return {
    lasting: true,
    async list() {
      return (await database.getAll("heads")).sort(newestFirst);
    },
    async get(id) {
      const read = database.transaction(["bodies", "runs"]);
      const body = await read.objectStore("bodies").get(id);
      if (body === undefined) return null;
      const stored = await read.objectStore("runs").getAll(runsOf(id));
      const parts = stored.filter((one) => "parts" in one);
      const runs = stored.filter((one): one is Run => !("parts" in one));
      const byId = new Map(runs.map((run) => [run.id, joined(run, parts.flatMap((part) => (part.run === run.id ? part.parts : [])))]));
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
        ...changed.flatMap((run) => [write.objectStore("runs").put(compact(run), [id, run.id]), write.objectStore("runs").delete(partsOf(id, run.id))]),
        write.done,
      ]);
      for (const run of changed) known.add(run);
    },
    async append(conversation, run, number, parts) {
      await database.put("runs", { run, parts }, [conversation, run, number]);
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

export function memoryStore(): ConversationStore {
  const kept = new Map<string, Conversation>();
  return {
    lasting: false,
    list: async () => [...kept.values()].map(headOf).sort(newestFirst),
    get: async (id) => kept.get(id) ?? null,
    put: async (conversation) => void kept.set(conversation.id, conversation),
    // The run is put when it is finished, and nothing here outlives the page.
    append: async () => undefined,
    remove: async (id) => void kept.delete(id),
  };
}
