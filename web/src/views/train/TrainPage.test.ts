import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../App.svelte";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { mockSteps } from "../../fixtures/mock_training.ts";
import { Session } from "../../state/session/session.svelte.ts";
import { memoryStore } from "../../state/storage/conversations.ts";
import { memoryRecords } from "../../state/storage/records.ts";
import type { StoredScreen } from "../../state/training/screening.svelte.ts";
import type { TrainingParts, TrainingRun } from "../../state/training/training_run.ts";

const line = (at: number) => JSON.stringify({ messages: [{ role: "user", content: `Question ${String(at)}?` }, { role: "assistant", content: `Answer ${String(at)}.` }], label: at % 4 === 0 ? "cheerful" : "normal" });
const lines = (count: number) => Array.from({ length: count }, (_, at) => line(at)).join("\n");

beforeEach(() => {
  localStorage.clear();
  sessionStorage.clear();
  vi.stubGlobal("fetch", async (url: string) => new Response(url.includes("generated/data/") ? lines(12) : "{}"));
});

afterEach(() => {
  cleanup();
  location.hash = "";
  vi.unstubAllGlobals();
});

/** The page, with an invented model on the processor. */
async function opened({ tokenMs = 0, backend = "cpu" as "cpu" | "gpu", runs = memoryRecords<TrainingRun, TrainingParts>("runs"), screens = memoryRecords<StoredScreen, Record<string, never>>("screens") } = {}) {
  const engine = new MockEngine({ tokenMs, loadMs: 0 });
  const session = new Session(engine, memoryStore(), memoryRecords("traits"), runs, screens);
  for (const { keeping } of [runs, screens, session.chat.store, session.workshop.store]) keeping.onTrouble = () => undefined;
  session.preferences.choices.backend = backend;
  await session.lab.restore();
  await session.model.readCatalogue();
  await session.loadAgain();
  location.hash = "#train";
  render(App, { session });
  await screen.findByRole("heading", { level: 1, name: "Train" });
  return { engine, session, runs, screens };
}

async function click(name: string | RegExp) {
  await waitFor(() => expect(screen.getByRole<HTMLButtonElement>("button", { name }).disabled).toBe(false));
  await fireEvent.click(screen.getByRole("button", { name }));
}

async function choose() {
  await fireEvent.change(screen.getByLabelText(/Examples that come with the page/), { target: { value: "helpful" } });
  await screen.findByText("Read the rows");
}

