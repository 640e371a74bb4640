/** A recipe of the run on screen, as a link carries it. */

import type { LoadedModel, Plan, SharedFile, SharedMessage, SharedRecipe, SharedTerm, SharedTrait, Token } from "../../engine/protocol.ts";
import { EngineFailure } from "../../engine/failure.ts";
import { type HeatView, readingAt } from "../session/heat_view.ts";
import { type Answer, answerText, type Column, type Conversation, type Run, shownRun, wasGiven } from "../conversation/conversation.ts";

export interface RecipeSource {
  conversation: Conversation;
  /** Index of the last turn that is shared. */
  last: number;
  /** The columns whose answers are shared. */
  columns: Column | "both";
  view: HeatView;
  title: string;
  note: string;
  /** Index of the token of the last answer that the link points at. */
  token: number | null;
}

/** The recipe, or null where there is no answer to share; throws a sentence where a link could not hold what wrote it. `readyMade` are hashes of vectors that everybody has; others travel in the link. */
export function sharedRecipe(shared: RecipeSource, model: LoadedModel, readyMade: readonly string[]): SharedRecipe | null {
  const { conversation, last, columns, view } = shared;
  const end = conversation.turns[last];
  const final = end === undefined ? null : shownRun(end);
  if (final === null) return null;
  if (final.model.sha256 !== model.sha256) throw new EngineFailure("usage", `These answers were written by ${final.model.name}, and another model is loaded. Load that one to share them.`);
  // Turns before the last one are shared with the runs that it went on from, which need not be those on screen now.
  const answered = conversation.turns.slice(0, last + 1).flatMap((turn) => {
    const run = turn === end ? final : turn.runs.find(({ id }) => final.after.includes(id));
    return run === undefined ? [] : [{ user: turn.user, run }];
  });

  const looked = view.by.kind === "trait" ? view.by.trait : null;
  const layerOf = (run: Run) => view.layer ?? run.model.traits.find(({ name }) => name === looked)?.layers[0] ?? null;
  const main = columns === "both" ? "steered" : columns;
  const insideRun = main === "steered" && view.insideRun;
  const messages: SharedMessage[] = [];
  if (conversation.system.trim() !== "") messages.push({ role: "system", text: conversation.system, tokens: null, run: null });
  for (const { user, run } of answered) {
    const trait = run.model.traits.findIndex(({ name }) => name === looked);
    const layer = layerOf(run) ?? 0;
    const prompt = run.prompt;
    messages.push({
      role: "user",
      text: user,
      tokens: prompt === null ? null : tokensOf(prompt.tokens, user, (index) => readingAt(prompt.block, index, trait, layer)),
      run: null,
    });
    const message = (answer: Answer): SharedMessage => {
      const block = insideRun ? answer.inRun : answer.reread;
      const [first, ...changes] = answer.segments;
      return {
        role: "assistant",
        text: answerText(answer),
        tokens: tokensOf(
          answer.tokens.filter(({ part }) => part === "response"),
          answerText(answer),
          (index) => readingAt(block, index, trait, layer),
        ),
        // An answer by another model, or by this one in other arithmetic, is shared as text: it cannot be replayed.
        run: run.model.sha256 !== final.model.sha256 || run.model.precision !== final.model.precision ? null : {
          sampler: { ...run.sampler },
          maxTokens: run.maxTokens,
          plan: termsOf(first?.plan ?? [], run),
          changes: changes.map(({ fromToken, plan }) => ({ fromToken, plan: termsOf(plan, run) })),
          end: answer.end === null || answer.end === "failed" || answer.end === "cut" ? "stopped" : answer.end,
        },
      };
    };
    // Both columns have the same answer where the author of a link gave it.
    messages.push({ ...message(run.answers[main]), ...(columns === "both" && !wasGiven(run) ? { beside: message(run.answers.unsteered) } : {}) });
  }

  const layer = layerOf(final);
  const answer = messages.length - 1;
  const pointed = shared.token !== null && messages[answer]?.tokens?.[shared.token] !== undefined ? { message: answer, token: shared.token } : null;
  const traits = traitsOf(messages, hashesOf(answered.map(({ run }) => run).filter((run) => run.model.sha256 === final.model.sha256)), looked, layer, model, readyMade);
  return {
    model: { name: final.model.name, sha256: final.model.sha256 },
    precision: final.model.precision === "exact" ? "exact" : "fast",
    adapters: adaptersOf(messages, answered.map(({ run }) => run)),
    files: [],
    traits,
    messages,
    look: { trait: traits.some(({ name }) => name === looked) ? looked : null, layer: looked === null ? null : layer, token: pointed, insideRun, title: shared.title, note: shared.note },
  };
}

