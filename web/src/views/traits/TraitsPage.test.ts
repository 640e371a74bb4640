import { cleanup, fireEvent, screen, waitFor, within } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { mockPack } from "../../fixtures/mock_traits.ts";
import { click, draft, opened, type Store, type } from "../../fixtures/traits_page.ts";
import { memoryRecords } from "../../state/storage/records.ts";

beforeEach(() => {
  localStorage.clear();
  vi.stubGlobal("fetch", async () => new Response("{}"));
});

afterEach(() => {
  cleanup();
  location.hash = "";
  vi.unstubAllGlobals();
});

describe("a pack from a sentence", () => {
  it("says at the field what is wrong, and takes a name as people write it", async () => {
    const { go } = await opened();
    await go("#traits/new");
    await type("Name", "7 seas");
    await type("Opposite", "clerk");
    await type(/How does it show/, "Sails.");
    await type(/how does the opposite show/, "Files papers.");
    await click("Draft it");
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain("lower-case letters");
    expect(screen.getByLabelText(/^Name/).getAttribute("aria-invalid")).toBe("true");
    await type(/^Name/, " Sea Dog ");
    await click("Draft it");
    await waitFor(() => expect(location.hash).not.toBe("#traits/new"));
    await go(location.hash);
    expect(screen.getByRole("heading", { level: 1 }).textContent).toContain("sea-dog");
  });

  it("can be changed before anything runs, and what is wrong then is shown where it is", async () => {
    const page = await opened();
    const { session } = page;
    await draft(page);
    await type("Pair 2, negative", "");
    await click("Write the responses");
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain("Is empty");
    expect(screen.getByLabelText("Pair 2, negative").getAttribute("aria-invalid")).toBe("true");
    expect(session.workshop.traits[0]?.responses).toEqual([]);
    await type("Pair 2, negative", "Speak like a clerk.");
    await fireEvent.change(screen.getByLabelText("Questions to test with"), { target: { value: "One?\n\nTwo?\nOne?" } });
    await click("Check it");
    expect((await screen.findByRole("alert")).textContent).toContain("Question 3: Says the same as question 1 to test with");
  });

  it("keeps two pairs back to test with, and says what it costs not to", async () => {
    const { go, session } = await opened();
    const id = await session.workshop.importPack(new Blob([JSON.stringify(mockPack("shy", "bold", "Blushes."))]));
    await go(`#traits/${String(id)}`);
    const pairs = screen.getByLabelText<HTMLInputElement>("Instruction pairs");
    expect(pairs.value).toBe("3");
    expect(screen.getByText(/Of the pack's 5 pairs, 2 are kept back to test with/)).toBeTruthy();
    await fireEvent.click(screen.getByRole("button", { name: "Remove pair 5" }));
    expect(session.workshop.traits[0]?.settings.pairs).toBe(2);
    await fireEvent.change(pairs, { target: { value: "4" } });
    expect(screen.getByText(/No pair is kept back to test with/)).toBeTruthy();
    await fireEvent.click(screen.getByRole("button", { name: "Remove pair 4" }));
    expect(session.workshop.traits[0]?.settings.pairs).toBe(3);
    expect(screen.getByLabelText<HTMLInputElement>("Questions").min).toBe("4");
  });

  it("does not take a name twice", async () => {
    const { go } = await opened();
    await go("#traits/new");
    await type("Name", "cheerful");
    await type("Opposite", "gloomy");
    await type(/How does it show/, "Smiles.");
    await type(/how does the opposite show/, "Files papers.");
    await click("Draft it");
    expect((await screen.findByRole("alert")).textContent).toContain("There is a trait called cheerful already");
  });

  it("comes from a file, too, unless that is too large to be one", async () => {
    const { go, session } = await opened();
    await go("#traits/new");
    expect(await session.workshop.importPack(new Blob(["x".repeat(300_000)]))).toBeNull();
    expect((await screen.findByRole("alert")).textContent).toContain("trait packs have at most 262144");
    expect(await session.workshop.importPack(new Blob(["<html>"]))).toBeNull();
    await waitFor(() => expect(screen.getByRole("alert").textContent).toContain("not JSON"));
    const id = await session.workshop.importPack(new Blob([JSON.stringify(mockPack("shy", "bold", "Blushes."))]));
    await go(`#traits/${String(id)}`);
    expect(screen.getByRole("heading", { level: 1 }).textContent).toContain("shy");
  });
});

describe("a trait that is made", () => {
  it("ends with a verdict, charts that can be read without eyes, and a slider with the recommended range", async () => {
    const page = await opened();
    const { go, session } = page;
    await draft(page);
    await click(/^Make it/);
    await waitFor(() => expect(session.workshop.traits[0]!.prediction).not.toBeNull(), { timeout: 20_000 });
    expect(screen.getByRole("img", { name: /Reading before and evidence after, 40 answers/ })).toBeTruthy();
    expect(screen.getByText("It passes.").closest("p")?.textContent).toContain("4.1 deviations");
    const answers = within(screen.getByRole("region", { name: "Verdict" })).getAllByRole("row").map((row) => row.textContent);
    expect(answers).toHaveLength(1 + 7);
    expect(answers[3]).toMatch(/This trait, and not another\?.*yes.*closest is poetic.*too near to tell apart: optimistic/);
    expect(answers[7]).toMatch(/cannot tell.*no say/);
    expect(screen.queryByText(/older test/)).toBeNull();
    expect(screen.getByRole("img", { name: /Separation of held-out questions.*layer 18/ })).toBeTruthy();
    const figure = within(screen.getByRole("figure", { name: "The harder the push, the more of it?" }));
    await fireEvent.click(figure.getByRole("button", { name: "Numbers" }));
    expect(within(figure.getByRole("table")).getAllByRole("row")).toHaveLength(1 + 4 * 3);
    // The flipped push of the controls opened the side against the trait, which the sweep had not tried.
    expect(session.traits.find(({ name }) => name === "sea-dog")?.recommended).toEqual({ layers: [17], min: -2.4, max: 2.4 });
    expect(session.workshop.traits[0]!.sweep?.recommended?.min).toBe(-2.4);
    expect(await session.workshop.file(session.workshop.traits[0]!.id, "vector")).toHaveLength(5);
    const controls = within(screen.getByRole("figure", { name: "Beside other directions" }));
    await fireEvent.click(controls.getByRole("button", { name: "Numbers" }));
    const directions = within(controls.getByRole("table")).getAllByRole("row").slice(1).map((row) => row.firstElementChild?.textContent);
    expect(directions).toEqual(["this vector", "sign flipped", ...Array.from({ length: 19 }, (_, i) => `shuffled labels ${i + 1}`), ...Array.from({ length: 5 }, (_, i) => `random direction ${i + 1}`), "the vector of poetic"]);
    await go("#play");
    expect((await screen.findByRole<HTMLInputElement>("slider", { name: /sea-dog/ })).max).toBe("4");
  }, 30_000);

  it("goes on where the tab was closed, with what was written", async () => {
    const store: Store = memoryRecords("traits");
    const first = await opened(store, 1);
    await draft(first, 20);
    await click("Write the responses");
    await waitFor(() => expect(first.session.workshop.traits[0]?.responses.length).toBeGreaterThan(20));
    // The tab is gone: nobody stopped anything, and what comes after this is lost.
    first.unmount();
    const kept = structuredClone(await store.list());
    const contrast = (await store.parts(kept[0]!.id)).contrast;
    await first.session.workshop.stop();
    await waitFor(() => expect(first.session.workshop.running).toBeNull());
    const later: Store = memoryRecords("traits");
    await later.put(kept[0]!);
    await later.putPart(kept[0]!.id, "contrast", contrast!);

    const second = await opened(later);
    const spy = vi.spyOn(second.engine.traits, "writeResponses");
    expect(screen.getByText(/Half-made: \d+ responses written/)).toBeTruthy();
    await second.go(`#traits/${kept[0]!.id}`);
    await click("Go on writing");
    await waitFor(() => expect(second.session.workshop.traits[0]?.extraction).not.toBeNull(), { timeout: 20_000 });
    expect(spy.mock.calls[0]?.[0].contrast).toEqual(contrast);
    expect(second.session.workshop.traits[0]?.responses).toHaveLength(80);
  }, 40_000);

  it("keeps its responses when all are dropped, says so, and takes other thresholds", async () => {
    const page = await opened();
    const { session } = page;
    await draft(page);
    await click("Write the responses");
    await screen.findByText(/^Kept:/, {}, { timeout: 20_000 });
    const before = session.workshop.traits[0]!.extraction!.keptPositive;
    const evidence = screen.getByRole("slider", { name: "Evidence at least" });
    await fireEvent.change(evidence, { target: { value: "4" } });
    expect((await screen.findByRole("alert")).textContent).toContain("No positive response passes");
    expect(session.workshop.traits[0]!.responses).toHaveLength(20);
    await fireEvent.change(evidence, { target: { value: "1" } });
    await waitFor(() => expect(session.workshop.traits[0]!.extraction!.keptPositive).toBeLessThan(before));
    expect(screen.queryByRole("alert")).toBeNull();
    await fireEvent.change(screen.getByLabelText("Show"), { target: { value: "dropped" } });
    expect(within(screen.getByRole("list", { name: "Responses" })).getAllByText(/^dropped:/).length).toBeGreaterThan(0);
  }, 30_000);

  it("waits while Play answers, and then goes on", async () => {
    const page = await opened(memoryRecords("traits"), 1);
    const { session } = page;
    await draft(page, 20);
    await click("Write the responses");
    await waitFor(() => expect(session.workshop.traits[0]?.responses.length).toBeGreaterThan(2));
    await session.chat.ask("How was your weekend?");
    const atAnswer = session.workshop.traits[0]!.responses.length;
    expect(atAnswer).toBeLessThan(80);
    expect(session.chat.conversation.turns[0]?.runs[0]?.answers.steered.end).toBe("end-token");
    await waitFor(() => expect(session.workshop.traits[0]!.responses.length).toBeGreaterThan(atAnswer));
    await session.workshop.stop();
    await waitFor(() => expect(session.workshop.running).toBeNull());
  }, 20_000);
});

describe("traits that were here before", () => {
  it("say what is missing where nobody has tested them", async () => {
    const { go } = await opened();
    await go("#traits/villainous");
    expect(await screen.findByText(/There is no report on this trait yet/)).toBeTruthy();
  });

  it("say so when they fail their controls", async () => {
    const { go } = await opened();
    await go("#traits/poetic");
    expect(await screen.findByText("Do not believe it.")).toBeTruthy();
    expect(screen.getByText(/Not measured for this trait yet: whether its reading predicts/)).toBeTruthy();
  }, 20_000);

  it("have a short verdict each in the overview", async () => {
    await opened();
    expect(await screen.findByText("It passes.")).toBeTruthy();
    expect(screen.getByText("Do not believe it.").closest("li")?.textContent).toContain("poetic");
    expect(screen.getByText("Not tested yet.").closest("li")?.textContent).toContain("villainous");
  }, 20_000);

  it("have their reports without a model", async () => {
    const { go } = await opened(memoryRecords("traits"), 0, false);
    expect((await screen.findByText("Do not believe it.")).closest("li")?.textContent).toContain("poetic");
    await go("#traits/poetic");
    expect(await screen.findByText(/This vector does not do what its name says/, { selector: ".verdict p" })).toBeTruthy();
    expect(screen.getByRole("heading", { name: "Is it really this direction?" })).toBeTruthy();
    expect(screen.getByText(/Not measured for this trait yet: whether its reading predicts/)).toBeTruthy();
    expect(screen.getByRole("button", { name: /98 MB/ })).toBeTruthy();
    await go("#traits/never-made");
    expect(await screen.findByText(/^Ready-made traits come with the model\. Load it/)).toBeTruthy();
  }, 20_000);

  it("come from vector files, and are there again with the model", async () => {
    const store: Store = memoryRecords("traits");
    const { session, go, unmount } = await opened(store);
    expect(await session.workshop.importVector(new File([new Uint8Array(20)], "x.safetensors"))).toBeNull();
    expect((await screen.findByRole("alert")).textContent).toContain("not a vector file");
    expect(await session.workshop.importVector(new File([Uint8Array.of(71, 71, 85, 70, 1, 2, 3)], "Old Salt.gguf"))).toBe("old-salt");
    await go("#traits/old-salt");
    expect(await screen.findByText(/came as a vector file, without a report/)).toBeTruthy();
    // Nobody tried it, so no range is coloured; a pack of the visitor's choice tests it.
    await go("#play");
    const slider = await screen.findByRole("slider", { name: /old-salt/ });
    expect(document.getElementById(slider.getAttribute("aria-describedby") ?? "")?.textContent).toContain("Nobody tried yet");
    expect(slider.parentElement?.querySelector(".band")).toBeNull();
    await go("#traits/old-salt");
    expect(screen.queryByRole("button", { name: "Try it" })).toBeNull();
    await fireEvent.change(await screen.findByRole("combobox", { name: "Trait pack" }), { target: { value: "cheerful" } });
    await click("Try it");
    await screen.findByText("Recommended.", undefined, { timeout: 10_000 });
    await click("Compare");
    await screen.findByText("It passes.", undefined, { timeout: 10_000 });
    expect(session.workshop.find("old-salt")?.pack.opposite).toBe("gloomy");
    unmount();
    const again = await opened(store);
    expect(again.session.traits.map(({ name }) => name)).toContain("old-salt");
  }, 30_000);

  it("keep their place when a vector replaces one: readings come in that order", async () => {
    const { session } = await opened();
    const names = session.traits.map(({ name }) => name);
    session.model.addTrait({ ...session.traits[0]!, hash: "other" });
    expect(session.traits.map(({ name }) => name)).toEqual(names);
    expect(session.traits[0]?.hash).toBe("other");
  });
});

describe("the gauge beside a slider", () => {
  it("shows how the last answer fared, on the sliders that pushed it", async () => {
    const { go, session } = await opened();
    await go("#play");
    await fireEvent.input(screen.getByRole("slider", { name: /cheerful/ }), { target: { value: "2.6" } });
    await session.chat.ask("How was your weekend?");
    const gauge = await screen.findByText("repeats itself");
    expect(gauge.closest(".slider")?.textContent).toContain("cheerful");
    expect(screen.getAllByText(/^(repeats itself|still making sense)$/)).toHaveLength(1);
    expect(screen.getByText(/41 % of its neighbouring pairs/)).toBeTruthy();
  });
});
