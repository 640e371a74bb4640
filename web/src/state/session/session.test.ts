import { describe, expect, it } from "vitest";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { Session } from "./session.svelte.ts";

/** A page whose model reads two traits more than it came with: random directions, of which the first is the oldest. */
async function full() {
  const engine = new MockEngine({ tokenMs: 0, loadMs: 0 });
  const session = new Session(engine);
  await session.model.readCatalogue();
  await session.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
  const model = session.model.loaded!;
  session.model.stage = { kind: "ready", model: { ...model, maxTraits: model.traits.length + 2 } };
  for (const seed of [1, 2]) session.model.addTrait(await engine.addRandomTrait("cheerful", seed));
  const [first, second] = session.addedTraits.map(({ name }) => name);
  return { session, engine, first: first!, second: second! };
}

describe("room for another trait", () => {
  it("is made by letting the oldest idle one go", async () => {
    const { session, engine, first, second } = await full();
    await session.makeRoom(1);
    expect(engine.removed).toEqual([first]);
    expect(session.addedTraits.map(({ name }) => name)).toEqual([second]);
    await session.makeRoom(1);
    expect(engine.removed).toEqual([first]);
  });

  it("takes nothing that pushes, colours, or came with the model", async () => {
    const { session, engine, first, second } = await full();
    session.chooseView({ kind: "trait", trait: second });
    session.moveSlider(first, 1);
    const ready = session.traits.length;
    await session.makeRoom(2);
    expect(engine.removed).toEqual([]);
    expect(session.traits).toHaveLength(ready);
    session.moveSlider(first, 0);
    await session.makeRoom(2);
    expect(engine.removed).toEqual([first]);
  });

  it("takes nothing that the visitor made", async () => {
    const { session, engine } = await full();
    await session.model.removeTraits(session.addedTraits.map(({ name }) => name));
    engine.removed.length = 0;
    expect(await session.workshop.importVector(new File([new Uint8Array(3)], "mine.safetensors"))).not.toBeNull();
    await session.makeRoom(2);
    expect(engine.removed).toEqual([]);
  });
});
