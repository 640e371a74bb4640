import { describe, expect, it } from "vitest";
import { exampleText, readLesson, readyLessons } from "./library.ts";
import { LessonError, maxLessonBytes } from "./lesson.ts";
import { parseLesson } from "./parse.ts";
import { blocksOf } from "./marked_text.ts";

const lesson = (steps: string, head = "") => `trimtab lesson: 1\ntitle: T\n${head}steps:\n${steps}`;

function refusal(text: string): { line: number | null; message: string } {
  try {
    parseLesson(text);
  } catch (thrown) {
    if (thrown instanceof LessonError) return thrown;
    throw thrown;
  }
  throw new Error("the lesson was taken");
}

describe("the ready-made lessons", () => {
  it("are the eight, sound, 10 to 15 minutes each, with a question in most steps and a sheet for the teacher", () => {
    expect(readyLessons.map(({ lesson: { title } }) => title)).toEqual([
      "What is a direction?",
      "Watching a trait",
      "Pushing, and the price of pushing",
      "Is it really that direction?",
      "Make your own trait",
      "What this cannot tell you",
      "Training by example",
      "A vaccine that is a vector",
    ]);
    for (const { lesson: one, text } of readyLessons) {
      expect(one.minutes).toBeGreaterThanOrEqual(10);
      expect(one.minutes).toBeLessThanOrEqual(15);
      expect(one.steps.reduce((sum, step) => sum + (step.minutes ?? 0), 0)).toBe(one.minutes);
      expect(one.steps.every((step) => step.question !== null)).toBe(true);
      expect(one.steps.some((step) => step.tasks.some((task) => task.check !== null))).toBe(true);
      expect(one.teacher.aims.length * one.teacher.goesWrong.length).toBeGreaterThan(0);
      expect(text).not.toContain("@@");
    }
  });

  it("speak of no words of the model's that their recipes do not hold", () => {
    const letters = (text: string) => text.toLowerCase().replaceAll("’", "'");
    for (const { lesson: one } of readyLessons) {
      for (const { title, text, tasks, setUp, quotes, question, seen } of one.steps) {
        const known = letters([text, seen, setUp?.ask ?? "", ...tasks.map((task) => task.text), ...quotes.map((quote) => quote.text)].join("\n"));
        if (quotes.length === 0) continue;
        for (const [, said] of `${question?.question ?? ""} ${question?.answer ?? ""}`.matchAll(/“([^”]+)”/g)) expect(known, title).toContain(letters(said ?? ""));
        expect(seen, `${title}: outputs are quoted from recipes`).not.toContain("> ");
      }
    }
  });

  it("come with an example that is sound", () => {
    expect(readLesson(exampleText)).toMatchObject({ title: "Rain and shine" });
  });
});

