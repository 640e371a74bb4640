/**
 * The visitor's own traits in a session's file: the pack, the contrast set, and the vector of one that came as a vector. What is
 * computed from these (the vector, its tests) is not carried: it would be taken on trust from whoever made the file.
 */

import type { Engine, ResponseSettings, Thresholds, TraitPack } from "../../engine/protocol.ts";
import { newOwnTrait, type OwnTrait } from "../traits/own_trait.ts";
import type { Workshop } from "../traits/workshop.svelte.ts";
import { bytes, FileError, number, object, text } from "../untrusted/fields.ts";

export interface SavedTrait {
  imported: boolean;
  /** The pack as the file has it; the engine checks it before it is used. */
  pack: unknown;
  settings: ResponseSettings;
  thresholds: Thresholds;
  model: { name: string; sha256: string } | null;
  contrast: Uint8Array | null;
  vector: Uint8Array | null;
}

export async function savedTraits(workshop: Workshop): Promise<SavedTrait[]> {
  return Promise.all(
    workshop.traits.map(async ({ id, imported = false, pack, settings, thresholds, model }) => ({
      imported,
      pack,
      settings,
      thresholds,
      model,
      contrast: imported ? null : await workshop.file(id, "contrast"),
      vector: imported ? await workshop.file(id, "vector") : null,
    })),
  );
}

export function readTrait(value: unknown, where: string): SavedTrait {
  const { imported, pack, settings, thresholds, model, contrast, vector } = object(value, where);
  const { pairs, questions, maxTokens, temperature, seed } = object(settings, `${where}, settings`);
  const { evidence, deviations, distinct2 } = object(thresholds, `${where}, thresholds`);
  const of = model === null || model === undefined ? null : object(model, `${where}, model`);
  const optional = (one: unknown, name: string) => (one === null || one === undefined ? null : bytes(one, `${where}, ${name}`));
  return {
    imported: imported === true,
    pack: object(pack, `${where}, pack`),
    settings: {
      pairs: Math.round(number(pairs, where, 0, 1000)),
      questions: Math.round(number(questions, where, 0, 10_000)),
      maxTokens: Math.round(number(maxTokens, where, 1, 10_000)),
      temperature: number(temperature, where, 0, 100),
      seed: Math.round(number(seed, where, 0, 0xffff_ffff)),
    },
    thresholds: { evidence: number(evidence, where), deviations: number(deviations, where), distinct2: number(distinct2, where) },
    model: of === null ? null : { name: text(of["name"], where, 500), sha256: text(of["sha256"], where, 200) },
    contrast: optional(contrast, "contrast set"),
    vector: optional(vector, "vector"),
  };
}

/** Adds traits to the workshop and gives their number. One whose name is taken stays out: nothing of the visitor's is overwritten. */
export async function adoptTraits(found: readonly SavedTrait[], workshop: Workshop, engine: Engine): Promise<number> {
  let added = 0;
  for (const saved of found) {
    const pack = saved.imported ? importedPack(saved.pack) : await engine.checkTrait(JSON.stringify(saved.pack));
    if (workshop.find(pack.name) !== null || workshop.isReadyMade(pack.name)) continue;
    const set = saved.contrast === null ? null : await engine.openContrast(saved.contrast);
    const trait: OwnTrait = {
      ...newOwnTrait(pack),
      ...(saved.imported ? { imported: true } : {}),
      settings: set?.settings ?? saved.settings,
      thresholds: saved.thresholds,
      model: saved.model,
      responses: set?.responses ?? [],
      complete: set?.complete ?? false,
    };
    await workshop.store.put(trait);
    if (saved.contrast !== null) await workshop.store.putPart(trait.id, "contrast", saved.contrast);
    if (saved.vector !== null) await workshop.store.putPart(trait.id, "vector", saved.vector);
    workshop.traits = [trait, ...workshop.traits];
    added += 1;
  }
  if (added > 0) await workshop.addSliders();
  return added;
}

/** A trait that came as a vector has no more than what its card says. */
function importedPack(value: unknown): TraitPack {
  const { name, opposite, description } = object(value, "a trait");
  const plain = text(name, "a trait's name", 128);
  if (!/^[a-z][a-z0-9-]*$/.test(plain)) throw new FileError("The file is damaged: a trait's name should be lower-case letters, digits and hyphens.");
  return { name: plain, opposite: text(opposite, "a trait's opposite", 128), description: text(description, "a trait's description", 4000), instructions: [], questions: { extraction: [], evaluation: [] }, licence: "NOASSERTION" };
}
