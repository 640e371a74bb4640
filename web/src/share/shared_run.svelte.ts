/** A link that was opened: what it holds, and what this machine makes of it. */

import type { OpenedLink, Plan, Replayed, SharedRecipe, SharedTerm } from "../engine/protocol.ts";
import { asFailure } from "../session/failure.ts";
import type { Session } from "../session/session.svelte.ts";

export class SharedRun {
  opened: OpenedLink | null = $state.raw(null);
  /** A sentence, where the link cannot be opened. */
  refused: string | null = $state(null);
  replayed: Replayed | null = $state.raw(null);
  progress: { done: number; total: number } | null = $state.raw(null);
  /** Why it was not replayed. */
  problem: string | null = $state(null);
  #code = "";

  constructor(private readonly session: Session) {}

  get recipe(): SharedRecipe | null {
    return this.opened?.kind === "recipe" ? this.opened.recipe : null;
  }

  async open(code: string): Promise<void> {
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
    const code = this.#code;
    if (this.recipe === null || this.progress !== null) return;
    this.problem = null;
    this.progress = { done: 0, total: 0 };
    try {
      const replayed = await this.session.engine.replayLink(code, ({ done, total }) => {
        if (this.#code === code) this.progress = { done, total };
      });
      for (const trait of replayed.added) this.session.model.addTrait(trait);
      if (this.#code === code) this.replayed = replayed;
    } catch (thrown) {
      if (this.#code === code) this.problem = asFailure(thrown).message;
    } finally {
      if (this.#code === code) this.progress = null;
    }
  }

  async stop(): Promise<void> {
    await this.session.engine.stop();
  }

  /** Asks the same questions in a new conversation, with the author's settings; from there every control works. */
  async runHere(): Promise<void> {
    const { session, recipe, replayed } = this;
    if (recipe === null || session.model.loaded === null) return;
    const nameHere = (name: string) => replayed?.traits[recipe.traits.findIndex((trait) => trait.name === name)] ?? name;
    const choices = session.preferences.choices;
    const system = recipe.messages.find(({ role }) => role === "system")?.text ?? "";
    await session.chat.startNew();
    session.chat.setSystem(system);
    this.look();
    for (const [index, message] of recipe.messages.entries()) {
      const run = recipe.messages[index + 1]?.run;
      if (message.role !== "user" || run == null) continue;
      choices.sampler = { ...run.sampler };
      choices.maxTokens = run.maxTokens;
      session.takePlan(planHere(run.plan, nameHere));
      await session.chat.ask(message.text);
      if (session.model.failure !== null) return;
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

function planHere(plan: readonly SharedTerm[], nameHere: (name: string) => string): Plan {
  return plan.map((term) => ({ ...term, trait: nameHere(term.trait) }));
}