describe("a lesson's file", () => {
  it("becomes steps with set-ups and checks", () => {
    const found = parseLesson(
      lesson(
        "  - title: A\n    set up: {ask: Hi, push: {cheerful: -1.5}, colour by: surprise, random control: {like: cheerful, seed: 3}}\n    do:\n      - By hand\n      - {say: Seen, check: {answered: {cheerful: 0, random 3 (cheerful): 2}}}\n",
      ),
    );
    expect(found.steps[0]?.setUp).toMatchObject({ ask: "Hi", push: new Map([["cheerful", -1.5]]), colourBy: "surprise", control: { like: "cheerful", seed: 3 }, temperature: 0, length: 48 });
    expect(found.steps[0]?.tasks).toEqual([
      { text: "By hand", check: null },
      { text: "Seen", check: { kind: "answered", push: new Map([["cheerful", 0], ["random 3 (cheerful)", 2]]) } },
    ]);
  });

  it.each<[string, string, number | null, RegExp]>([
    ["no lesson", "hello: 1", 1, /begins with the line/],
    ["nothing", "", null, /empty/],
    ["a newer version", "trimtab lesson: 2\ntitle: T\nsteps: []", 1, /version 2/],
    ["no step", "trimtab lesson: 1\ntitle: T\nsteps: []", 1, /needs steps/],
    ["a misspelt name", lesson("  - title: A\n    texst: B\n"), 5, /no "texst"; it knows "set up"|no "texst"/],
    ["a question without an answer", lesson("  - title: A\n    question: B\n"), 5, /needs an answer/],
    ["a push without a number", lesson("  - title: A\n    set up:\n      push: {cheerful: much}\n"), 6, /"cheerful" is a number from −?-?20 to 20/],
    ["a push beyond all bounds", lesson("  - title: A\n    set up:\n      push: {cheerful: 1e9}\n"), 6, /number from/],
    ["an unknown check", lesson("  - title: A\n    do:\n      - say: B\n        check: {wink: yes}\n"), 7, /no "wink"/],
    ["a word that nobody explains", lesson("  - title: A\n    text: the [[quux]]\n"), 5, /explains "\[\[quux\]\]"/],
    ["broken YAML", lesson("  - title: A\n   text: [\n"), 5, /not sound YAML/],
    ["a reference", lesson("  - title: &a A\n  - title: *a\n"), 5, /references/],
    ["a name twice", lesson("  - title: A\n    title: B\n"), 5, /not sound YAML/],
    ["a link that is none", lesson("  - title: A\n    set up: {link: 'javascript:alert(1)'}\n"), 5, /what Share gave/],
    ["a text that is a list", lesson("  - title: [A]\n"), 4, /should be text/],
  ])("is refused with its line for %s", (_, text, line, reason) => {
    const { line: at, message } = refusal(text);
    expect(message).toMatch(reason);
    expect(at).toBe(line);
  });

  it("is refused when it is too large, too deep or too long, without harm", () => {
    expect(refusal("x".repeat(maxLessonBytes + 1)).message).toMatch(/at most/);
    expect(refusal(`trimtab lesson: 1\ntitle: ${"[".repeat(20_000)}`).message).toMatch(/nested|YAML/);
    expect(refusal(lesson("  - title: A\n".repeat(31))).message).toMatch(/31 entries/);
    expect(refusal(lesson(`  - title: ${"A".repeat(200)}\n`)).message).toMatch(/200 letters/);
    const laughs = Array.from({ length: 9 }, (_, i) => `a${String(i + 1)}: &a${String(i + 1)} [${`*a${String(i)}, `.repeat(9)}]`).join("\n");
    expect(refusal(`a0: &a0 lol\n${laughs}`).message).toMatch(/references/);
  });

  it("cannot reach into objects by their names", () => {
    expect(refusal(lesson("  - title: A\n    __proto__: {x: 1}\n")).message).toMatch(/no "__proto__"/);
    const pushed = parseLesson(lesson("  - title: A\n    set up: {push: {__proto__: 1, constructor: 2}}\n")).steps[0]?.setUp?.push;
    expect(pushed).toEqual(new Map([["__proto__", 1], ["constructor", 2]]));
  });
});

describe("marks in a text", () => {
  it("are stress, words with a meaning, lists and quotes; everything else stays as it stands", () => {
    expect(blocksOf("a *b* [[c|layer]] <b>*\n\n- one\n  more\n- two\n> said")).toEqual([
      {
        kind: "paragraph",
        lines: [
          [
            { text: "a ", stressed: false, word: null },
            { text: "b", stressed: true, word: null },
            { text: " ", stressed: false, word: null },
            { text: "c", stressed: false, word: "layer" },
            { text: " <b>*", stressed: false, word: null },
          ],
        ],
      },
      {
        kind: "list",
        lines: [
          [
            { text: "one", stressed: false, word: null },
            { text: " ", stressed: false, word: null },
            { text: "more", stressed: false, word: null },
          ],
          [{ text: "two", stressed: false, word: null }],
        ],
      },
      { kind: "quote", lines: [[{ text: "said", stressed: false, word: null }]] },
    ]);
  });
});
