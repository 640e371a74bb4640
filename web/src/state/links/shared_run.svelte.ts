/** A link that was opened: what it holds, and what this machine makes of it. */

import type { OpenedLink, Plan, Replayed, SharedFile, SharedMessage, SharedRecipe, SharedTerm } from "../../engine/protocol.ts";
import { shownRun } from "../conversation/conversation.ts";
import { asFailure } from "../model/failure.ts";
import { clampLength, clampSampler } from "../model/preferences.svelte.ts";
import type { Session } from "../session/session.svelte.ts";

export class SharedRun {
  opened: OpenedLink | null = $state.raw(null);
  /** Why the link cannot be opened, as a sentence. */
  refused: string | null = $state(null);
  replayed: Replayed | null = $state.raw(null);
  progress: { done: number; total: number } | null = $state.raw(null);
  /** Why it was not replayed. */
  problem: string | null = $state(null);
  #code = "";
  /** Names, as they are here, of traits that came with this link. */
  #brought: string[] = [];

  constructor(private readonly session: Session) {}

  get recipe(): SharedRecipe | null {
    return this.opened?.kind === "recipe" ? this.opened.recipe : null;
  }

  /** Adapters that the link was made with and that are not here; it can then be looked at only. */
  get missing(): readonly SharedFile[] {
    const here = this.session.adapters.map(({ sha256 }) => sha256);
    return this.recipe?.adapters.filter(({ sha256 }) => !here.includes(sha256)) ?? [];
  }

  async open(code: string): Promise<void> {
    this.close();
    this.#code = code;
    this.opened = this.replayed = this.progress = null;
    this.refused = this.problem = null;
    try {
      const opened = await this.session.engine.openLink(code);
      if (this.#code === code) this.opened = opened;
    } catch (thrown) {
      if (this.#code === code) this.refused = asFailure(thrown).message;
    }
  }

  /** Forces the author's tokens through the loaded model. */
  async replay(): Promise<void> {
    const { recipe } = this;
    const code = this.#code;
    if (recipe === null || this.progress !== null) return;
    this.problem = null;
    this.progress = { done: 0, total: 0 };
    try {
      await this.session.makeRoom(recipe.traits.filter(({ hash }) => !this.session.traits.some((trait) => trait.hash === hash)).length);
      const replayed = await this.session.engine.replayLink(code, ({ done, total }) => {
        if (this.#code === code) this.progress = { done, total };
      });
      for (const trait of replayed.added) this.session.model.addTrait(trait);
      const brought = replayed.added.map(({ name }) => name);
      if (this.#code !== code) return void this.session.model.removeTraits(brought);
      this.#brought = [...this.#brought, ...brought];
      this.replayed = replayed;
    } catch (thrown) {
      if (this.#code === code) this.problem = asFailure(thrown).message;
    } finally {
      if (this.#code === code) this.progress = null;
    }
  }

  /** Ends the replay, and removes the traits that came with the link: the model has room for few. */
  close(): void {
    // Only its own work is stopped: a replay that waits for an answer must not end that.
    if (this.progress !== null && this.progress.total > 0) void this.stop();
    this.#code = "";
    if (this.#brought.length > 0) void this.session.model.removeTraits(this.#brought);
    this.#brought = [];
  }

  async stop(): Promise<void> {
    await this.session.engine.stop();
  }

  /** A sentence about what “Run it yourself” does otherwise than the author did; null where that is nothing. */
  get otherwise(): string | null {
    const moved = this.recipe?.messages.some(({ run }) => run !== null && run.changes.length > 0) ?? false;
    return moved ? "The author moved sliders while an answer was being written. “Run it yourself” has them from the start where they stood at its end." : null;
  }

  /** Brings the link's own traits here where no replay has; false, and a problem, where that fails. */
  async prepare(): Promise<boolean> {
    const { recipe } = this;
    if (recipe === null || this.session.model.loaded === null) return false;
    if (turnsOf(recipe) === null) {
      this.problem = "Questions and answers do not alternate in this link, so it can be looked at and replayed, but not asked again.";
      return false;
    }
    if (this.replayed === null && recipe.traits.some(({ inline }) => inline !== null)) await this.replay();
    return this.replayed !== null || this.problem === null;
  }

  /**
   * Asks the same questions in a new conversation, which keeps the author's settings; from there every control works. The
   * link's traits stay: they push here now.
   */
  async runHere(): Promise<void> {
    const { session, recipe, replayed } = this;
    const turns = recipe === null ? null : turnsOf(recipe);
    if (recipe === null || turns === null || session.model.loaded === null) return;
    this.#brought = [];
    const nameHere = ({ trait: name, operation }: SharedTerm) => {
      if (operation.kind === "tune") {
        const adapter = recipe.adapters.find((one) => one.name === name);
        return session.adapters.find(({ sha256 }) => sha256 === adapter?.sha256)?.name ?? name;
      }
      return replayed?.traits[recipe.traits.findIndex((trait) => trait.name === name)] ?? name;
    };
    const { chat, preferences } = session;
    await chat.startNew(recipe.look.title, true);
    const conversation = chat.conversation.id;
    const { sampler, maxTokens, scope } = $state.snapshot(preferences.choices);
    preferences.lend({ system: recipe.messages.find(({ role }) => role === "system")?.text ?? "", sampler, maxTokens, scope });
    chat.setSystem(preferences.choices.system);
    this.look();
    for (const { question, answer } of turns) {
      const { run } = answer;
      if (run === null) {
        chat.give(question.text, answer.tokens ?? [{ id: 0, text: answer.text }]);
        continue;
      }
      const plan = planHere(run.changes.at(-1)?.plan ?? run.plan, nameHere);
      preferences.lend({ ...preferences.choices, scope: plan[0]?.scope ?? scope, sampler: clampSampler(run.sampler), maxTokens: clampLength(run.maxTokens) });
      session.takePlan(plan);
      await chat.ask(question.text);
      const written = chat.conversation.turns.at(-1);
      const end = written === undefined ? null : shownRun(written)?.answers.steered.end;
      // Stopped, broken off, or left for another conversation: the visitor goes on alone.
      if (chat.conversation.id !== conversation || end === "stopped" || end === "failed") return;
    }
  }

  /** Colours by what the author wants looked at. */
  private look(): void {
    const { session, recipe, replayed } = this;
    const look = recipe?.look;
    if (recipe === null || look == null || look.trait === null) return;
    const name = replayed?.traits[recipe.traits.findIndex((trait) => trait.name === look.trait)] ?? look.trait;
    session.chooseView({ kind: "trait", trait: name });
    session.view.layer = look.layer;
    session.view.insideRun = look.insideRun;
  }
}

/** Questions with their answers; null where the messages do not alternate. A question without an answer at the end stays out. */
function turnsOf(recipe: SharedRecipe): { question: SharedMessage; answer: SharedMessage }[] | null {
  const messages = recipe.messages.filter(({ role }) => role !== "system");
  const turns = [];
  for (let at = 0; at + 1 < messages.length; at += 2) {
    const [question, answer] = [messages[at], messages[at + 1]];
    if (question?.role !== "user" || answer?.role !== "assistant") return null;
    turns.push({ question, answer });
  }
  return turns;
}

function planHere(plan: readonly SharedTerm[], nameHere: (term: SharedTerm) => string): Plan {
  return plan.map((term) => ({ ...term, trait: nameHere(term) }));
}
