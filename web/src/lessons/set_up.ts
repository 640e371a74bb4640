/** Arranges the page as a step of a lesson wants it, beside what the student has. */

import { EngineFailure } from "../engine/failure.ts";
import type { SharedRecipe } from "../engine/protocol.ts";
import type { Session } from "../session/session.svelte.ts";
import type { SetUp } from "./lesson.ts";

const traitNames = (session: Session) => session.traits.map(({ name }) => name).join(", ") || "none";

/**
 * A new conversation (the one on screen stays in the list), sliders, colours and settings as the step
 * says, and its question asked. Needs a loaded model. Settings come back with `preferences.giveBack`.
 */
export async function setUpPage(session: Session, wanted: SetUp, title: string): Promise<void> {
  const found = wanted.link === null ? wanted : await fromLink(session, wanted, wanted.link);
  const { chat, preferences, sliders } = session;
  const needed = [...found.push.keys()].filter((name) => name !== controlName(found.control));
  const colour = found.colourBy;
  if (colour !== null && colour !== "surprise" && colour !== "nothing" && colour !== controlName(found.control)) needed.push(colour);
  if (found.control !== null) needed.push(found.control.like);
  const missing = needed.find((name) => !session.traits.some((trait) => trait.name === name));
  if (missing !== undefined) {
    throw new EngineFailure("usage", `This step needs the trait “${missing}”, which the loaded model does not have (it has ${traitNames(session)}). Load the default model, or make the trait first.`);
  }

  if (found.control !== null && !session.traits.some(({ name }) => name === controlName(found.control))) {
    session.model.addTrait(await session.engine.addRandomTrait(found.control.like, found.control.seed));
  }
  const { temperature, seed, length, system } = found;
  preferences.lend({ sampler: { temperature, seed, topK: 0, topP: 1, repetitionPenalty: 1.1 }, maxTokens: length, system, scope: "all" });
  await chat.startNew(title);
  session.lentPlan = null;
  sliders.reset();
  for (const [trait, coefficient] of found.push) sliders.set(trait, coefficient);
  if (colour !== null) session.chooseView(colour === "surprise" || colour === "nothing" ? { kind: colour } : { kind: "trait", trait: colour });
  session.view.layer = found.layer;
  session.view.insideRun = found.insideRun;
  // Not awaited: the page is set up when the question is asked; the answer takes its time.
  if (found.ask !== null) void chat.ask(found.ask);
}

/** What a random direction is called as a trait of the page. */
export function controlName(control: SetUp["control"]): string | null {
  return control === null ? null : `random ${String(control.seed)} (${control.like})`;
}

/** A link's question, push and settings; its first question alone, because the student writes the answers. */
async function fromLink(session: Session, wanted: SetUp, code: string): Promise<SetUp> {
  const opened = await session.engine.openLink(code);
  if (opened.kind === "newer") throw new EngineFailure("usage", opened.sentence);
  const { recipe } = opened;
  const run = firstRun(recipe);
  const own = recipe.traits.find(({ inline }) => inline !== null);
  if (own !== undefined) {
    throw new EngineFailure("usage", `The link of this step brings a trait of its own (“${own.name}”). Open it on the page Play: #r=${code.slice(0, 24)}…`);
  }
  const push = new Map<string, number>();
  for (const { trait, operation } of run?.plan ?? []) {
    if (operation.kind === "add") push.set(trait, operation.coefficient);
  }
  return {
    ...wanted,
    ask: recipe.messages.find(({ role }) => role === "user")?.text ?? null,
    system: recipe.messages.find(({ role }) => role === "system")?.text ?? "",
    push,
    colourBy: wanted.colourBy ?? recipe.look.trait,
    layer: wanted.layer ?? recipe.look.layer,
    insideRun: wanted.insideRun || recipe.look.insideRun,
    ...(run === null ? {} : { temperature: run.sampler.temperature, seed: run.sampler.seed, length: Math.min(run.maxTokens, 400) }),
  };
}

function firstRun(recipe: SharedRecipe): SharedRecipe["messages"][number]["run"] {
  return recipe.messages.find(({ run }) => run !== null)?.run ?? null;
}
