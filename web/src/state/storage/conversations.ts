/** Conversations in the browser's own database, so that a reload or a closed tab loses nothing. */

// idb: IndexedDB with promises in 1 kB; the bare interface is events all the way down.
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { Keeping } from "./keeping.svelte.ts";
import type { Conversation, ConversationHead, Run, Turn } from "../conversation/conversation.ts";
import { type AnswerPart, compact, joined } from "../conversation/growing_answer.ts";

export interface ConversationStore {
  readonly keeping: Keeping;
  /** The conversations, the newest first. */
  list(): Promise<ConversationHead[]>;
  /** Rejects where the database cannot be read. */
  get(id: string): Promise<Conversation | null>;
  /** Writes what changed since it was read or written. */
  put(conversation: Conversation): Promise<void>;
  /** Keeps what was added to the answers of a run that is being written; parts are numbered from 0. The next `put` takes their place. False where they were not kept and have to be given again. */
  append(conversation: string, run: string, number: number, parts: AnswerPart[]): Promise<boolean>;
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

type Database = Omit<ConversationStore, "keeping" | "append"> & { append(...inputs: Parameters<ConversationStore["append"]>): Promise<void> };

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

/** Conversations in memory, for where nothing outlives the page. */
export const memoryStore = (): ConversationStore => storeOver(null);

/** A store that keeps in memory, until the page is closed, what the database does not take. */
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
    async append(conversation, run, number, parts) {
      // A conversation in memory is put whole when it is finished.
      if (database === null || here.has(conversation)) return true;
      return keeping.write(() => database.append(conversation, run, number, parts));
    },
    async remove(id) {
      here.delete(id);
      await keeping.remove(() => database?.remove(id));
    },
  };
}

/** Every run of a conversation with its parts: an array sorts after every string. */
const runsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);
/** The parts of a run without the run: an array sorts after every number. */
const partsOf = (id: string, run: string) => IDBKeyRange.bound([id, run, 0], [id, run, []]);

function inDatabase(database: IDBPDatabase<Schema>): Database {
  /** Runs that the database has as they are, by conversation. */
  const written = new Map<string, WeakSet<Run>>();
  return {
    list: () => database.getAll("heads"),
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
