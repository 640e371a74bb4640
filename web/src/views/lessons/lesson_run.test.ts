import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../App.svelte";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { mockLink } from "../../fixtures/mock_links.ts";
import { Session } from "../../state/session/session.svelte.ts";
import { memoryStore } from "../../state/storage/conversations.ts";
import { exampleText } from "../../state/lessons/library.ts";
import { packLesson } from "../../state/lessons/share.ts";

async function opened(address: string) {
  location.hash = address;
  const engine = new MockEngine({ tokenMs: 0, loadMs: 0 });
  const session = new Session(engine, memoryStore());
  await session.model.readCatalogue();
  render(App, { session });
  return { session, engine };
}

const load = async () => {
  await fireEvent.click(await screen.findByRole("button", { name: /98 MB/ }));
  await screen.findByRole("slider", { name: /villainous/ });
};

const panel = () => screen.findByRole("complementary", { name: /^Lesson: / });
const press = async (name: string | RegExp) => fireEvent.click(within(await panel()).getByRole("button", { name }));
const idle = () => waitFor(() => expect(screen.queryByRole("button", { name: "Stop" })).toBeNull());

beforeEach(() => {
  localStorage.clear();
  sessionStorage.clear();
  vi.stubGlobal("fetch", async () => new Response("{}", { headers: { "content-type": "application/json" } }));
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  location.hash = "";
});

