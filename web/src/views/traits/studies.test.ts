import { cleanup, render, screen, waitFor } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { mockRow } from "../../fixtures/mock_traits.ts";
import { click, draft, opened, type Store } from "../../fixtures/traits_page.ts";
import { memoryRecords } from "../../state/storage/records.ts";
import PredictionChart from "./PredictionChart.svelte";
import SweepCharts from "./SweepCharts.svelte";
import Verdict from "./Verdict.svelte";

beforeEach(() => {
  localStorage.clear();
  vi.stubGlobal("fetch", async () => new Response("{}"));
});

afterEach(() => {
  cleanup();
  location.hash = "";
  vi.unstubAllGlobals();
});

/** A trait with its vector, ready to be tried; slow enough to be stopped. */
async function made(store: Store = memoryRecords("traits")) {
  const page = await opened(store, 4);
  await draft(page);
  await click("Write the responses");
  await screen.findByText(/^Kept:/, {}, { timeout: 20_000 });
  return page;
}

describe("a study that was stopped", () => {
  it("keeps what was measured, says so, and goes on from there", async () => {
    const { engine, session } = await made();
    const spy = vi.spyOn(engine.traits, "sweepTrait");
    const trait = () => session.workshop.traits[0]!;
    await click("Try it");
    await waitFor(() => expect(trait().trying.some(({ evidence }) => Number.isFinite(evidence))).toBe(true));
    await click("Stop");
    expect((await screen.findByRole("alert")).textContent).toContain("go on whenever you like");
    expect(trait().sweep).toBeNull();
    expect(screen.getByText(/This sweep is not finished/)).toBeTruthy();
    // A setting is told again as its answers are measured, and is one row all the same.
    expect(new Set(trait().trying.map(({ layers, dose }) => `${String(layers)} ${dose}`)).size).toBe(trait().trying.length);
    await click("Go on trying");
    await screen.findByText("Recommended.");
    await waitFor(() => expect(session.workshop.running).toBeNull());
    expect(spy.mock.calls[0]?.[0].records).toBeUndefined();
    expect(spy.mock.calls[1]?.[0].records?.byteLength).toBeGreaterThan(0);
    expect(trait().begun).toEqual({});
    expect((await session.workshop.store.parts(trait().id)).sweepRecords).toBeNull();
    expect(screen.getByRole("button", { name: "Try it again" })).toBeTruthy();
  }, 40_000);

  it("is there again after the tab was closed, and leaves an earlier result alone", async () => {
    const store: Store = memoryRecords("traits");
    const { session, unmount } = await made(store);
    const { id } = session.workshop.traits[0]!;
    await click("Try it");
    await screen.findByText("Recommended.");
    await click("Compare");
    await waitFor(() => expect(session.workshop.running?.done).toBeGreaterThan(8));
    await click("Stop");
    await waitFor(() => expect(session.workshop.running).toBeNull());
    unmount();

    const again = await opened(store, 1);
    expect(screen.getByText(/its controls were stopped half-way/)).toBeTruthy();
    await again.go(`#traits/${id}`);
    expect(screen.getByText(/It was stopped at “pushing along other directions: writing answers”/)).toBeTruthy();
    expect(screen.getByText("Recommended.")).toBeTruthy();
    const spy = vi.spyOn(again.engine.traits, "controlTrait");
    await click("Go on comparing");
    await screen.findByText("It passes.");
    expect(spy.mock.calls[0]?.[0].records?.byteLength).toBeGreaterThan(0);
  }, 40_000);

  it("makes room for an answer in Play, and then goes on by itself", async () => {
    const { session } = await made();
    await click("Try it");
    await waitFor(() => expect(session.workshop.running?.done).toBeGreaterThan(8));
    await session.chat.ask("How was your weekend?");
    expect(session.chat.conversation.turns[0]?.runs[0]?.answers.steered.end).toBe("end-token");
    await waitFor(() => expect(session.workshop.traits[0]!.sweep).not.toBeNull());
    expect(session.workshop.trouble).toBeNull();
  }, 40_000);
});

describe("what is shown of a study", () => {
  it("is marked where an older test found it, and can be repeated", async () => {
    const repeat = vi.fn();
    render(Verdict, { controls: { verdict: "works", sentence: "It moved." }, repeat });
    expect(screen.getByText("It passed an older test.")).toBeTruthy();
    expect(screen.getByText(/asked for less/)).toBeTruthy();
    expect(screen.queryByRole("table")).toBeNull();
    await click("Test it again");
    expect(repeat).toHaveBeenCalledOnce();
  });

  it("includes what a reader should know before believing it", async () => {
    const { engine } = await made();
    engine.traits.caveats = ["It may flatter the vector."];
    await click("Try it");
    expect((await screen.findAllByText("It may flatter the vector.")).length).toBe(1);
  }, 40_000);

  it("is the perplexity, where the device does not measure how much the model was bent", () => {
    const rows = [0.1, 0.2].map((dose) => ({ ...mockRow(17, dose, false), kl: Number.NaN }));
    const { container } = render(SweepCharts, { trait: "sea-dog", rows, neutral: 0 });
    expect(screen.getByText(/not measured on this device/)).toBeTruthy();
    const cost = screen.getByRole("figure", { name: "What does it cost?" });
    expect(cost.textContent).toContain("perplexity (unsteered model)");
    expect(cost.querySelectorAll("path.mark")).toHaveLength(2);
    expect(container.innerHTML).not.toContain("NaN");
  });

  it("has a mark for nothing that was not measured", () => {
    const rows = [0.1, 0.2].map((dose) => ({ ...mockRow(17, dose, false), evidence: Number.NaN, low: Number.NaN, high: Number.NaN }));
    const { container } = render(SweepCharts, { trait: "sea-dog", rows, neutral: 0 });
    expect(container.innerHTML).not.toContain("NaN");
    expect(screen.getAllByRole("img", { name: /No setting has both evidence and whole text/ })).toHaveLength(3);
  });

  it("names the unit of readings before the answer", () => {
    const points = [0, 1, 2].map((reading) => ({ system: "", question: "How are you?", reading, evidence: reading }));
    const r = { r: 0.5, low: 0.1, high: 0.8 };
    const { rerender } = render(PredictionChart, { trait: "sea-dog", points, pooled: r, within: r, calibrated: true });
    const figure = screen.getByRole("figure");
    expect(figure.textContent).toContain("deviations of ordinary prompt tokens");
    void rerender({ calibrated: false });
    return waitFor(() => expect(figure.textContent).toContain("uncalibrated"));
  });
});
