import type { Engine } from "../../engine/protocol.ts";
import type { ModelState } from "../model/model.svelte.ts";

/** The engine as scripts meet it (`globalThis.trimtab`); the page shows the models and traits that they load. */
export function automation(engine: Engine, model: ModelState): Engine {
  return {
    ...engine,
    async load(source, options, onProgress) {
      const loaded = await engine.load(source, options, onProgress);
      model.adopt(source, loaded);
      return loaded;
    },
    async addVector(name, file) {
      const trait = await engine.addVector(name, file);
      model.addTrait(trait);
      return trait;
    },
    async addRandomTrait(like, seed) {
      const trait = await engine.addRandomTrait(like, seed);
      model.addTrait(trait);
      return trait;
    },
    async replayLink(link, onEvent) {
      const replayed = await engine.replayLink(link, onEvent);
      for (const trait of replayed.added) model.addTrait(trait);
      return replayed;
    },
    removeTraits: (names) => model.removeTraits(names),
    async addAdapter(name, config, weights) {
      const adapter = await engine.addAdapter(name, config, weights);
      model.addAdapter(adapter);
      return adapter;
    },
    removeAdapters: (names) => model.removeAdapters(names),
  };
}
