/** The conversation on screen: asking, answering, editing, keeping. */

import type { ColumnRequest, Engine, LoadedModel, Plan } from "../../engine/protocol.ts";
import type { ConversationStore } from "../storage/conversations.ts";
import {
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
  unfinished,
  wasGiven,
} from "../conversation/conversation.ts";
import { asFailure } from "../model/failure.ts";
import type { ModelState } from "../model/model.svelte.ts";
import type { Preferences } from "../model/preferences.svelte.ts";
import { rememberSpeed } from "../model/speed.ts";
import { type Phase, RunWriter } from "./run_writer.ts";

export interface Running {
  turn: string;
  columns: Column[];
  phase: Phase;
}

const planEveryMs = 60;

export class Chat {
  conversation: Conversation = $state.raw(newConversation(""));
  heads: ConversationHead[] = $state.raw([]);
  running: Running | null = $state.raw(null);
  /** A question that was asked before the model was there. */
  waiting: string | null = $state(null);
  /** What became of this conversation in another tab, and the one to open for it; null where nothing did. */
  elsewhere: { message: string; open: string | null } | null = $state.raw(null);
  /** Text for screen readers, read out politely. */
  announcement = $state("");
  #planTimer: ReturnType<typeof setTimeout> | null = null;
  #sentPlan: Plan = [];
  /** True after a stop, also for a run that has not reached the engine yet. */
  #stopWanted = false;
  #active: Promise<void> = Promise.resolve();

  constructor(
    private readonly engine: Engine,
    readonly store: ConversationStore,
    private readonly preferences: Preferences,
    private readonly model: ModelState,
    private readonly plan: () => Plan,
    /** Interrupts other work of the model; the result lets it go on. */
    private readonly makeRoom: () => Promise<() => void> = async () => () => undefined,
  ) {
    this.conversation = newConversation(preferences.choices.system);
    store.keeping.onTrouble = (failure) => (model.failure = failure);
    store.onElsewhere = (id, from) => void this.hear(id, from);
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
    const found = await this.stored(id);
    if (found !== null) this.enter(settled(found));
  }

  /** Another tab wrote or removed the conversation `id`, as a copy of `from`. */
  private async hear(id: string, from: string | null): Promise<void> {
    await this.refreshHeads();
    const here = this.conversation.id;
    if (from === here) this.elsewhere = { message: "Another tab went on from here in a copy. Both are in the list of conversations.", open: id };
    else if (id === here && this.heads.some((head) => head.id === id)) {
      this.elsewhere = { message: "This conversation went on in another tab. What you ask here goes on in a copy, so that nothing is lost.", open: id };
    }
  }

  /** Puts a conversation on the screen; the settings that came with a link hold for as long as its conversation is there. */
  private enter(conversation: Conversation): void {
    if (this.conversation.lent === true) this.preferences.giveBack();
    this.conversation = conversation;
    this.elsewhere = null;
    this.lendSettings();
  }

  /** Lends the settings of the newest answer where the conversation came with a link. */
  lendSettings(): void {
    const { lent, system, turns } = this.conversation;
    const run = turns.map(shownRun).findLast((one) => one !== null && !wasGiven(one));
    if (lent !== true || run == null) return;
    const scope = lastPlan(run)[0]?.scope ?? this.preferences.choices.scope;
    this.preferences.lend({ system, scope, sampler: { ...run.sampler }, maxTokens: run.maxTokens });
  }

  /** A conversation from the store; null, with a sentence, where it cannot be had. */
  private async stored(id: string): Promise<Conversation | null> {
    const title = this.heads.find((head) => head.id === id)?.title || "This conversation";
    try {
      const found = await this.store.open(id);
      if (found !== null) return found;
      this.model.failure = { kind: "usage", message: `“${title}” is no longer here: it was deleted, perhaps in another tab. The list now shows what is kept.` };
      await this.refreshHeads();
    } catch (thrown) {
      this.model.failure = { kind: "usage", message: `“${title}” could not be read from the browser's storage (${reasonOf(thrown)}). Reload the page and open it once more.` };
    }
    return null;
  }

  /** `lent`: for the answers of a link, with its settings. */
  async startNew(title = "", lent = false): Promise<void> {
    await this.settle();
    this.enter({ ...newConversation(""), title: titleFrom(title), ...(lent ? { lent } : {}) });
    this.setSystem(this.preferences.choices.system);
  }

