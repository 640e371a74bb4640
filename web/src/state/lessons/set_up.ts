/** Arranges the page as a step of a lesson wants it, beside what the student has. */

import { EngineFailure } from "../../engine/failure.ts";
import type { Plan, SharedRecipe } from "../../engine/protocol.ts";
import type { HeatView } from "../session/heat_view.ts";
import { clampLength, clampSampler, type RunSettings } from "../model/preferences.svelte.ts";
import type { Session } from "../session/session.svelte.ts";
import type { Lesson, SetUp } from "./lesson.ts";

/** Longest answer that a lesson's link may ask for, so that a class does not wait. */
const longest = 400;

/** A step's arrangement of the page, from its own words or from a link. */
interface Arrangement {
  ask: string | null;
  settings: RunSettings;
  plan: Plan;
  colourBy: HeatView["by"] | null;
  layer: number | null;
  insideRun: boolean;
}

const traitNames = (session: Session) => session.traits.map(({ name }) => name).join(", ") || "none";

/**
 * Begins a new conversation (the one on screen stays in the list), sets sliders, colours and settings as the step
 * says, and asks its question. Needs a loaded model. `preferences.giveBack` brings the visitor's settings back.
 */
export async function setUpPage(session: Session, wanted: SetUp, title: string): Promise<void> {
  const { control } = wanted;
  const found = wanted.link === null ? written(wanted) : fromRecipe(session, wanted, await recipeOf(session, wanted.link));
  const needed = found.plan.map(({ trait }) => trait);
  if (found.colourBy?.kind === "trait") needed.push(found.colourBy.trait);
  if (control !== null) needed.push(control.like);
  const missing = needed.find((name) => name !== controlName(control) && !session.traits.some((trait) => trait.name === name));
  if (missing !== undefined) {
    throw new EngineFailure("usage", `This step needs the trait “${missing}”, which the loaded model does not have (it has ${traitNames(session)}). Load the default model, or make the trait first.`);
  }

  if (control !== null && !session.traits.some(({ name }) => name === controlName(control))) {
    await session.makeRoom(1);
    session.model.addTrait(await session.engine.addRandomTrait(control.like, control.seed));
  }
  const { chat, preferences, view } = session;
  await chat.startNew(title);
  preferences.lend(found.settings);
  chat.setSystem(found.settings.system);
  session.takePlan(found.plan);
  if (found.colourBy !== null) session.chooseView(found.colourBy);
  view.layer = found.layer;
  view.insideRun = found.insideRun;
  // The answer is not awaited: the page is set up when the question is asked.
  if (found.ask !== null) void chat.ask(found.ask);
}

/**
 * Lends the settings that hold at a step: those of its own set-up or of the nearest one before it, which a reload or a jump in the
 * list of lessons may have passed over. Without any, the student's own stay.
 */
export async function lendSettings(session: Session, lesson: Lesson, step: number): Promise<void> {
  const setUp = lesson.steps.slice(0, step + 1).findLast((one) => one.setUp !== null)?.setUp;
  if (setUp == null) return;
  session.preferences.lend(setUp.link === null ? settingsOf(setUp) : settingsOfLink(await recipeOf(session, setUp.link)));
}

/** The name of a random direction as a trait of the page. */
export function controlName(control: SetUp["control"]): string | null {
  return control === null ? null : `random ${String(control.seed)} (${control.like})`;
}

function settingsOf({ temperature, seed, length, system }: SetUp): RunSettings {
  return { sampler: { temperature, seed, topK: 0, topP: 1, repetitionPenalty: 1.1 }, maxTokens: length, system, scope: "all" };
}

function written(wanted: SetUp): Arrangement {
  const { ask, push, colourBy, layer, insideRun } = wanted;
  return {
    ask,
    settings: settingsOf(wanted),
    plan: [...push].map(([trait, coefficient]) => ({ trait, operation: { kind: "add", coefficient }, scope: "all" })),
    colourBy: colourBy === null ? null : viewOf(colourBy),
    layer,
    insideRun,
  };
}

function viewOf(colourBy: string): HeatView["by"] {
  return colourBy === "surprise" || colourBy === "nothing" ? { kind: colourBy } : { kind: "trait", trait: colourBy };
}

async function recipeOf(session: Session, code: string): Promise<SharedRecipe> {
  const opened = await session.engine.openLink(code);
  if (opened.kind === "newer") throw new EngineFailure("usage", opened.sentence);
  return opened.recipe;
}

function firstRun(recipe: SharedRecipe): NonNullable<SharedRecipe["messages"][number]["run"]> {
  const run = recipe.messages.find((message) => message.run !== null)?.run;
  if (run == null) throw new EngineFailure("usage", "The link of this step has no answer that a run wrote, so that there is nothing to set up. Ask whoever wrote the lesson for another link.");
  return run;
}

function settingsOfLink(recipe: SharedRecipe): RunSettings {
  const { sampler, maxTokens } = firstRun(recipe);
  const system = recipe.messages.find(({ role }) => role === "system")?.text ?? "";
  return { sampler: clampSampler(sampler), maxTokens: Math.min(clampLength(maxTokens), longest), system, scope: "all" };
}

/** A link's question, push and settings; its first question alone, because the student writes the answers. */
function fromRecipe(session: Session, wanted: SetUp, recipe: SharedRecipe): Arrangement {
  const own = recipe.traits.find(({ inline }) => inline !== null);
  if (own !== undefined) {
    throw new EngineFailure("usage", `The link of this step brings a trait of its own (“${own.name}”), which a lesson cannot set up. Open the link itself, and press “Run it yourself” there.`);
  }
  const nameHere = (name: string) => {
    const hash = recipe.traits.find((trait) => trait.name === name)?.hash;
    const here = session.traits.find((trait) => trait.hash === hash);
    if (here !== undefined) return here.name;
    throw new EngineFailure("usage", `The link of this step uses a vector of the trait “${name}” that the loaded model does not have here. Load the default model, or ask whoever wrote the lesson for a newer link.`);
  };
  const looked = recipe.look.trait;
  const given = wanted.colourBy === null ? null : viewOf(wanted.colourBy);
  return {
    ask: recipe.messages.find(({ role }) => role === "user")?.text ?? null,
    settings: settingsOfLink(recipe),
    plan: firstRun(recipe).plan.map((term) => ({ ...term, trait: nameHere(term.trait) })),
    colourBy: given ?? (looked === null ? null : { kind: "trait", trait: nameHere(looked) }),
    layer: wanted.layer ?? recipe.look.layer,
    insideRun: wanted.insideRun || recipe.look.insideRun,
  };
}
