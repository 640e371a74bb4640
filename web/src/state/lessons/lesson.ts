/** What a lesson is, once its file has been read and found sound. */

export interface Lesson {
  title: string;
  summary: string;
  minutes: number;
  /** Words that a text marks as `[[word]]`, with their meanings. */
  words: ReadonlyMap<string, string>;
  teacher: TeacherNotes;
  steps: Step[];
}

/** Printed, and shown to nobody who takes the lesson. */
export interface TeacherNotes {
  aims: string[];
  before: string;
  goesWrong: string[];
}

export interface Step {
  title: string;
  minutes: number | null;
  text: string;
  /** Which page the student works on. */
  page: "play" | "traits";
  setUp: SetUp | null;
  tasks: Task[];
  question: { question: string; answer: string } | null;
  /** What the author saw: examples of outputs, to compare with. */
  seen: string;
}

/** How a step arranges the page. What is null stays at the lesson's own default. */
export interface SetUp {
  /** Asked at once, in a new conversation. */
  ask: string | null;
  system: string;
  /** Coefficients of traits by name. */
  push: ReadonlyMap<string, number>;
  colourBy: string | null;
  layer: number | null;
  insideRun: boolean;
  /** A random direction as long as a trait, added as a slider. */
  control: { like: string; seed: number } | null;
  temperature: number;
  seed: number;
  length: number;
  /** The code of a link, in place of `ask`, `system` and `push`. */
  link: string | null;
}

/** Something to do; ticked by hand where the page cannot see it. */
export interface Task {
  text: string;
  check: Check | null;
}

/** Of a slider: a number, or a place on its scale that each vector has elsewhere (the band is its recommended range). */
export type Wanted = number | "end of band" | "beyond band";

/**
 * What the page can see being done. Coefficients mean *at least so far*: 2 is met by 2 and more, −2
 * by −2 and less, 0 by no push.
 */
export type Check =
  | { kind: "slider"; push: ReadonlyMap<string, Wanted> }
  | { kind: "answered"; push: ReadonlyMap<string, Wanted> }
  | { kind: "both-signs"; trait: string }
  | { kind: "card"; of: "unsteered" | "steered" | "question" | "any" }
  | { kind: "coloured-by"; what: string }
  | { kind: "layer-changed" }
  | { kind: "inside-run" }
  | { kind: "new-trait" };

/** A lesson cannot be used: what is wrong, and in which line of its file (from 1). */
export class LessonError extends Error {
  constructor(
    readonly line: number | null,
    reason: string,
  ) {
    super(line === null ? reason : `Line ${String(line)}: ${reason}`);
    this.name = "LessonError";
  }
}

export const maxLessonBytes = 64 * 1024;
