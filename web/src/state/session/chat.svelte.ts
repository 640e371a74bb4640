/** The conversation on screen: asking, answering, editing, keeping. */

import type { ColumnRequest, Engine, GenerateEvent, Plan } from "../../engine/protocol.ts";
import type { ConversationStore } from "../storage/conversations.ts";
import { finish, grow, promptReading } from "../conversation/answer.ts";
import {
  type Answer,
  type Column,
  columns,
  type Conversation,
  type ConversationHead,
  emptyAnswer,
  givenRun,
  messagesFor,
  newConversation,
  newId,
  readAloud,
  runsBefore,
  type Run,
  samePlan,
  settled,
  shownRun,
  titleFrom,
  type Turn,
} from "../conversation/conversation.ts";
import { asFailure } from "../model/failure.ts";
import type { ModelState } from "../model/model.svelte.ts";
import type { Preferences } from "../model/preferences.svelte.ts";

/** What the engine is doing for the run on screen. */
export type Phase =
  | { kind: "reading"; done: number; total: number; secondsLeft: number | null }
  | { kind: "writing" }
  | { kind: "rereading"; done: number; total: number }
  | { kind: "recovering"; done: number; total: number };

export interface Running {
  turn: string;
  columns: Column[];
  phase: Phase;
}

const flushMs = 33;
const saveEveryMs = 3000;
const planEveryMs = 60;

export class Chat {
  conversation: Conversation = $state.raw(newConversation(""));
  heads: ConversationHead[] = $state.raw([]);
  running: Running | null = $state.raw(null);
  /** Asked before the model was there. */
  waiting: string | null = $state(null);
  /** Read out politely by screen readers. */
  announcement = $state("");
  #planTimer: ReturnType<typeof setTimeout> | null = null;
  #sentPlan: Plan = [];
  /** Also for a run that has not reached the engine yet. */
  #stopWanted = false;
  #active: Promise<void> = Promise.resolve();

  constructor(
    private readonly engine: Engine,
    readonly store: ConversationStore,
    private readonly preferences: Preferences,
    private readonly model: ModelState,
    private readonly plan: () => Plan,
    /** Interrupts what else the model does; the result lets it go on. */
    private readonly makeRoom: () => Promise<() => void> = async () => () => undefined,
  ) {
    this.conversation = newConversation(preferences.choices.system);
    store.keeping.onTrouble = (failure) => (model.failure = failure);
  }

  /** Opens the newest conversation that storage holds. */
  async restore(): Promise<void> {
    await this.refreshHeads();
    const newest = this.heads[0];
    if (newest !== undefined) await this.open(newest.id);
  }

  async refreshHeads(): Promise<void> {
    this.heads = await this.store.list();
  }

  async open(id: string): Promise<void> {
    await this.settle();
    const found = await this.kept(id);
    if (found !== null) this.conversation = settled(found);
  }

  /** A conversation from the store; null, with a sentence, where it cannot be had. */
  private async kept(id: string): Promise<Conversation | null> {
    const title = this.heads.find((head) => head.id === id)?.title || "This conversation";
    try {
      const found = await this.store.get(id);
      if (found !== null) return found;
      this.model.failure = { kind: "usage", message: `“${title}” is no longer here: it was deleted, perhaps in another tab. The list now shows what is kept.` };
      await this.refreshHeads();
    } catch (thrown) {
      this.model.failure = { kind: "usage", message: `“${title}” could not be read from the browser's storage (${reasonOf(thrown)}). Reload the page and open it once more.` };
    }
    return null;
  }

  async startNew(title = ""): Promise<void> {
    await this.settle();
    this.conversation = { ...newConversation(this.preferences.choices.system), title: titleFrom(title) };
  }

  async rename(id: string, title: string): Promise<void> {
    const conversation = id === this.conversation.id ? this.conversation : await this.kept(id);
    if (conversation === null) return;
    const renamed = { ...conversation, title: titleFrom(title) };
    if (id === this.conversation.id) this.conversation = renamed;
    await this.keep(renamed);
  }

