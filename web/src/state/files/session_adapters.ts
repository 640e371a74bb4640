/**
 * Adapters in a session's file: their two files, and what they were said to be made of. Losses, shifts and answers are not carried:
 * they would be taken on trust from whoever made the file, and can be measured again. Nor is an unfinished run.
 */

import type { Lab } from "../training/lab.svelte.ts";
import { nameFor, noHistory, type TrainingRun } from "../training/training_run.ts";
import { newId } from "../conversation/conversation.ts";
import { bytes, number, object, text } from "../untrusted/fields.ts";

export interface SavedAdapter {
  name: string;
  /** What it was trained on, in words. */
  about: string;
  model: { name: string; sha256: string };
  rank: number;
  alpha: number;
  /** sha256 of the weights, as the file says; the engine computes it anew when the adapter gets its slider. */
  sha256: string;
  config: Uint8Array;
  weights: Uint8Array;
}

export async function savedAdapters(lab: Lab): Promise<SavedAdapter[]> {
  const all = await Promise.all(
    lab.runs.map(async ({ id, name, dataset, model, settings, adapter }) => {
      const files = adapter === null ? null : await lab.files(id);
      if (adapter === null || files === null) return [];
      return [{ name, about: dataset.title, model, rank: settings.rank ?? 0, alpha: settings.alpha ?? 0, sha256: adapter, ...files }];
    }),
  );
  return all.flat();
}

export function readAdapter(value: unknown, where: string): SavedAdapter {
  const { name, about, model, rank, alpha, sha256, config, weights } = object(value, where);
  const of = object(model, `${where}, model`);
  return {
    name: text(name, where, 120),
    about: text(about, where, 4000),
    model: { name: text(of["name"], where, 500), sha256: text(of["sha256"], where, 64) },
    rank: Math.round(number(rank, where, 0, 1e5)),
    alpha: number(alpha, where, 0, 1e6),
    sha256: text(sha256, where, 64),
    config: bytes(config, `${where}, settings`),
    weights: bytes(weights, `${where}, weights`),
  };
}

/** Adds adapters to the lab and gives their number; those that are there already stay out. */
export async function adoptAdapters(found: readonly SavedAdapter[], lab: Lab): Promise<number> {
  let added = 0;
  for (const saved of found) {
    if (lab.runs.some(({ adapter, model }) => adapter === saved.sha256 && model.sha256 === saved.model.sha256)) continue;
    const names = lab.runs.map(({ name }) => name);
    const run: TrainingRun = {
      id: newId(),
      updated: Date.now(),
      name: nameFor(saved.name, { kind: "plain" }, { kind: "all" }, names),
      model: saved.model,
      dataset: { name: "file", title: saved.about, sha256: "", rows: 0, trait: null },
      selection: { kind: "all" },
      method: { kind: "plain" },
      settings: { rank: saved.rank, alpha: saved.alpha },
      history: noHistory,
      steps: null,
      seconds: 0,
      tokens: 0,
      adapter: saved.sha256,
      used: true,
      moved: null,
      imported: true,
    };
    await lab.store.put(run);
    await lab.store.putPart(run.id, "config", saved.config);
    await lab.store.putPart(run.id, "weights", saved.weights);
    lab.runs = [run, ...lab.runs];
    added += 1;
  }
  if (added > 0) await lab.addSliders();
  return added;
}