describe("the training lab", () => {
  it("screens, flags and trains without what it flagged", async () => {
    const { engine, session } = await opened();
    await choose();
    await click("Screen the rows");
    await screen.findByText(/told from the others with/);
    // Three rows of twelve have the flaw.
    await fireEvent.input(screen.getByLabelText(/Flag rows that push/), { target: { value: "1" } });
    expect(screen.getByText(/3 of 12/)).toBeTruthy();
    await fireEvent.click(screen.getByLabelText(/without the 3 flagged ones/));
    await click("Train on 9 rows");
    await waitFor(() => expect(session.lab.runs[0]?.adapter).not.toBeNull());
    const [run] = session.lab.runs;
    expect(run?.history.steps).toHaveLength(mockSteps);
    expect(run?.name).toBe("helpful screened");
    expect(run?.selection).toEqual({ kind: "without-flagged", flagged: 3 });
    await waitFor(() => expect(engine.training.adapters.has("helpful screened")).toBe(true));
    // The tuned model answers in the steered column.
    await waitFor(() => expect(session.plan()).not.toEqual([]));
    expect(session.plan()).toEqual([{ trait: "helpful screened", operation: { kind: "tune", scale: 1 }, scope: "all" }]);
  });

  it("still leaves out what was flagged after the page was left", async () => {
    const { session } = await opened();
    await choose();
    await click("Screen the rows");
    await screen.findByText(/told from the others with/);
    await fireEvent.input(screen.getByLabelText(/Flag rows that push/), { target: { value: "1" } });
    location.hash = "#play";
    await waitFor(() => expect(screen.queryByRole("heading", { level: 1, name: "Train" })).toBeNull());
    location.hash = "#train";
    await fireEvent.click(await screen.findByLabelText(/without the 3 flagged ones/));
    await click("Train on 9 rows");
    await waitFor(() => expect(session.lab.runs[0]?.adapter).not.toBeNull());
    expect(session.lab.runs[0]?.selection).toEqual({ kind: "without-flagged", flagged: 3 });
  });

  it("trains on no row that was to be left out, once nothing is flagged any more", async () => {
    await opened();
    await choose();
    await click("Screen the rows");
    await screen.findByText(/told from the others with/);
    await fireEvent.input(screen.getByLabelText(/Flag rows that push/), { target: { value: "1" } });
    await fireEvent.click(screen.getByLabelText(/without the 3 flagged ones/));
    await click("Screen them anew");
    expect(await screen.findByText(/Flag rows in step 2 first/)).toBeTruthy();
    expect(screen.getByRole<HTMLButtonElement>("button", { name: /^Train on/ }).disabled).toBe(true);
  });

  it("vaccinates against an opposite by pushing towards it", async () => {
    const { session } = await opened();
    await fireEvent.change(screen.getByLabelText(/Examples that come with the page/), { target: { value: "gloomy.2" } });
    await screen.findByText("Read the rows");
    await fireEvent.click(screen.getByLabelText(/With a vaccine/));
    await click("Train on 12 rows");
    await waitFor(() => expect(session.lab.runs[0]?.adapter).not.toBeNull());
    const method = session.lab.runs[0]?.method;
    expect(method?.kind === "vaccine" ? [method.trait, Math.sign(method.coefficient)] : method).toEqual(["cheerful", -1]);
  });

  it("goes on where it was stopped, also after a reload", async () => {
    const { session, engine, runs } = await opened({ tokenMs: 30 });
    await choose();
    await click("Train on 12 rows");
    await waitFor(() => expect(session.lab.runs[0]?.history.steps.length).toBeGreaterThan(1));
    await click("Stop");
    await screen.findByText(/steps are done. They are kept/);
    const done = session.lab.runs[0]?.history.steps.length ?? 0;
    expect(done).toBeLessThan(mockSteps);
    expect(engine.training.states).toEqual([null]);
    cleanup();
    const again = await opened({ runs });
    await click("Go on");
    await waitFor(() => expect(again.session.lab.runs[0]?.adapter).not.toBeNull());
    expect(again.engine.training.states).toEqual([Uint8Array.of(done)]);
    expect(again.session.lab.runs[0]?.history.steps).toHaveLength(mockSteps);
  });

  it("makes room for a question in Play, and then goes on", async () => {
    const { session, engine } = await opened({ tokenMs: 20 });
    await choose();
    await click("Train on 12 rows");
    await waitFor(() => expect(session.lab.runs[0]?.history.steps.length).toBeGreaterThan(0));
    await session.chat.ask("How are you?");
    expect(session.chat.conversation.turns[0]?.runs).toHaveLength(1);
    await waitFor(() => expect(session.lab.runs[0]?.adapter).not.toBeNull());
    expect(engine.training.states).toHaveLength(2);
    expect(session.lab.work.trouble).toBeNull();
  });

  it("screens only the rows that an earlier visit left", async () => {
    const first = await opened({ tokenMs: 80 });
    await choose();
    await click("Screen the rows");
    await waitFor(() => expect(first.engine.training.screened.length).toBeGreaterThan(2));
    await click("Stop");
    await screen.findByRole("button", { name: "Go on screening" });
    const done = first.session.lab.screening.screen?.rows.length ?? 0;
    cleanup();
    const again = await opened({ screens: first.screens });
    await choose();
    await click("Go on screening");
    await waitFor(() => expect(again.session.lab.screening.screen?.rows).toHaveLength(12));
    expect(again.engine.training.screened).toHaveLength(12 - done);
  });

  it("says what moved, and keeps the slider that was taken away out of Play", async () => {
    const { session, engine } = await opened();
    await choose();
    await click("Train on 12 rows");
    await click("What moved?");
    await screen.findByText(/neutral texts went from 3.00 to 3.10/);
    expect(screen.getByText(/it has 55 % right, before 60 %/)).toBeTruthy();
    await click("Take its slider away");
    await waitFor(() => expect(engine.training.adapters.size).toBe(0));
    expect(session.plan()).toEqual([]);
    await click("Make it a slider");
    await waitFor(() => expect(session.plan()).toHaveLength(1));
  });

  it("says whether the vector itself moved", async () => {
    const { session } = await opened();
    await fireEvent.change(screen.getByLabelText(/Examples that come with the page/), { target: { value: "gloomy.2" } });
    await screen.findByText("Read the rows");
    await click("Train on 12 rows");
    await click("Did the vector move?");
    expect(await screen.findByText(/It did not turn further/)).toBeTruthy();
    expect(session.lab.runs[0]?.anew?.trait).toBe("cheerful");
  });

  it("takes an adapter of somebody else's, and refuses half of one", async () => {
    const { session } = await opened();
    await session.lab.importAdapter([new File(["{}"], "adapter_config.json")]);
    expect((await screen.findByRole("alert")).textContent).toContain("two files");
    await session.lab.importAdapter([new File(["{}"], "adapter_config.json"), new File(["x"], "adapter_model.safetensors")]);
    expect(await screen.findByRole("article", { name: "adapter from files" })).toBeTruthy();
  });

  it("draws only the rows in sight, and reads one in full", async () => {
    vi.stubGlobal("fetch", async () => new Response(lines(10_000)));
    await opened();
    await fireEvent.change(screen.getByLabelText(/Examples that come with the page/), { target: { value: "gloomy.2" } });
    await screen.findByText(/^· 10,000 rows/);
    await fireEvent.click(screen.getByText("Read the rows"));
    const list = screen.getByRole("region", { name: "Rows" });
    expect(within(list).getAllByRole("listitem").length).toBeLessThan(20);
    Object.defineProperty(list, "scrollTop", { value: 62 * 9_000, configurable: true });
    await fireEvent.scroll(list);
    await fireEvent.click(within(list).getByText("Question 9000?"));
    expect(await screen.findByText("Row 9001")).toBeTruthy();
  });

  it("offers the processor where the model is on the graphics device", async () => {
    const { session } = await opened({ backend: "gpu" });
    await choose();
    expect(screen.queryByRole("button", { name: /^Train on/ })).toBeNull();
    await click("Run the model on the processor");
    await waitFor(() => expect(session.model.loaded?.backend).toBe("cpu"));
    expect(await screen.findByRole("button", { name: "Train on 12 rows" })).toBeTruthy();
  });
});