describe("a lesson", () => {
  it("sets up the page in a new conversation, ticks what was done, and gives the settings back", async () => {
    localStorage.setItem("trimtab.choices", JSON.stringify({ sampler: { temperature: 0.9 } }));
    const { session, engine } = await opened("#lessons/direction");
    await load();
    await session.chat.ask("My own question");
    const mine = session.chat.conversation.id;

    await press("Set the page up");
    await waitFor(() => expect(session.chat.conversation.turns[0]?.user).toBe("How was your day?"));
    await idle();
    expect(session.chat.conversation.id).not.toBe(mine);
    expect(session.chat.heads.map(({ id }) => id)).toContain(mine);
    expect(engine.requests.at(-1)).toMatchObject({ sampler: { temperature: 0 }, maxTokens: 48 });
    await waitFor(async () => expect(within(await panel()).getAllByRole<HTMLInputElement>("checkbox").map(({ checked }) => checked)).toEqual([true, false]));

    await press("Next");
    await fireEvent.input(screen.getByRole("slider", { name: /cheerful/ }), { target: { value: "2.2" } });
    await waitFor(async () => expect(within(await panel()).getAllByRole<HTMLInputElement>("checkbox").map(({ checked }) => checked)).toEqual([true, false, false]));
    await fireEvent.click(screen.getByRole("button", { name: /^Answer again/ }));
    await idle();
    await waitFor(async () => expect(within(await panel()).getAllByRole<HTMLInputElement>("checkbox").map(({ checked }) => checked)).toEqual([true, true, false]));

    expect(JSON.parse(localStorage.getItem("trimtab.choices") ?? "{}")).toMatchObject({ sampler: { temperature: 0.9 } });
    await press("Leave the lesson");
    await waitFor(() => expect(screen.queryByRole("complementary", { name: /^Lesson/ })).toBeNull());
    expect(session.preferences.choices.sampler.temperature).toBe(0.9);
    expect(location.hash).toBe("");
  });

  it("stays beside the pages that it talks of, also after a reload, and leads to them", async () => {
    const { session } = await opened("#lessons/controls");
    for (let presses = 0; presses < 3; presses += 1) await press("Next");
    expect(await screen.findByRole("heading", { name: "cheerful", level: 1 })).toBeTruthy();
    expect(session.preferences.choices.sampler.temperature).toBe(0);

    location.hash = "#traits/poetic";
    expect(await screen.findByRole("heading", { name: "poetic", level: 1 })).toBeTruthy();
    const task = within(await panel()).getAllByRole<HTMLInputElement>("checkbox")[0];
    if (task !== undefined) await fireEvent.click(task);
    expect(task?.checked).toBe(true);
    expect(session.preferences.choices.sampler.temperature).toBe(0);

    cleanup();
    await opened("#traits/poetic");
    expect(within(await panel()).getByRole("heading", { level: 2 }).textContent).toBe("How sure are we?");
    expect(within(await panel()).getByRole("link", { name: /^To Traits/ }).getAttribute("href")).toBe("#lessons/controls");
    await press("Back");
    expect(location.hash).toBe("#lessons/controls");
    await screen.findByRole("button", { name: /98 MB/ });

    location.hash = "#lessons";
    await screen.findByRole("heading", { name: "Lessons", level: 1 });
    location.hash = "#traits";
    await screen.findByRole("heading", { name: "Traits", level: 1 });
    expect(screen.queryByRole("complementary", { name: /^Lesson: / })).toBeNull();
  });

  it("adds a random control, and hides an answer until it is asked for", async () => {
    const { session } = await opened("#lessons/controls");
    await load();
    await press("Next");
    await press("Set the page up");
    await screen.findByRole("slider", { name: /^random 1 \(cheerful\)/ });
    await idle();
    await waitFor(() => expect(session.sliders.coefficient("random 1 (cheerful)")).toBe(2));
    const answer = within(await panel()).getByText("Answer").closest("details");
    expect(answer?.open).toBe(false);
  });

  it("has its settings also after a reload, at a step that arranges nothing", async () => {
    await opened("#lessons/direction");
    await press("Next");
    cleanup();
    const { session } = await opened("#lessons/direction");
    expect(within(await panel()).getByRole("heading", { level: 2 }).textContent).toBe("Add a direction");
    await waitFor(() => expect(session.preferences.choices).toMatchObject({ sampler: { temperature: 0, topP: 1 }, maxTokens: 48 }));
    await press("Leave the lesson");
    await waitFor(() => expect(session.preferences.choices.sampler.temperature).toBe(0.7));
  });

  it("takes everything from a link: layers, operations, sampler", async () => {
    const plan = [{ trait: "cheerful", operation: { kind: "ablate" as const }, layers: [14, 15], scope: "response" as const }];
    const sampler = { temperature: 0.5, topK: 40, topP: 0.8, repetitionPenalty: 1.2, seed: 9 };
    const question = { role: "user" as const, text: "From the link?", tokens: null, run: null };
    const answer = { role: "assistant" as const, text: "Yes", tokens: [{ id: 1, text: "Yes", reading: null }], run: { sampler, maxTokens: 900, plan, changes: [], end: "end-token" as const } };
    const look = { trait: "cheerful", layer: 14, token: null, insideRun: false, title: "", note: "" };
    const recipe = { model: { name: "m", sha256: "5a".repeat(32) }, precision: "fast" as const, adapters: [], files: [], messages: [question, answer], look };
    const step = (link: string) => `trimtab lesson: 1\ntitle: T\nsteps:\n  - title: A\n    set up: {link: "${link}"}\n`;
    const good = mockLink({ ...recipe, traits: [{ name: "cheerful", hash: "cheerful-hash", inline: null }] });
    const { session, engine } = await opened(`#lessons/l=${await packLesson(step(good))}`);
    await load();
    await press("Set the page up");
    await waitFor(() => expect(engine.requests).toHaveLength(1));
    expect(engine.requests[0]).toMatchObject({ sampler, maxTokens: 400, columns: [{ plan: [] }, { plan, messages: [{ role: "user", content: "From the link?" }] }] });
    await idle();
    expect(session.view.layer).toBe(14);
    cleanup();

    const inline = { opposite: "", description: "", made: "", layers: [14, 15], min: -1, max: 1 };
    const own = mockLink({ ...recipe, traits: [{ name: "cheerful", hash: null, inline }] });
    await opened(`#lessons/l=${await packLesson(step(own))}`);
    await load();
    await press("Set the page up");
    expect((await within(await panel()).findByRole("alert")).textContent).toContain("brings a trait of its own");
    expect(within(await panel()).getByRole("link", { name: "Open the link itself" }).getAttribute("href")).toBe(`#r=${own}`);
  });

  it("quotes the model by a recipe's tokens, without a model, and leads to the run", async () => {
    const run = { sampler: { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1, seed: 1 }, maxTokens: 9, plan: [{ trait: "cheerful", operation: { kind: "add" as const, coefficient: 2 }, scope: "all" as const }], changes: [], end: "end-token" as const };
    const tokens = [{ id: 1, text: "So", reading: 0.5 }, { id: 2, text: " glad", reading: 2 }];
    const messages = [{ role: "user" as const, text: "Well?", tokens: null, run: null }, { role: "assistant" as const, text: "So glad", tokens, run }];
    const look = { trait: "cheerful", layer: 17, token: null, insideRun: false, title: "", note: "" };
    const code = mockLink({ model: { name: "m", sha256: "5a".repeat(32) }, precision: "exact", adapters: [], files: [], messages, look, traits: [] });
    await opened(`#lessons/l=${await packLesson(`trimtab lesson: 1\ntitle: T\nsteps:\n  - title: A\n    quotes:\n      - quote: So glad\n        link: ${code}\n      - quote: Of a link that cannot be opened\n        link: AAAAAAAA\n      - quote: So\n        link: ${code}\n`)}`);
    const compared = within(await panel()).getByText("What we saw").closest("details");
    if (compared === null) throw new Error("nothing to compare with");
    compared.open = true;
    await fireEvent(compared, new Event("toggle"));
    // One run may be quoted twice.
    const [shown, again] = await within(compared).findAllByRole("listbox", { name: /^What it wrote/ });
    if (shown === undefined || again === undefined) throw new Error("a quote is missing");
    expect(within(shown).getAllByRole("option").map((token) => token.getAttribute("aria-label"))).toEqual(["So, cheerful about +0.5", "glad, cheerful about +2.0"]);
    expect(within(compared).getAllByText("“Well?”, cheerful +2.0, coloured by cheerful")).toHaveLength(2);
    expect(within(compared).getAllByRole("link", { name: "Open this run" })[0]?.getAttribute("href")).toBe(`#r=${code}`);
    expect(within(compared).getByText("Of a link that cannot be opened")).toBeTruthy();
  });

  it("says so when the model lacks a trait of the step", async () => {
    location.hash = `#lessons/l=${await packLesson("trimtab lesson: 1\ntitle: T\nsteps:\n  - title: A\n    set up: {ask: Hi, push: {sleepy: 1}}\n")}`;
    const { session } = await opened(location.hash);
    await load();
    await press("Set the page up");
    expect((await within(await panel()).findByRole("alert")).textContent).toContain("“sleepy”");
    expect(session.chat.conversation.turns).toEqual([]);
  });

  it("waits for a model", async () => {
    await opened("#lessons/direction");
    expect(within(await panel()).getByRole<HTMLButtonElement>("button", { name: "Set the page up" }).disabled).toBe(true);
  });

  it("goes on where it was left, and forgets when told", async () => {
    await opened("#lessons/watching");
    await press("Next");
    cleanup();
    await opened("#lessons/watching");
    expect(within(await panel()).getByRole("heading", { level: 2 }).textContent).toBe("Your question has colours too");
    cleanup();
    await opened("#lessons");
    expect(await screen.findByText("at step 2 of 4")).toBeTruthy();
    await fireEvent.click(screen.getByRole("button", { name: "Forget all progress" }));
    await fireEvent.click(screen.getByRole("button", { name: /^Really forget/ }));
    expect(screen.queryByText("at step 2 of 4")).toBeNull();
  });
});

