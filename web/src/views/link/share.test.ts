import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "../App.svelte";
import type { SharedRecipe } from "../../engine/protocol.ts";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { mockLink, openMockLink } from "../../fixtures/mock_links.ts";
import { standIn } from "../../state/recording/fixtures/stand_in.ts";
import { Session } from "../../state/session/session.svelte.ts";
import { memoryStore } from "../../state/storage/conversations.ts";
import { answerText } from "../../state/conversation/conversation.ts";
import { addressFrom, lessonLink, ownAddress, placeIn, reachSentence, sendable } from "../../state/links/address.ts";
import { pushSentence } from "../../state/links/push_sentence.ts";
import { sharedRecipe } from "../../state/links/shared_recipe.ts";

async function opened(hash = "") {
  location.hash = hash;
  const engine = new MockEngine({ tokenMs: 0, loadMs: 0 });
  const session = new Session(engine, memoryStore());
  await session.model.readCatalogue();
  render(App, { session });
  return { session, engine };
}

/** A finished run with a slider at 2. */
async function answered() {
  const { session, engine } = await opened();
  await session.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
  session.moveSlider("cheerful", 2);
  await session.chat.ask("How was your weekend?");
  return { session, engine };
}

function recipeOf(session: Session, columns: "steered" | "unsteered" | "both" = "steered"): SharedRecipe {
  const recipe = sharedRecipe(
    { conversation: session.chat.conversation, last: 0, columns, view: session.view, title: "A glad day", note: "<b>Look</b> at the first word.", token: 2 },
    session.model.loaded!,
    session.model.readyMade,
  );
  expect(recipe).not.toBeNull();
  return recipe!;
}

beforeEach(() => {
  localStorage.clear();
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify(standIn), { headers: { "content-type": "application/json" } }));
});

afterEach(() => {
  cleanup();
  location.hash = "";
  vi.unstubAllGlobals();
});

describe("what goes into a link", () => {
  it("is the conversation on screen, token by token, with what made it", async () => {
    const { session } = await answered();
    const recipe = recipeOf(session);
    const [question, answer] = recipe.messages;
    const run = session.chat.conversation.turns[0]!.runs[0]!;
    expect(question).toMatchObject({ role: "user", text: "How was your weekend?", run: null });
    expect(answer?.tokens?.map(({ id }) => id)).toEqual(run.answers.steered.tokens.map(({ id }) => id));
    expect(answer?.tokens?.some(({ reading }) => reading !== null)).toBe(true);
    expect(answer?.run).toMatchObject({ sampler: run.sampler, maxTokens: run.maxTokens, end: "end-token", changes: [] });
    expect(answer?.run?.plan).toEqual([{ trait: "cheerful", operation: { kind: "add", coefficient: 2 }, scope: "all", layers: [16] }]);
    expect(recipe.traits).toMatchObject([{ name: "cheerful", hash: "cheerful-hash", inline: null }]);
    expect(recipe.look).toMatchObject({ trait: "cheerful", layer: 16, title: "A glad day", token: { message: 1, token: 2 } });
  });

  it("has no push for the unsteered answers", async () => {
    const { session } = await answered();
    expect(recipeOf(session, "unsteered").messages[1]?.run?.plan).toEqual([]);
  });

  it("is both columns, each token by token, unless one is chosen", async () => {
    const { session } = await answered();
    const [question, answer] = recipeOf(session, "both").messages;
    const { answers } = session.chat.conversation.turns[0]!.runs[0]!;
    expect(question?.beside).toBeUndefined();
    expect([answer?.text, answer?.beside?.text]).toEqual([answerText(answers.steered), answerText(answers.unsteered)]);
    expect(answer?.beside?.tokens?.map(({ id }) => id)).toEqual(answers.unsteered.tokens.map(({ id }) => id));
    expect([answer?.run?.plan.length, answer?.beside?.run?.plan]).toEqual([1, []]);
    expect(recipeOf(session).messages[1]?.beside).toBeUndefined();
  });

  it("carries a vector that only this page has, with the layers in use", async () => {
    const { session } = await answered();
    session.model.readyMade = [];
    expect(recipeOf(session).traits).toMatchObject([{ name: "cheerful", hash: null, inline: { layers: [16], opposite: "gloomy", made: "invented, as cheerful as can be" } }]);
  });

  it("is never another vector of the same name", async () => {
    const { session } = await answered();
    session.model.addTrait({ ...session.traits[0]!, hash: "made-anew" });
    expect(recipeOf(session).traits).toEqual([{ name: "cheerful", hash: "cheerful-hash", inline: null }]);
    session.model.readyMade = [];
    expect(() => recipeOf(session)).toThrow(/“cheerful” .* no longer here/);
    await session.chat.ask("And now?");
    const shared = { conversation: session.chat.conversation, last: 1, columns: "steered" as const, view: session.view, title: "", note: "", token: null };
    expect(() => sharedRecipe(shared, session.model.loaded!, [])).toThrow(/made anew between these answers/);
  });
});

