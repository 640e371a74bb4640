import { beforeEach, describe, expect, it } from "vitest";
import { MockEngine } from "../../fixtures/mock_engine.ts";
import { Session } from "../../state/session/session.svelte.ts";
import { exported } from "../../state/files/exported.ts";
import { memoryStore } from "../../state/storage/conversations.ts";
import { coloured } from "./coloured.ts";
import { csv } from "../elements/csv.ts";
import { draw, toSvg } from "./picture.ts";
import { readingsCsv, readingsJson } from "./readings.ts";
import { readSession, sessionText } from "../../state/files/session_file.ts";
import { adoptAdapters, savedAdapters } from "../../state/files/session_adapters.ts";
import { adoptTraits, savedTraits } from "../../state/files/session_traits.ts";

async function answered() {
  const session = new Session(new MockEngine({ tokenMs: 0, loadMs: 0 }), memoryStore());
  await session.model.readCatalogue();
  await session.loadAgain();
  session.moveSlider("cheerful", 2);
  await session.chat.ask('What is <b>"snow"</b>?');
  const run = session.chat.conversation.turns[0]?.runs[0];
  if (run === undefined) throw new Error("no answer");
  return { session, run };
}

const measure = (text: string, size: number) => text.length * size * 0.5;

beforeEach(() => localStorage.clear());

