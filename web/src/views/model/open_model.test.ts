import { cleanup, fireEvent, render, screen } from "@testing-library/svelte";
import { afterEach, describe, expect, it } from "vitest";
import { MockEngine, type MockOptions } from "../../fixtures/mock_engine.ts";
import { Session } from "../../state/session/session.svelte.ts";
import App from "../App.svelte";

afterEach(() => {
  cleanup();
});

async function opened(options: Partial<MockOptions> = {}): Promise<Session> {
  const session = new Session(new MockEngine({ loadMs: 40, tokenMs: 1, ...options }));
  await session.model.readCatalogue();
  render(App, { session });
  const [link] = await screen.findAllByRole("button", { name: "Open a model of your own" });
  if (link !== undefined) await fireEvent.click(link);
  return session;
}

const file = (name: string) => new File(["x"], name);

describe("a model of the visitor's own", () => {
  it("is told before it is opened: name, licence, size and memory", async () => {
    const session = await opened();
    await fireEvent.change(screen.getByLabelText("GGUF file"), { target: { files: [file("SmolLM2-360M.gguf")] } });
    await screen.findByText("SmolLM2 360M Instruct");
    expect(screen.getByText("apache-2.0")).toBeTruthy();
    expect(screen.getByText(/362 million numbers/)).toBeTruthy();
    expect(screen.getByText(/386 MB, and 41 MB for every 1,000/)).toBeTruthy();
    await fireEvent.click(screen.getByRole("button", { name: "Open it" }));
    await expect.poll(() => session.model.loaded?.name).toBe("SmolLM2-135M-Instruct");
  });

  it("is refused before it is converted where there is no room, with what to do", async () => {
    const room = { fits: false, weightBytes: 5e9, cacheBytesPerToken: 40_960, context: 0, sentences: ["It does not fit: choose a smaller one."] };
    await opened({ room });
    await fireEvent.change(screen.getByLabelText("GGUF file"), { target: { files: [file("large.gguf")] } });
    expect((await screen.findByRole("alert")).textContent).toBe("It does not fit: choose a smaller one.");
    expect((screen.getByRole("button", { name: "Open it" }) as HTMLButtonElement).disabled).toBe(true);
  });

  it("is opened where there is room, with what to know said beside it", async () => {
    const room = { fits: true, weightBytes: 386_404_992, cacheBytesPerToken: 40_960, context: 2048, sentences: ["There is room for conversations of 2048 tokens; it was made for 8192."] };
    await opened({ room });
    await fireEvent.change(screen.getByLabelText("GGUF file"), { target: { files: [file("tight.gguf")] } });
    await screen.findByText(/room for conversations of 2048/);
    expect(screen.queryByRole("alert")).toBeNull();
    expect((screen.getByRole("button", { name: "Open it" }) as HTMLButtonElement).disabled).toBe(false);
  });

  it("looks up a suggested model, and offers its usual form", async () => {
    const session = await opened();
    await fireEvent.click(screen.getByRole("button", { name: "Look up Qwen2.5 0.5B" }));
    await expect.poll(() => session.opening.found?.name).toBe("Qwen/Qwen2.5-0.5B-Instruct-GGUF");
    expect((screen.getByLabelText("Or by its name on the Hugging Face hub") as HTMLInputElement).value).toBe("Qwen/Qwen2.5-0.5B-Instruct-GGUF");
    expect(session.opening.path).toMatch(/q4_k_m/i);
  });

  it("says what is missing, and lets another be chosen", async () => {
    await opened();
    await fireEvent.change(screen.getByLabelText("GGUF file"), { target: { files: [file("notes.json")] } });
    expect((await screen.findByRole("alert")).textContent).toContain("no weights");
    expect(screen.getByRole("button", { name: "Choose a GGUF file" })).toBeTruthy();
  });

  it("is looked up on the hub by its name, and fetched only when that is asked for", async () => {
    await opened();
    await fireEvent.input(screen.getByLabelText(/Or by its name/), { target: { value: "owner/small-GGUF" } });
    await fireEvent.click(screen.getByRole("button", { name: "Look it up" }));
    const forms: HTMLSelectElement = await screen.findByLabelText("Which form");
    expect([...forms.options].map(({ text }) => text)).toEqual(["small-Q2_K.gguf · 220 MB", "small-Q4_K_M.gguf · 271 MB", "small-Q8_0.gguf · 386 MB", "small-F64.gguf · 5000 MB"]);
    const fetch = () => screen.getByRole<HTMLButtonElement>("button", { name: /^Fetch .* from huggingface.co/ });
    await fireEvent.change(forms, { target: { value: "small-F64.gguf" } });
    expect(screen.getByRole("alert").textContent).toContain("more than there is");
    expect(fetch().disabled).toBe(true);
    await fireEvent.change(forms, { target: { value: "small-Q8_0.gguf" } });
    await fireEvent.click(screen.getByRole("button", { name: "Fetch 386 MB from huggingface.co" }));
    await screen.findByText("SmolLM2 360M Instruct");
  });

  it("is taken where it is dropped", async () => {
    await opened();
    const dropped = file("dropped.gguf");
    const items = [{ kind: "file", webkitGetAsEntry: () => ({ isDirectory: false }), getAsFile: () => dropped }];
    const event = new Event("drop", { bubbles: true, cancelable: true });
    Object.assign(event, { dataTransfer: { types: ["Files"], items } });
    window.dispatchEvent(event);
    await screen.findByText("SmolLM2 360M Instruct");
    expect(event.defaultPrevented).toBe(true);
  });
});