  async remove(id: string): Promise<void> {
    if (id === this.conversation.id) await this.startNew();
    await this.store.remove(id);
    await this.refreshHeads();
  }

  setSystem(system: string): void {
    this.preferences.choices.system = system;
    // A conversation that has begun keeps the system prompt that it began with.
    if (this.conversation.turns.length === 0) this.conversation = { ...this.conversation, system };
  }

  async ask(text: string): Promise<void> {
    const user = text.trim();
    if (user === "" || this.running !== null) return;
    if (this.model.loaded === null) {
      this.waiting = user;
      return;
    }
    const turn: Turn = { id: newId(), user, runs: [], shown: 0 };
    this.change((conversation) => ({
      ...conversation,
      title: conversation.title === "" ? titleFrom(user) : conversation.title,
      turns: [...conversation.turns, turn],
    }));
    await this.run(this.conversation.turns.length - 1, [...columns]);
  }

  /** A question with an answer that was given and not run: the conversation goes on from both. */
  give(user: string, tokens: { id: number; text: string }[]): void {
    const turn: Turn = { id: newId(), user, runs: [givenRun(tokens)], shown: 0 };
    this.change((conversation) => ({
      ...conversation,
      title: conversation.title === "" ? titleFrom(user) : conversation.title,
      turns: [...conversation.turns, turn],
    }));
    void this.keep(this.conversation);
  }

  async answerWaiting(): Promise<void> {
    const user = this.waiting;
    this.waiting = null;
    if (user !== null) await this.ask(user);
  }

  /** The same question once more, with the sliders as they are now. */
  async again(index: number): Promise<void> {
    if (this.running !== null || this.model.loaded === null) return;
    const turn = this.conversation.turns[index];
    if (turn === undefined) return;
    if (index < this.conversation.turns.length - 1) this.fork(index);
    const run = shownRun(turn);
    const reusable = run !== null && this.unsteeredHolds(run, index);
    if (reusable && samePlan(lastPlan(run), this.plan())) {
      // Nothing was changed, so the same words would come: choose others.
      this.preferences.newSeed();
      return this.run(index, [...columns]);
    }
    if (reusable && this.plan().length === 0 && this.sameQuestion(index)) return this.showUnsteered(index, run);
    await this.run(index, reusable ? ["steered"] : [...columns]);
  }

  /** Without a push both columns are the unsteered answer: nothing has to be written again. */
  private async showUnsteered(index: number, run: Run): Promise<void> {
    const { unsteered } = run.answers;
    const same: Run = { ...run, id: newId(), answers: { unsteered, steered: unsteered } };
    this.changeTurn(index, (turn) => ({ ...turn, runs: [...turn.runs, same], shown: turn.runs.length }));
    this.announcement = readAloud(this.conversation, index, [...columns]);
    await this.keep(this.conversation);
  }

  /** Whether both columns go on from the same answers. */
  private sameQuestion(index: number): boolean {
    const [first, second] = columns.map((column) => JSON.stringify(messagesFor(this.conversation, column, index)));
    return first === second;
  }

  /** Another question in the same place; what was there stays in the list. */
  async edit(index: number, text: string): Promise<void> {
    const user = text.trim();
    if (user === "" || this.running !== null || this.model.loaded === null) return;
    this.fork(index);
    this.changeTurn(index, (turn) => ({ ...turn, user, runs: [], shown: 0 }));
    await this.run(index, [...columns]);
  }

  show(index: number, run: number): void {
    this.changeTurn(index, (turn) => ({ ...turn, shown: Math.min(Math.max(run, 0), turn.runs.length - 1) }));
    void this.keep(this.conversation);
  }

  async stop(): Promise<void> {
    this.#stopWanted = true;
    try {
      await this.engine.stop();
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
    }
  }

  /** Stops what runs, and waits until it is kept. */
  private async settle(): Promise<void> {
    if (this.running !== null) await this.stop();
    await this.#active;
  }

