import { describe, expect, it } from "vitest";
import { fieldOf, problemOf } from "./problem.ts";

const failure = (message: string) => ({ kind: "usage" as const, message });

describe("what is wrong with a pack", () => {
  it("is shown at its field, in the form's words", () => {
    expect(problemOf(failure("questions.evaluation[2]: says the same as questions.extraction[0]; write something else, or remove one of the two"))).toEqual({
      field: "questions.evaluation[2]",
      message: "Says the same as question 1 to learn from; write something else, or remove one of the two.",
    });
    expect(problemOf(failure("instructions[1].negative: is empty; write something")).message).toBe("Is empty; write something.");
  });

  it("stands by itself where it names no field", () => {
    expect(problemOf(failure("the trait pack is not JSON: expected value at line 1"))).toEqual({ field: "", message: "the trait pack is not JSON: expected value at line 1" });
  });

  it.each([
    ["name", { part: "name", index: null, side: null }],
    ["instructions[1].negative", { part: "instructions", index: 1, side: "negative" }],
    ["questions.extraction[12]", { part: "questions.extraction", index: 12, side: null }],
    ["constructor", { part: "", index: null, side: null }],
  ])("%s is a place in the form, or none", (field, place) => {
    expect(fieldOf(field)).toEqual(place);
  });
});
