/** Conversations in the browser's own database, so that a reload or a closed tab loses nothing. */

// idb: IndexedDB with promises in 1 kB; the bare interface is events all the way down.
import { type DBSchema, type IDBPDatabase, openDB } from "idb";
import { Keeping } from "./keeping.svelte.ts";
import { OtherTabs } from "./other_tabs.ts";
import type { Conversation, ConversationHead, Run, Turn } from "../conversation/conversation.ts";
import { type AnswerPart, compact, joined } from "../conversation/growing_answer.ts";

export interface ConversationStore {
  readonly keeping: Keeping;
  /** The conversations, the newest first. */
  list(): Promise<ConversationHead[]>;
  /** Rejects where the database cannot be read. */
  get(id: string): Promise<Conversation | null>;
  /** The same, to go on with it: the next `put` writes over what was read here, and over nothing else. */
  open(id: string): Promise<Conversation | null>;
  /** Writes what changed since it was opened or written; false, and nothing is written, where another tab has written it since. `from` is the conversation that this one is a copy of. */
  put(conversation: Conversation, from?: string): Promise<boolean>;
  /** Hears what other tabs write and remove. */
  onElsewhere: (id: string, from: string | null) => void;
  /** Keeps what was added to the answers of a run that is being written; parts are numbered from 0. The next `put` takes their place. False where they were not kept and have to be given again. */
  append(conversation: string, run: string, number: number, parts: AnswerPart[]): Promise<boolean>;
  remove(id: string): Promise<void>;
}

/** Answers are large (readings at every layer) and kept apart: only those that changed are written. */
interface Body extends Omit<Conversation, "turns"> {
  /** Counts the times it was written, so that a tab knows that another one was there. */
  revision?: number;
  turns: (Omit<Turn, "runs"> & { runs: string[] })[];
}

interface RunPart {
  run: string;
  parts: AnswerPart[];
}

type Database = Pick<ConversationStore, "list" | "get" | "open" | "put"> & { remove(id: string): Promise<void> } & { append(...inputs: Parameters<ConversationStore["append"]>): Promise<void> };

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
    return storeOver(inDatabase(database), new OtherTabs("trimtab-conversations"));
  } catch {
    return memoryStore();
  }
}

/** Conversations in memory, for where nothing outlives the page. */
export const memoryStore = (): ConversationStore => storeOver(null, null);

/** A store that keeps in memory, until the page is closed, what the database does not take. */
function storeOver(database: Database | null, tabs: OtherTabs | null): ConversationStore {
  const keeping = new Keeping("conversations", database !== null);
  const here = new Map<string, Conversation>();
  const store: ConversationStore = {
    keeping,
    onElsewhere: () => undefined,
    async list() {
      const kept = await keeping.read<ConversationHead[]>(() => database?.list(), []);
      return [...[...here.values()].map(headOf), ...kept.filter(({ id }) => !here.has(id))].sort(newestFirst);
    },
    async get(id) {
      return here.get(id) ?? (await database?.get(id)) ?? null;
    },
    async open(id) {
      return here.get(id) ?? (await database?.open(id)) ?? null;
    },
    async put(conversation, from) {
      let current = true;
      const kept = await keeping.write(() => database?.put(conversation).then((written) => (current = written)));
      if (!current) return false;
      if (kept) here.delete(conversation.id);
      else here.set(conversation.id, conversation);
      if (kept) tabs?.tell(conversation.id, from ?? null);
      return true;
    },
    async append(conversation, run, number, parts) {
      // A conversation in memory is put whole when it is finished.
      if (database === null || here.has(conversation)) return true;
      return keeping.write(() => database.append(conversation, run, number, parts));
    },
    async remove(id) {
      here.delete(id);
      await keeping.remove(() => database?.remove(id));
      tabs?.tell(id, null);
    },
  };
  if (tabs !== null) tabs.onTold = (id, from) => store.onElsewhere(id, from);
  return store;
}

/** Every run of a conversation with its parts: an array sorts after every string. */
const runsOf = (id: string) => IDBKeyRange.bound([id], [id, []]);
/** The parts of a run without the run: an array sorts after every number. */
const partsOf = (id: string, run: string) => IDBKeyRange.bound([id, run, 0], [id, run, []]);

function inDatabase(database: IDBPDatabase<Schema>): Database {
  /** Runs that the database has as they are, by conversation. */
  const written = new Map<string, WeakSet<Run>>();
  /** What this tab opened or wrote last. */
  const revisions = new Map<string, number>();
  const wholeOf = async (id: string) => {
    const read = database.transaction(["bodies", "runs"]);
    const body = await read.objectStore("bodies").get(id);
    if (body === undefined) return null;
    const stored = await read.objectStore("runs").getAll(runsOf(id));
    const parts = stored.filter((one) => "parts" in one);
    const runs = stored.filter((one): one is Run => !("parts" in one));
    const byId = new Map(runs.map((run) => [run.id, joined(run, parts.flatMap((part) => (part.run === run.id ? part.parts : [])))]));
    const { revision = 0, ...rest } = body;
    return { revision, runs, conversation: { ...rest, turns: body.turns.map((turn) => ({ ...turn, runs: turn.runs.flatMap((run) => byId.get(run) ?? []) })) } };
  };
  return {
    list: () => database.getAll("heads"),
    get: async (id) => (await wholeOf(id))?.conversation ?? null,
    async open(id) {
      const found = await wholeOf(id);
      if (found === null) return null;
      written.set(id, new WeakSet(found.runs));
      revisions.set(id, found.revision);
      return found.conversation;
    },
    async put(conversation) {
      const { id } = conversation;
      const known = written.get(id) ?? new WeakSet();
      written.set(id, known);
      const body = { ...conversation, turns: conversation.turns.map((turn) => ({ ...turn, runs: turn.runs.map((run) => run.id) })) };
      const write = database.transaction(["heads", "bodies", "runs"], "readwrite");
      // Awaited below, unless reading fails before.
      write.done.catch(() => undefined);
      const stored = await write.objectStore("bodies").get(id);
      const before = stored?.revision ?? 0;
      if (stored !== undefined && before !== revisions.get(id)) return false;
      // What another tab removed is written again as a whole: this tab goes on with it.
      const changed = conversation.turns.flatMap((turn) => turn.runs).filter((run) => stored === undefined || !known.has(run));
      await Promise.all([
        write.objectStore("heads").put(headOf(conversation)),
        write.objectStore("bodies").put({ ...body, revision: before + 1 }),
        ...changed.flatMap((run) => [write.objectStore("runs").put(compact(run), [id, run.id]), write.objectStore("runs").delete(partsOf(id, run.id))]),
        write.done,
      ]);
      for (const run of changed) known.add(run);
      revisions.set(id, before + 1);
      return true;
    },
    async append(conversation, run, number, parts) {
      await database.put("runs", { run, parts }, [conversation, run, number]);
    },
    async remove(id) {
      written.delete(id);
      revisions.delete(id);
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