  /** Tells a running answer that the sliders moved; a drag becomes a few messages a second. */
  slidersMoved(): void {
    if (this.running === null || !this.running.columns.includes("steered") || this.#planTimer !== null) return;
    this.#planTimer = setTimeout(() => {
      this.#planTimer = null;
      const plan = this.plan();
      if (this.running === null || samePlan(plan, this.#sentPlan)) return;
      this.#sentPlan = plan;
      this.engine.setPlan(plan).catch((thrown: unknown) => (this.model.failure = asFailure(thrown)));
    }, planEveryMs);
  }

  /** Whether only the steered column has to be run again. */
  private unsteeredHolds(run: Run, index: number): boolean {
    const { sampler, maxTokens } = this.preferences.choices;
    const model = this.model.loaded;
    return (
      model !== null &&
      run.after.join() === runsBefore(this.conversation, index).join() &&
      run.model.sha256 === model.sha256 &&
      run.model.backend === model.backend &&
      run.model.precision === model.precision &&
      run.maxTokens === maxTokens &&
      JSON.stringify(run.sampler) === JSON.stringify(sampler) &&
      run.model.traits.map((trait) => trait.hash).join() === model.traits.map((trait) => trait.hash).join() &&
      (run.answers.unsteered.end === "end-token" || run.answers.unsteered.end === "max-tokens")
    );
  }

  /** Goes on in a copy that ends with turn `index`. */
  private fork(index: number): void {
    void this.keep(this.conversation);
    const now = Date.now();
    this.conversation = {
      ...this.conversation,
      id: newId(),
      created: now,
      updated: now,
      turns: this.conversation.turns.slice(0, index + 1),
    };
  }

  private change(by: (conversation: Conversation) => Conversation): void {
    this.conversation = { ...by(this.conversation), updated: Date.now() };
  }

  private changeTurn(index: number, by: (turn: Turn) => Turn): void {
    this.change((conversation) => ({
      ...conversation,
      turns: conversation.turns.map((turn, at) => (at === index ? by(turn) : turn)),
    }));
  }

  private async keep(conversation: Conversation): Promise<void> {
    await this.store.put(conversation);
    await this.refreshHeads();
  }

  private run(index: number, wanted: Column[]): Promise<void> {
    this.#active = this.perform(index, wanted);
    return this.#active;
  }

  private async perform(index: number, wanted: Column[]): Promise<void> {
    const model = this.model.loaded;
    const turn = this.conversation.turns[index];
    if (model === null || turn === undefined) return;
    const { sampler, maxTokens } = $state.snapshot(this.preferences.choices);
    let plan = this.plan();
    this.#stopWanted = false;
    const before = shownRun(turn);
    const run: Run = {
      id: newId(),
      after: runsBefore(this.conversation, index),
      sampler,
      maxTokens,
      model: {
        name: model.name,
        sha256: model.sha256,
        backend: model.backend,
        precision: model.precision,
        traits: model.traits.map(({ name, opposite, hash, recommended }) => ({ name, opposite, hash, layers: [...recommended.layers] })),
      },
      answers: {
        unsteered: wanted.includes("unsteered") || before === null ? emptyAnswer([]) : before.answers.unsteered,
        steered: emptyAnswer(plan),
      },
      prompt: wanted.includes("unsteered") || before === null ? null : before.prompt,
    };
    const runAt = turn.runs.length;
    this.changeTurn(index, (old) => ({ ...old, runs: [...old.runs, run], shown: runAt }));
    const conversation = this.conversation.id;
    const messages = wanted.map((column) => messagesFor(this.conversation, column, index));
    this.#sentPlan = plan;
    this.announcement = "";
    this.running = { turn: turn.id, columns: wanted, phase: { kind: "reading", done: 0, total: 0, secondsLeft: null } };
    void this.keep(this.conversation);

    const changeRun = (by: (run: Run) => Run) => {
      if (this.conversation.id !== conversation) return;
      this.changeTurn(index, (old) => ({ ...old, runs: old.runs.map((one, at) => (at === runAt ? by(one) : one)) }));
    };

    // Events come faster than a screen shows them: they are applied a frame's worth at a time.
    let events: GenerateEvent[] = [];
    let timer: ReturnType<typeof setTimeout> | null = null;
    let saved = Date.now();
    const flush = () => {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      const batch = events;
      events = [];
      if (batch.length === 0) return;
      changeRun((old) => this.applied(old, batch, wanted));
      if (Date.now() - saved > saveEveryMs && this.conversation.id === conversation) {
        saved = Date.now();
        void this.keep(this.conversation);
      }
    };

    const goOn = await this.makeRoom();
    // What was wished while room was made is this run's: the engine knows of no run yet that it could be told for.
    if (!samePlan(plan, this.plan())) {
      plan = this.plan();
      changeRun((old) => ({ ...old, answers: { ...old.answers, steered: emptyAnswer(plan) } }));
    }
    this.#sentPlan = plan;
    if (this.#stopWanted) {
      const stopped = (answer: Answer): Answer => ({ ...answer, end: answer.end ?? "stopped" });
      changeRun((old) => ({ ...old, answers: { unsteered: stopped(old.answers.unsteered), steered: stopped(old.answers.steered) } }));
      this.running = null;
      goOn();
      return void (this.conversation.id === conversation && (await this.keep(this.conversation)));
    }
    const requests: ColumnRequest[] = wanted.map((column, at) => ({ column, messages: messages[at] ?? [], plan: column === "steered" ? plan : [] }));
    try {
      const results = await this.engine.generate({ columns: requests, sampler, maxTokens }, (event) => {
        events.push(event);
        timer ??= setTimeout(flush, flushMs);
      });
      flush();
      changeRun((old) => {
        const answers = { ...old.answers };
        let prompt = old.prompt;
        for (const result of results) {
          answers[result.column] = finish(answers[result.column], result);
          if (result.column === "unsteered") prompt = promptReading(result);
        }
        return { ...old, answers, prompt };
      });
      this.announcement = readAloud(this.conversation, index, wanted);
    } catch (thrown) {
      flush();
      this.model.failure = asFailure(thrown);
      changeRun((old) => ({
        ...old,
        answers: {
          unsteered: { ...old.answers.unsteered, end: old.answers.unsteered.end ?? "failed" },
          steered: { ...old.answers.steered, end: old.answers.steered.end ?? "failed" },
        },
      }));
    } finally {
      this.running = null;
      goOn();
      if (this.conversation.id === conversation) await this.keep(this.conversation);
    }
  }

  private applied(run: Run, batch: GenerateEvent[], wanted: Column[]): Run {
    const answers = { ...run.answers };
    for (const event of batch) {
      if (event.kind === "prompt") {
        this.setPhase({ kind: "reading", done: event.done, total: event.total, secondsLeft: event.secondsLeft ?? null });
        continue;
      }
      if (event.kind === "recovering") {
        this.setPhase({ kind: "recovering", done: event.bytesDone, total: event.bytesTotal });
        continue;
      }
      if (event.kind === "recovered") {
        this.model.moved(event.model);
        continue;
      }
      if (event.kind === "reread-progress") this.setPhase({ kind: "rereading", done: event.done, total: event.total });
      if (event.kind === "token") this.setPhase({ kind: "writing" });
      const column = wanted[event.column];
      if (column !== undefined) answers[column] = grow(answers[column], event);
    }
    return { ...run, answers };
  }

  private setPhase(phase: Phase): void {
    if (this.running !== null) this.running = { ...this.running, phase };
  }
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error && thrown.message !== "" ? thrown.message : String(thrown);
}

/** The plan under which a run's last tokens were written. */
export function lastPlan(run: Run): Plan {
  return run.answers.steered.segments.at(-1)?.plan ?? [];
}