  async rename(id: string, title: string): Promise<void> {
    const conversation = id === this.conversation.id ? this.conversation : await this.stored(id);
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

  /** Adds a question with an answer that was given and not run: the conversation goes on from both. */
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

  /** Answers the same question once more, with the sliders as they are now. */
  async again(index: number): Promise<void> {
    if (this.running !== null || this.model.loaded === null) return;
    const turn = this.conversation.turns[index];
    if (turn === undefined) return;
    if (index < this.conversation.turns.length - 1) this.fork(index);
    const run = shownRun(turn);
    const reusable = run !== null && this.unsteeredHolds(run, index);
    if (reusable && samePlan(lastPlan(run), this.plan())) {
      // The same words would come, as nothing was changed: another seed gives others.
      this.preferences.newSeed();
      return this.run(index, [...columns]);
    }
    if (reusable && this.plan().length === 0 && this.sameQuestion(index)) return this.showUnsteered(index, run);
    await this.run(index, reusable ? ["steered"] : [...columns]);
  }

  /** Whether answers of the run can go on, now or once the model is there. */
  goesOn(run: Run): boolean {
    return unfinished(run).length > 0 && (this.model.loaded === null || sameModel(run, this.model.loaded));
  }

  /** Goes on with those answers of the last turn that have not come to their end, as they were written. */
  async goOn(): Promise<void> {
    const index = this.conversation.turns.length - 1;
    const turn = this.conversation.turns[index];
    const run = turn === undefined ? null : shownRun(turn);
    if (this.running !== null || this.model.loaded === null || run === null || !this.goesOn(run)) return;
    await this.run(index, unfinished(run), run);
  }

  /** Shows the unsteered answer in both columns: without a push, nothing has to be written again. */
  private async showUnsteered(index: number, run: Run): Promise<void> {
    const { unsteered } = run.answers;
    const same: Run = { ...run, id: newId(), answers: { unsteered, steered: unsteered } };
    this.changeTurn(index, (turn) => ({ ...turn, runs: [...turn.runs, same], shown: turn.runs.length }));
    this.announcement = readAloud(this.conversation, index, [...columns]);
    await this.keep(this.conversation);
  }

  /** True if both columns go on from the same answers. */
  private sameQuestion(index: number): boolean {
    const [first, second] = columns.map((column) => JSON.stringify(messagesFor(this.conversation, column, index)));
    return first === second;
  }

  /** Asks another question in the same place; the conversation as it was stays in the list. */
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

  /** True if only the steered column has to be run again. */
  private unsteeredHolds(run: Run, index: number): boolean {
    const { sampler, maxTokens } = this.preferences.choices;
    const model = this.model.loaded;
    return (
      model !== null &&
      run.after.join() === runsBefore(this.conversation, index).join() &&
      sameModel(run, model) &&
      run.maxTokens === maxTokens &&
      JSON.stringify(run.sampler) === JSON.stringify(sampler) &&
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
    if (!(await this.store.put(conversation))) {
      const copy = { ...conversation, id: newId(), created: Date.now() };
      const onScreen = this.conversation.id === conversation.id;
      if (onScreen) this.conversation = { ...this.conversation, id: copy.id };
      await this.store.put(copy, conversation.id);
      if (onScreen) this.elsewhere = { message: "This conversation had gone on in another tab, so it goes on here in a copy. Both are in the list of conversations.", open: null };
    }
    await this.refreshHeads();
  }

  /** Writes answers of these columns: new ones, or those of the run that goes `on`. */
  private run(index: number, written: Column[], on: Run | null = null): Promise<void> {
    this.#active = this.perform(index, written, on);
    return this.#active;
  }

  private async perform(index: number, written: Column[], on: Run | null): Promise<void> {
    const model = this.model.loaded;
    const turn = this.conversation.turns[index];
    if (model === null || turn === undefined) return;
    const messages = written.map((column) => messagesFor(this.conversation, column, index));
    const begun = on === null ? this.begin(index, turn, model, written) : again(on, written);
    this.#stopWanted = false;
    this.#sentPlan = lastPlan(begun);
    this.announcement = "";
    this.changeTurn(index, (old) => (on === null ? { ...old, runs: [...old.runs, begun], shown: old.runs.length } : { ...old, runs: old.runs.map((one) => (one.id === on.id ? begun : one)) }));
    this.running = { turn: turn.id, columns: written, phase: { kind: "reading", done: 0, total: 0, secondsLeft: null } };
    // Kept before anything is written: where another tab was here, the answers belong to a copy.
    const [goOn] = await Promise.all([this.makeRoom(), this.keep(this.conversation)]);
    const { id } = this.conversation;
    const onScreen = () => this.conversation.id === id;
    // A slider that moved, or a stop, while room was made holds for this run: the engine knows of no run yet that it could be told for.
    const steered = on === null ? emptyAnswer(this.plan()) : begun.answers.steered;
    this.#sentPlan = steered.segments.at(-1)?.plan ?? [];
    const run = new RunWriter({ ...begun, answers: { ...begun.answers, steered } }, written, {
      show: (now, phase) => {
        if (phase === null) for (const column of written) rememberSpeed(model, this.model.cards, now.answers[column].tokensPerSecond);
        if (onScreen()) this.changeTurn(index, (old) => ({ ...old, runs: old.runs.map((one) => (one.id === now.id ? now : one)) }));
        if (this.running !== null && phase !== null && phase !== this.running.phase) this.running = { ...this.running, phase };
      },
      keep: (parts, number) => this.store.append(id, begun.id, number, parts),
      recovered: (there) => this.model.recovered(there),
    });
    try {
      if (this.#stopWanted) {
        run.breakOff("stopped");
      } else {
        const columnRequests = written.map((column, at): ColumnRequest => {
          const { tokens, segments } = column === "steered" ? steered : begun.answers[column];
          const [first, ...changes] = segments;
          return { column, messages: messages[at] ?? [], plan: first?.plan ?? [], ...(on === null ? {} : { begun: { ids: tokens.map(({ id }) => id), changes } }) };
        });
        run.finish(await this.engine.generate({ columns: columnRequests, sampler: begun.sampler, maxTokens: begun.maxTokens }, run.take));
        if (onScreen()) this.announcement = readAloud(this.conversation, index, written);
      }
    } catch (thrown) {
      this.model.failure = asFailure(thrown);
      run.breakOff("failed");
    } finally {
      this.running = null;
      goOn();
      if (onScreen()) await this.keep(this.conversation);
    }
  }

  /** A run of the turn with nothing written yet; a column that is not written again stays as the run on screen has it. */
  private begin(index: number, turn: Turn, model: LoadedModel, written: readonly Column[]): Run {
    const { sampler, maxTokens } = $state.snapshot(this.preferences.choices);
    const before = written.includes("unsteered") ? null : shownRun(turn);
    return {
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
        ...(model.adapters.length > 0 && { adapters: model.adapters.map(({ name, sha256 }) => ({ name, sha256 })) }),
      },
      answers: { unsteered: before?.answers.unsteered ?? emptyAnswer([]), steered: emptyAnswer(this.plan()) },
      prompt: before?.prompt ?? null,
    };
  }
}

function reasonOf(thrown: unknown): string {
  return thrown instanceof Error && thrown.message !== "" ? thrown.message : String(thrown);
}

/** The run with room for as many tokens again (200 at most), and with these columns open. */
function again(run: Run, written: readonly Column[]): Run {
  const answers = { ...run.answers };
  for (const column of written) answers[column] = { ...answers[column], end: null };
  const longest = Math.max(...columns.map((column) => answers[column].tokens.length));
  return { ...run, maxTokens: longest + Math.min(run.maxTokens, 200), answers };
}

/** Whether the run was made as the model that is loaded would make it: by the same weights in the same way, reading the same traits. */
function sameModel(run: Run, loaded: LoadedModel): boolean {
  const hashes = ({ traits }: Pick<Run["model"] | LoadedModel, "traits">) => traits.map((trait) => trait.hash).join();
  const { sha256, backend, precision, adapters = [] } = run.model;
  const named = run.answers.steered.segments.flatMap(({ plan }) => plan.flatMap(({ trait, operation }) => (operation.kind === "tune" ? [trait] : [])));
  const tuned = adapters.filter(({ name }) => named.includes(name));
  if (!tuned.every((own) => loaded.adapters.some((here) => here.name === own.name && here.sha256 === own.sha256))) return false;
  return sha256 === loaded.sha256 && backend === loaded.backend && precision === loaded.precision && hashes(run.model) === hashes(loaded);
}

/** The plan under which a run's last tokens were written. */
export function lastPlan(run: Run): Plan {
  return run.answers.steered.segments.at(-1)?.plan ?? [];
}