/** Tokens as a link carries them; null where they are not the text's (a template may have changed it), which is then tokenised again. */
function tokensOf(tokens: Token[], text: string, reading: (index: number) => number | null): SharedMessage["tokens"] {
  if (tokens.map((token) => token.text).join("") !== text) return null;
  return tokens.map(({ id, text }, index) => ({ id, text, reading: reading(index) }));
}

function termsOf(plan: Plan, run: Run): SharedTerm[] {
  return plan.map((term) => (term.operation.kind === "tune" ? term : { ...term, layers: term.layers ?? run.model.traits.find(({ name }) => name === term.trait)?.layers ?? [] }));
}

/** The adapters that plans name, by the hashes that they had when the answers were written. */
function adaptersOf(messages: readonly SharedMessage[], runs: readonly Run[]): SharedFile[] {
  const plans = messages.flatMap(({ run }) => (run === null ? [] : [run.plan, ...run.changes.map((change) => change.plan)]));
  const names = new Set(plans.flat().flatMap(({ trait, operation }) => (operation.kind === "tune" ? [trait] : [])));
  return [...names].map((name) => {
    const hashes = new Set(runs.flatMap(({ model }) => model.adapters ?? []).flatMap((one) => (one.name === name ? [one.sha256] : [])));
    const [sha256, ...others] = hashes;
    // One of them would be shared as what the other wrote.
    if (sha256 === undefined || others.length > 0) throw new EngineFailure("usage", `The adapter “${name}” was another one in some of these answers, or is not known any more. Ask again in a new conversation, and share that.`);
    return { name, sha256 };
  });
}

/** Hashes of the vectors that wrote the answers, by trait. */
function hashesOf(runs: readonly Run[]): ReadonlyMap<string, ReadonlySet<string>> {
  const hashes = new Map<string, Set<string>>();
  for (const { name, hash } of runs.flatMap((run) => run.model.traits)) hashes.set(name, (hashes.get(name) ?? new Set()).add(hash));
  return hashes;
}

function traitsOf(messages: SharedMessage[], hashes: ReadonlyMap<string, ReadonlySet<string>>, looked: string | null, lookedLayer: number | null, model: LoadedModel, readyMade: readonly string[]): SharedTrait[] {
  const layers = new Map<string, Set<number>>();
  const use = (name: string, more: readonly number[]) => {
    const known = layers.get(name) ?? new Set();
    for (const layer of more) known.add(layer);
    layers.set(name, known);
  };
  for (const { run } of messages) {
    for (const plan of run === null ? [] : [run.plan, ...run.changes.map((change) => change.plan)]) {
      for (const term of plan) if (term.operation.kind !== "tune") use(term.trait, term.layers ?? []);
    }
  }
  if (looked !== null) use(looked, lookedLayer === null ? [] : [lookedLayer]);
  return [...layers].flatMap(([name, used]): SharedTrait[] => {
    const [hash, ...others] = hashes.get(name) ?? [];
    // One of its vectors would be shared as what the other wrote.
    if (others.length > 0) throw new EngineFailure("usage", `The trait “${name}” was made anew between these answers, and a link holds one vector of each name. Ask again in a new conversation, and share that.`);
    const trait = model.traits.find((one) => one.name === name && one.hash === hash);
    if (hash !== undefined && readyMade.includes(hash)) return [{ name, hash, inline: null, ...(trait === undefined ? {} : { range: [trait.recommended.min, trait.recommended.max] }) }];
    if (trait === undefined) throw new EngineFailure("usage", `The vector of “${name}” that wrote these answers is no longer here: the trait was made anew, or removed. Ask again with the sliders as they are now, and share that.`);
    const { opposite, description, recommended } = trait;
    const inline = { opposite, description, made: trait.made, layers: [...used].sort((a, b) => a - b), min: recommended.min, max: recommended.max };
    return [{ name, hash: null, inline }];
  });
}