describe("addresses", () => {
  it("lead to the public page, or are a code alone", () => {
    expect(sendable("abc", addressFrom("https://example.org/trimtab/#x"))).toBe("https://example.org/trimtab/#r=abc");
    expect(sendable("abc", addressFrom(undefined))).toBe("abc");
    expect(addressFrom("javascript:alert(1)")).toBeNull();
  });

  it("are found in what a mail program made of them", () => {
    expect(placeIn(" https://example.org/#r=ab-_ \n")).toBe("r=ab-_");
    // The engine finds the code in what programs add.
    const pasted = "> <https://example.org/\n> #r=ab\n> cd>.";
    expect(decodeURIComponent(placeIn(pasted).replace("r=", ""))).toBe(pasted);
    expect(placeIn("abcd")).toBe("r=abcd");
    expect(placeIn("https://example.org/x/#lessons/l=ab cd")).toBe("lessons/l=abcd");
    expect(placeIn("#lessons/l=abcd")).toBe("lessons/l=abcd");
    expect(placeIn("> (https://example.org/x/#lessons/l=ab\n> cd).")).toBe("lessons/l=abcd");
    expect(placeIn(" ")).toBe("");
  });

  it("of lessons are the public page's, else this one's where others can reach it", () => {
    expect(lessonLink("lessons/l=a", "https://example.org/t/", "http://127.0.0.1/#x")).toBe("https://example.org/t/#lessons/l=a");
    expect(lessonLink("lessons/l=a", null, "http://192.168.0.2:8420/#lessons")).toBe("http://192.168.0.2:8420/#lessons/l=a");
    expect(lessonLink("lessons/l=a", null, "file:///stick/trimtab.html#lessons")).toBe("#lessons/l=a");
  });
});

describe("a page's own address", () => {
  it("is told by whom it can be opened", () => {
    const reach = (here: string) => ownAddress(here)?.reach;
    expect(["http://localhost:5173/", "http://127.0.0.1:8420/x/", "http://[::1]/", "http://trimtab.localhost/"].map(reach)).toEqual(Array(4).fill("machine"));
    expect(["http://192.168.0.2/", "http://10.1.2.3/", "http://172.20.0.1/", "http://169.254.1.1/", "http://[fe80::1]/", "http://[fd12::1]/", "http://teacher/", "http://teacher.local/"].map(reach)).toEqual(Array(8).fill("network"));
    expect(["https://example.org/t/", "http://172.32.0.1/", "http://11.0.0.1/", "http://[2001:db8::1]/", "https://10.example.org/"].map(reach)).toEqual(Array(5).fill("everybody"));
    expect(ownAddress("file:///C:/A%20B/trimtab.html#play")).toEqual({ address: "file:///C:/A%20B/trimtab.html", reach: "file" });
    expect(["about:blank", "blob:x", "data:text/html,x", ""].map(ownAddress)).toEqual([null, null, null, null]);
    expect(reachSentence("everybody")).toBe("");
    for (const here of ["machine", "network", "file"] as const) expect(reachSentence(here)).toContain("Open a link or code");
  });
});

describe("what was pushed, and how far", () => {
  it("is said for whoever knows nothing", async () => {
    const { session } = await answered();
    const recipe = recipeOf(session, "both");
    recipe.traits[0]!.range = [-4, 4];
    expect(pushSentence(recipe)).toBe("A small AI answered twice: by itself, and while somebody pushed it towards being cheerful, at 50 % of the strongest push that is recommended.");
    const [, answer] = recipe.messages;
    const { run } = answer!;
    run!.plan[0]!.operation = { kind: "add", coefficient: -6 };
    run!.changes = [{ fromToken: 3, plan: [] }];
    expect(pushSentence(recipe)).toMatch(/away from being cheerful, at 150 % .* \(so far its sentences may break\)\. The push was changed/);
    delete recipe.traits[0]!.range;
    delete answer!.beside;
    expect(pushSentence(recipe)).toMatch(/^A small AI wrote this answer while somebody pushed it away from being cheerful, with a strength of 6/);
    run!.plan = [];
    run!.changes = [];
    expect(pushSentence(recipe)).toBe("A small AI wrote this answer, by itself.");
  });
});