describe("a lesson of somebody else's", () => {
  it("opens from a link as text, never as HTML, and can be kept", async () => {
    const evil = exampleText.replace("Rain and shine", "<img src=x onerror=alert(1)>").replace("The model cannot", "<script>alert(1)</script> The model cannot");
    await opened(`#lessons/l=${await packLesson(evil)}`);
    const shown = await panel();
    expect(shown.querySelector("img, script")).toBeNull();
    expect(shown.textContent).toContain("<script>alert(1)</script>");
    await fireEvent.click(screen.getByRole("button", { name: "Keep it in this browser" }));
    expect(location.hash).toBe("#lessons/own-1");
  });

  it("is refused with a sentence when it is broken", async () => {
    await opened("#lessons/l=AAAA");
    expect((await screen.findByRole("alert")).textContent).toMatch(/broken or cut short/);
    cleanup();
    await opened("#lessons/no-such-lesson");
    expect((await screen.findByRole("alert")).textContent).toMatch(/no lesson “no-such-lesson”/);
  });

  it("opens from a file, or says in which line it is wrong", async () => {
    await opened("#lessons");
    const input = await screen.findByLabelText("Open a lesson's file");
    await fireEvent.change(input, { target: { files: [new File(["trimtab lesson: 1\ntitle: T\nstep: []\n"], "mine.yaml")] } });
    expect((await screen.findByRole("alert")).textContent).toMatch(/mine\.yaml was not taken\. Line 3: /);
    await fireEvent.change(input, { target: { files: [new File([exampleText], "mine.yaml")] } });
    expect(await screen.findByRole("link", { name: /^Rain and shine/ })).toBeTruthy();
    expect(screen.queryByRole("alert")).toBeNull();
  });
});

describe("a teacher's sheet", () => {
  it("has aims, timing, answers and what goes wrong", async () => {
    await opened("#lessons/pushing/teacher");
    for (const heading of ["Aims", "Timing", "What goes wrong"]) expect(await screen.findByRole("heading", { name: heading })).toBeTruthy();
    expect(screen.getAllByRole("heading", { name: "Answer" })).toHaveLength(4);
    expect(screen.getByRole("button", { name: "Print" })).toBeTruthy();
  });
});