describe("a table", () => {
  it("quotes what must be quoted, and lets no text become a formula", () => {
    expect(csv([["a,b", 'say "x"', "two\nlines", " space", null, Number.NaN, -1.5, 0.123456789]])).toBe('"a,b","say ""x""","two\nlines"," space",,,-1.5,0.123456789\r\n');
    for (const text of ["=1+1", "+1", "-1", "@x", "\t=1", " =cmd()", "＝1", "\r=1"]) {
      expect(csv([[text]]).replace(/^"/, "")).toMatch(/^'/);
    }
  });

  it("has a line for every token, with both readings of every trait in numbers", async () => {
    const { run } = await answered();
    const lines = readingsCsv(run, 16).trimEnd().split("\r\n");
    expect(lines[0]).toBe("text,place,token_id,token,logprob,logprob_unsteered,cheerful_layer16_reread,cheerful_layer16_in_run,poetic_layer16_reread,poetic_layer16_in_run,villainous_layer16_reread,villainous_layer16_in_run,push,model,precision,temperature,seed");
    const tokens = (run.prompt?.tokens.length ?? 0) + run.answers.unsteered.tokens.length + run.answers.steered.tokens.length;
    expect(lines).toHaveLength(1 + tokens);
    const steered = lines.find((line) => line.startsWith("steered,0,"))?.split(",") ?? [];
    expect(Number(steered[7])).toBeGreaterThan(Number(steered[6]));
    expect(steered.slice(12)).toEqual(["cheerful +2.0", run.model.name, run.model.precision, "0.7", String(run.sampler.seed)]);
  });
});

describe("readings for programs", () => {
  it("hold every layer, and no reading as null", async () => {
    const { run } = await answered();
    const found = JSON.parse(readingsJson("?", run)) as { steered: { reread: Record<string, (number | null)[][]>; tokens: unknown[] } };
    expect(found.steered.reread["cheerful"]).toHaveLength(found.steered.tokens.length);
    expect(found.steered.reread["cheerful"]?.[0]).toHaveLength(31);
  });
});

describe("a picture", () => {
  it("is sound XML that shows every word, its colour and its number, and nothing of a stranger's markup", async () => {
    const { session, run } = await answered();
    const svg = toSvg(draw('What is <b>"snow"</b>?\u0007', run, coloured(run, session.view), measure), "<&>");
    const parsed = new DOMParser().parseFromString(svg, "image/svg+xml");
    expect(parsed.querySelector("parsererror, b, script")).toBeNull();
    expect(svg).not.toMatch(/<b>|\u0007/);
    const words = [...parsed.querySelectorAll("text")].map((text) => [...text.childNodes].filter((node) => node.nodeType === 3).map((node) => node.textContent).join(""));
    for (const word of ["wonderful", "quiet", "0 ordinary", "gloomy"]) expect(words.join(" ")).toContain(word);
    expect(parsed.querySelectorAll("rect").length).toBeGreaterThan(40);
    expect(svg).toContain("cheerful +2.0");
    expect(svg).toMatch(/<title>[+−]\d\.\d\d<\/title>/);
  });

  it("keeps words inside its columns", async () => {
    const { session, run } = await answered();
    const drawing = draw("?", run, coloured(run, session.view), measure);
    for (const shape of drawing.shapes) {
      expect(shape.x + shape.width).toBeLessThanOrEqual(drawing.width);
      expect(shape.y).toBeLessThanOrEqual(drawing.height);
    }
  });
});

describe("a session's file", () => {
  it("brings everything back bit by bit", async () => {
    const { session } = await answered();
    const conversations = [session.chat.conversation];
    const progress = { direction: { step: 1, done: ["0.1"], passed: [0] } };
    const lessons = [{ name: "own-1", text: "trimtab lesson: 1" }];
    const traits = [{ imported: true, pack: { name: "mine" }, settings: { pairs: 3, questions: 20, maxTokens: 40, temperature: 0.8, seed: 1 }, thresholds: { evidence: 0, deviations: 3, distinct2: 0.7 }, model: { name: "m", sha256: "" }, contrast: null, vector: Uint8Array.of(0, 200, 255) }];
    const adapters = [{ name: "mine", about: "Data", model: { name: "m", sha256: "ab" }, rank: 8, alpha: 16, sha256: "cd", config: Uint8Array.of(1), weights: Uint8Array.of(0, 255) }];
    expect(readSession(sessionText({ conversations, lessons, progress, traits, adapters }))).toEqual({ conversations, lessons, progress, traits, adapters });
  });

  it("brings the visitor's own traits to another browser, and writes over none", async () => {
    const { session } = await answered();
    const { workshop, engine } = session;
    await workshop.importVector(new File([Uint8Array.of(1, 2, 3)], "mine.safetensors"));
    await workshop.draft("sea-dog", "Talks like an old sailor.", "city clerk", "");
    const saved = readSession(sessionText({ conversations: [], lessons: [], progress: {}, traits: await savedTraits(workshop), adapters: [] })).traits;
    const other = new Session(engine, memoryStore());
    await other.model.readCatalogue();
    await other.loadAgain();
    expect(await adoptTraits(saved, other.workshop, engine)).toBe(2);
    expect(other.workshop.traits.map(({ pack }) => pack.name).sort()).toEqual(["mine", "sea-dog"]);
    expect(other.traits.map(({ name }) => name)).toContain("mine");
    expect(await adoptTraits(saved, other.workshop, engine)).toBe(0);
    const evil = { ...saved[1]!, imported: true, pack: { name: "__proto__", opposite: "", description: "" } };
    await expect(adoptTraits([evil], other.workshop, engine)).rejects.toThrow(/a trait's name/);
  });

  it("brings adapters to another browser, once", async () => {
    const { session } = await answered();
    session.preferences.choices.backend = "cpu";
    await session.loadAgain();
    await session.lab.importAdapter([new File(["{}"], "adapter_config.json"), new File(["x"], "adapter_model.safetensors")]);
    const saved = readSession(sessionText({ conversations: [], lessons: [], progress: {}, traits: [], adapters: await savedAdapters(session.lab) })).adapters;
    const other = new Session(session.engine, memoryStore());
    other.preferences.choices.backend = "cpu";
    await other.model.readCatalogue();
    await other.loadAgain();
    expect(await adoptAdapters(saved, other.lab)).toBe(1);
    expect(other.adapters.map(({ name }) => name)).toEqual(["adapter from files"]);
    expect(await other.lab.files(other.lab.runs[0]?.id ?? "")).toEqual({ config: saved[0]?.config, weights: saved[0]?.weights });
    expect(await adoptAdapters(saved, other.lab)).toBe(0);
  });

  it("may be one conversation's, whose numbers are written out", async () => {
    const { session, run } = await answered();
    const found = readSession(exported(session.chat.conversation)).conversations[0];
    expect(found?.turns[0]?.user).toBe('What is <b>"snow"</b>?');
    const [was, is] = [run.answers.steered.reread?.values ?? [], found?.turns[0]?.runs[0]?.answers.steered.reread?.values ?? []];
    expect(is).toHaveLength(was.length);
    expect(Math.max(...Array.from(was, (value, at) => (Number.isNaN(value) ? 0 : Math.abs(value - (is[at] ?? 99)))))).toBeLessThan(1e-5);
  });

  it("is refused with a sentence when it is none, newer, or damaged", async () => {
    const { session } = await answered();
    const sound = JSON.parse(sessionText({ conversations: [session.chat.conversation], lessons: [], progress: {}, traits: [], adapters: [] })) as Record<string, unknown>;
    const damaged = (change: (conversation: never) => void) => {
      const copy = structuredClone(sound) as { conversations: never[] };
      change(copy.conversations[0]!);
      return JSON.stringify(copy);
    };
    for (const [text, reason] of [
      ["", /not JSON/],
      ["[]", /the file is not there/],
      ["{}", /no session/],
      ['{"format": "trimtab-session-2"}', /newer/],
      ['{"format": "trimtab-session-1", "conversations": 3}', /list/],
      [damaged((one: { title: unknown }) => (one.title = { toString: 1 })), /title should be a text/],
      [damaged((one: { turns: { runs: { answers: { steered: { inRun: { tokens: number } } } }[] }[] }) => (one.turns[0]!.runs[0]!.answers.steered.inRun.tokens = 1e6)), /number/],
      [damaged((one: { turns: { runs: { answers: { steered: { inRun: { values: unknown } } } }[] }[] }) => (one.turns[0]!.runs[0]!.answers.steered.inRun.values = { f32: "AAA" })), /damaged/],
      [damaged((one: { turns: { runs: { prompt: { tokens: unknown } }[] }[] }) => (one.turns[0]!.runs[0]!.prompt.tokens = [{ id: "x" }])), /number/],
    ] as const) {
      expect(() => readSession(text)).toThrow(reason);
    }
  });

  it("gives new ids for those that could not be ours", async () => {
    const { session } = await answered();
    const text = sessionText({ conversations: [{ ...session.chat.conversation, id: "../../<x>" }], lessons: [], progress: {}, traits: [], adapters: [] });
    expect(readSession(text).conversations[0]?.id).toMatch(/^[0-9a-f]{24}$/);
  });
});
