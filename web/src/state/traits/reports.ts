/** Reports of ready-made traits, each asked for once: they hold every response and do not change. */

import type { Engine, Trait } from "../../engine/protocol.ts";
import type { TraitReport } from "../../engine/traits_protocol.ts";

const asked = new WeakMap<Engine, Map<string, Promise<TraitReport | null>>>();

/** The report of a trait; null where none was made yet. One that could not be read is asked for again. */
export function reportOf(engine: Engine, { name, hash }: Pick<Trait, "name" | "hash">): Promise<TraitReport | null> {
  const known = asked.get(engine) ?? new Map<string, Promise<TraitReport | null>>();
  asked.set(engine, known);
  const key = `${name} ${hash}`;
  const earlier = known.get(key);
  if (earlier !== undefined) return earlier;
  const report = engine.traitReport(name);
  known.set(key, report);
  report.catch(() => known.delete(key));
  return report;
}
