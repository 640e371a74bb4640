import { beforeEach, describe, expect, it } from "vitest";
import { parseOwnLessons } from "./own_lessons.ts";
import { parseProgress, Progress } from "./progress.svelte.ts";

beforeEach(() => localStorage.clear());

describe("progress", () => {
  it("is there again after the page was closed, and goes when it is reset", () => {
    const progress = new Progress();
    progress.setDone("direction", 1, 0, true);
    progress.openStep("direction", 2);
    progress.pass("direction", 1);
    const later = new Progress();
    expect(later.isDone("direction", 1, 0)).toBe(true);
    expect(later.of("direction")).toMatchObject({ step: 2, passed: [1] });
    later.setDone("direction", 1, 0, false);
    expect(new Progress().isDone("direction", 1, 0)).toBe(false);
    later.resetAll();
    expect(new Progress().begun("direction")).toBe(false);
  });

  it("survives whatever storage holds", () => {
    for (const text of ["", "{", "[]", "null", '"x"', '{"a": 1}', '{"__proto__": {"step": 3}}', '{"a": {"step": -1, "done": ["x", 1, "1.2"], "passed": "no"}}']) {
      const found = parseProgress(text);
      for (const one of Object.values(found)) expect(one.step).toBeGreaterThanOrEqual(0);
    }
    expect(parseProgress('{"a": {"step": -1, "done": ["x", 1, "1.2"], "passed": "no"}}')).toEqual({ a: { step: 0, done: ["1.2"], passed: [] } });
    expect(new Progress().of("constructor")).toEqual({ step: 0, done: [], passed: [] });
  });
});

describe("lessons of one's own in storage", () => {
  it("leave out what is none", () => {
    expect(parseOwnLessons('[{"name": "own-1", "text": "a"}, {"name": "../x", "text": "b"}, {"name": "own-2"}, null, 3]')).toEqual([{ name: "own-1", text: "a" }]);
    expect(parseOwnLessons("{")).toEqual([]);
    expect(parseOwnLessons(null)).toEqual([]);
  });
});