describe("sharing", () => {
  it("shows a link to this page that opens as the same run in both columns, says who cannot open it, and gives the code alone", async () => {
    const { session } = await answered();
    await fireEvent.click(screen.getByRole("button", { name: "Share" }));
    const field = await screen.findByRole<HTMLTextAreaElement>("textbox", { name: /Link, [\d,]+ characters/ });
    await waitFor(() => expect(field.value).not.toBe(""));
    expect(field.value.startsWith(`${location.origin}/#r=`)).toBe(true);
    expect(screen.getByText(/served from this machine alone/)).toBeTruthy();
    expect(screen.getByText(/^A small AI answered twice/)).toBeTruthy();
    await fireEvent.click(screen.getByRole("checkbox", { name: "with this page's address" }));
    const code = screen.getByRole<HTMLTextAreaElement>("textbox", { name: /Code, [\d,]+ characters/ }).value;
    const read = openMockLink(code);
    expect(read.kind === "recipe" && read.recipe.messages).toEqual(JSON.parse(JSON.stringify(recipeOf(session, "both").messages)));
  });
});

describe("opening a link", () => {
  async function link() {
    const { session } = await answered();
    const code = mockLink(recipeOf(session));
    cleanup();
    return code;
  }

  it("shows words and colours before any model is there, and never as HTML", async () => {
    await opened(`#r=${await link()}`);
    expect(await screen.findByRole("heading", { name: "A glad day" })).toBeTruthy();
    expect(screen.getByText("<b>Look</b> at the first word.")).toBeTruthy();
    const tokens = screen.getByRole("listbox", { name: /^Answer/ });
    expect(tokens.textContent).toContain("wonderful");
    expect(within(tokens).getAllByRole("option", { name: /the author points at it/ })).toHaveLength(1);
    expect(within(tokens).getAllByRole("option", { name: /cheerful about [+−]?\d/ }).length).toBeGreaterThan(5);
    expect(screen.getByRole("button", { name: /98 MB/ })).toBeTruthy();
  });

  it("shows both columns under their names, and replays both", async () => {
    const { session: author } = await answered();
    const code = mockLink(recipeOf(author, "both"));
    cleanup();
    const { session } = await opened(`#r=${code}`);
    const group = async (name: string) => within(await screen.findByRole("group", { name })).getByRole("listbox").textContent;
    expect(await group("Steered answer")).toContain("wonderful");
    expect(await group("Unsteered answer")).toContain("quiet");
    await session.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    expect(await screen.findByText(/This machine agrees on \d+ of \d+ tokens/)).toBeTruthy();
    for (const name of ["Steered answer", "Unsteered answer"]) {
      expect(within(screen.getByRole("group", { name })).getAllByRole("option", { name: /your machine would have written “else”/ }).length).toBeGreaterThan(0);
    }
  });

  it("replays it when the model is there, and marks what would have been chosen otherwise", async () => {
    const { session } = await opened(`#r=${await link()}`);
    await screen.findByRole("heading", { name: "A glad day" });
    await session.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    expect(await screen.findByText(/This machine agrees on \d+ of \d+ tokens/)).toBeTruthy();
    expect(screen.getAllByRole("option", { name: /your machine would have written “else”/ }).length).toBeGreaterThan(0);
  });

  it("runs it here with the author's settings, and every control works from there", async () => {
    const { session, engine } = await opened(`#r=${await link()}`);
    await screen.findByRole("heading", { name: "A glad day" });
    await session.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    await screen.findByText(/This machine agrees/);
    await fireEvent.click(screen.getByRole("button", { name: "Run it yourself" }));
    await waitFor(() => expect(engine.requests).toHaveLength(1));
    expect(engine.requests[0]?.columns.find(({ column }) => column === "steered")).toMatchObject({
      messages: [{ role: "user", content: "How was your weekend?" }],
      plan: [{ trait: "cheerful", operation: { kind: "add", coefficient: 2 } }],
    });
    await waitFor(() => expect(session.chat.running).toBeNull());
    expect(session.sliders.coefficient("cheerful")).toBe(2);
    expect(session.lentPlan).toBeNull();
  });

  it("keeps the author's settings for every answer of the run, within this page's bounds, and gives them back after it", async () => {
    const { session } = await answered();
    const recipe = recipeOf(session);
    recipe.messages[1]!.run!.sampler.repetitionPenalty = 50;
    recipe.messages[1]!.run!.maxTokens = 60_000;
    cleanup();
    const { session: other, engine } = await opened(`#r=${mockLink(recipe)}`);
    await screen.findByRole("heading", { name: "A glad day" });
    other.preferences.choices.sampler.temperature = 1.3;
    await other.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    await screen.findByText(/This machine agrees/);
    await fireEvent.click(screen.getByRole("button", { name: "Run it yourself" }));
    await waitFor(() => expect(engine.requests).toHaveLength(1));
    expect(engine.requests[0]).toMatchObject({ sampler: { temperature: 0.7, repetitionPenalty: 2 }, maxTokens: 2000 });
    await waitFor(() => expect(other.chat.running).toBeNull());
    other.moveSlider("cheerful", -2);
    await other.chat.again(0);
    expect(engine.requests[1]).toMatchObject({ columns: [{ column: "steered" }], sampler: { temperature: 0.7, repetitionPenalty: 2 }, maxTokens: 2000 });
    const { id } = other.chat.conversation;
    await other.chat.startNew();
    expect(other.preferences.choices).toMatchObject({ sampler: { temperature: 1.3 }, maxTokens: 120 });
    await other.chat.open(id);
    expect(other.preferences.choices).toMatchObject({ sampler: { temperature: 0.7 }, maxTokens: 2000 });
    await other.chat.startNew();
    expect(other.preferences.choices).toMatchObject({ sampler: { temperature: 1.3 }, maxTokens: 120 });
  });

  it("goes on from answers that the author gave, and says what it does with moved sliders", async () => {
    const { session } = await answered();
    const recipe = recipeOf(session);
    const [question, answer] = recipe.messages;
    const run = answer!.run!;
    const later = { ...answer!, run: { ...run, changes: [{ fromToken: 3, plan: [{ ...run.plan[0]!, operation: { kind: "add" as const, coefficient: -1 } }] }] } };
    const given = { ...answer!, text: "Given.", tokens: null, run: null };
    cleanup();
    const { session: other, engine } = await opened(`#r=${mockLink({ ...recipe, messages: [question!, given, { ...question!, text: "And then?" }, later], look: { ...recipe.look, token: null } })}`);
    await screen.findByRole("heading", { name: "A glad day" });
    await other.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    expect(await screen.findByText(/The author moved sliders/)).toBeTruthy();
    await screen.findByText(/This machine agrees/);
    await fireEvent.click(screen.getByRole("button", { name: "Run it yourself" }));
    await waitFor(() => expect(engine.requests).toHaveLength(1));
    expect(engine.requests[0]?.columns.find(({ column }) => column === "steered")).toMatchObject({
      messages: [{ role: "user" }, { role: "assistant", content: "Given." }, { role: "user", content: "And then?" }],
      plan: [{ trait: "cheerful", operation: { kind: "add", coefficient: -1 } }],
    });
    await waitFor(() => expect(other.chat.running).toBeNull());
    expect(screen.getByText("given by the author of the link")).toBeTruthy();
  });

  it("takes the traits that it brought away again, unless they are used", async () => {
    const { session } = await answered();
    session.model.readyMade = [];
    const recipe = recipeOf(session);
    recipe.traits[0]!.name = "toString";
    recipe.look.trait = "toString";
    for (const { run } of recipe.messages) for (const term of run?.plan ?? []) term.trait = "toString";
    cleanup();
    const { session: other, engine } = await opened(`#r=${mockLink(recipe)}`);
    await screen.findByRole("heading", { name: "A glad day" });
    await other.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    await screen.findByText(/This machine agrees/);
    expect(other.addedTraits.map(({ name }) => name)).toEqual(["toString"]);
    location.hash = "";
    await waitFor(() => expect(engine.removed).toEqual(["toString"]));
    expect(other.addedTraits).toEqual([]);

    location.hash = `r=${mockLink(recipe)}`;
    await screen.findByText(/This machine agrees/);
    await fireEvent.click(screen.getByRole("button", { name: "Run it yourself" }));
    await waitFor(() => expect(engine.requests).toHaveLength(1));
    await waitFor(() => expect(other.chat.running).toBeNull());
    expect(other.sliders.coefficient("toString")).toBe(2);
    expect(engine.removed).toHaveLength(1);
    await fireEvent.click(screen.getByRole("button", { name: /^Model / }));
    await fireEvent.click(await screen.findByRole("button", { name: "Remove the slider toString" }));
    expect(other.plan()).toEqual([]);
    expect(other.addedTraits).toEqual([]);
  });

  it("says what is wrong with one that is cut short, and what a newer one holds", async () => {
    await opened("#r=%%%");
    expect((await screen.findByRole("alert")).textContent).toContain("damaged");
    cleanup();
    await opened("#r=newer");
    expect((await screen.findByRole("alert")).textContent).toContain("newer Trimtab");
    expect(screen.getByText("Hello?")).toBeTruthy();
  });
});

describe("a plan that sliders cannot show", () => {
  it("is kept as it is until a slider moves", async () => {
    const { session } = await opened();
    await session.load({ kind: "catalogue", id: "smollm2-135m-instruct" });
    const plan = [{ trait: "cheerful", operation: { kind: "ablate" as const }, layers: [14, 15], scope: "all" as const }];
    session.takePlan(plan);
    expect(session.plan()).toEqual(plan);
    session.moveSlider("poetic", 1);
    expect(session.plan()).toMatchObject([{ trait: "poetic" }]);
  });
});
