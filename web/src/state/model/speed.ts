/** How fast weights are read here when a token is written: what a model of another size will do can be told from it. */
import type { LoadedModel, ModelCard } from "../../engine/protocol.ts";

const KEY = "trimtab.speed";

/** Bytes of weights a second, by the executor that read them. */
type Speeds = Partial<Record<LoadedModel["backend"], number>>;

function read(): Speeds {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "{}") as unknown;
    const entries = typeof found === "object" && found !== null ? Object.entries(found) : [];
    return Object.fromEntries(entries.filter(([, speed]) => typeof speed === "number" && Number.isFinite(speed) && speed > 0)) as Speeds;
  } catch {
    return {};
  }
}

/** Keeps what an answer took, if it says anything: every token reads all weights once. */
export function rememberSpeed({ backend, sha256 }: LoadedModel, cards: readonly ModelCard[], tokensPerSecond: number | null): void {
  const bytes = cards.find((card) => card.sha256 === sha256)?.downloadBytes;
  if (bytes === undefined || tokensPerSecond === null || !(tokensPerSecond > 0)) return;
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...read(), [backend]: bytes * tokensPerSecond }));
  } catch {
    // Then nothing is told beforehand.
  }
}

/** Tokens a second to expect of a model of so many bytes; null where nothing was measured here. */
export function expectedSpeed(bytes: number, backend: LoadedModel["backend"]): number | null {
  const speed = read()[backend];
  return speed === undefined ? null : speed / bytes;
}
