import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../App.svelte";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { Session } from "../../state/session/session.svelte.ts";
import { memoryStore } from "../../state/storage/conversations.ts";
import { sizeOf } from "./sizes.ts";

beforeEach(() => {
  localStorage.clear();
  vi.stubGlobal("fetch", async () => new Response("{}", { headers: { "content-type": "application/json" } }));
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe("what is stored", () => {
  it("is listed with its size, and removed; what is the visitor's own after being asked", async () => {
    const engine = new MockEngine({ tokenMs: 0, loadMs: 0, cached: true });
    engine.stored = [
      { sha256: "a", bytes: 98_000_000, model: "smollm2-135m-instruct" },
      { sha256: "b", bytes: 50_000_000, model: null },
    ];
    localStorage.setItem("trimtab.own-lessons", JSON.stringify([{ name: "own-1", text: "trimtab lesson: 1" }]));
    const session = new Session(engine, memoryStore());
    await session.model.readCatalogue();
    await session.loadAgain();
    await session.chat.ask("Hello?");
    await session.workshop.draft("sea-dog", "Talks like an old sailor.", "city clerk", "");
    render(App, { session });
    await fireEvent.click(screen.getByRole("button", { name: "Conversations" }));
    await fireEvent.click(await screen.findByRole("button", { name: "What is stored here" }));
    const dialog = within(await screen.findByRole("dialog", { name: "What is stored here" }));
    expect(await dialog.findByText(/model, 98 MB/)).toBeTruthy();
    expect(await dialog.findByText(/no longer offers, 50 MB/)).toBeTruthy();
    expect(dialog.getByText(/your own trait/)).toBeTruthy();

    await fireEvent.click(dialog.getByRole("button", { name: "Remove Earlier models" }));
    await waitFor(() => expect(engine.stored.map(({ sha256 }) => sha256)).toEqual(["a"]));
    for (const [name, gone] of [
      ["sea-dog", () => session.workshop.traits.length === 0],
      ["Conversations", () => session.chat.heads.length === 0],
      ["Your own lessons", () => localStorage.getItem("trimtab.own-lessons") === "[]"],
    ] as const) {
      await fireEvent.click(dialog.getByRole("button", { name: `Remove ${name}` }));
      expect(gone()).toBe(false);
      await fireEvent.click(dialog.getByRole("button", { name: `Really remove ${name}` }));
      await waitFor(() => expect(gone(), name).toBe(true));
    }
  });

  it("is measured about as the browser keeps it", () => {
    expect(sizeOf({ values: new Float32Array(1000), text: "x".repeat(100) })).toBeGreaterThan(4100);
    expect(sizeOf({ values: new Float32Array(1000), text: "x".repeat(100) })).toBeLessThan(4200);
  });
});
