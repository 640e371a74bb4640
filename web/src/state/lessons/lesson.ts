/** A lesson whose file has been read and found sound. */

export interface Lesson {
  title: string;
  summary: string;
  minutes: number;
  /** Words that a text marks as `[[word]]`, with their meanings. */
  words: ReadonlyMap<string, string>;
  teacher: TeacherNotes;
  steps: Step[];
}

/** Notes that are printed for the teacher and not shown to students. */
export interface TeacherNotes {
  aims: string[];
  before: string;
  goesWrong: string[];
}

export interface Step {
  title: string;
  minutes: number | null;
  text: string;
  page: StepPage;
  setUp: SetUp | null;
  tasks: Task[];
  question: { question: string; answer: string } | null;
  /** What the author saw, for comparison, in words. */
  seen: string;
  quotes: Quote[];
}

/** What the model once wrote or was asked: shown as the tokens of its recipe, and so the same on every machine. */
export interface Quote {
  text: string;
  of: "answer" | "question";
  /** The code of the recipe's link. */
  link: string;
}

/** The page that the student works on: Play; Train; or Traits, there one trait's page, `new` to make one, or null for the list. */
export type StepPage = { kind: "play" } | { kind: "train" } | { kind: "traits"; trait: string | null };

/** A step's arrangement of the page; null stands for the lesson's own default. */
export interface SetUp {
  /** A question that is asked at once, in a new conversation. */
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

/** A task for the student, ticked by hand where the page has no check for it. */
export interface Task {
  text: string;
  check: Check | null;
}

/** The coefficient that a task asks for: a number, or a place on the slider that depends on the vector (the band is its recommended range). */
export type CoefficientGoal = number | "end of band" | "beyond band";

/**
 * A condition that the page can see. Coefficients mean *at least so far*: 2 is met by 2 and more, −2
 * by −2 and less, 0 by no push.
 */
export type Check =
  | { kind: "slider"; push: ReadonlyMap<string, CoefficientGoal> }
  | { kind: "answered"; push: ReadonlyMap<string, CoefficientGoal> }
  | { kind: "both-signs"; trait: string }
  | { kind: "card"; of: "unsteered" | "steered" | "question" | "any" }
  | { kind: "coloured-by"; what: string }
  | { kind: "layer-changed" }
  | { kind: "inside-run" }
  | { kind: "new-trait" }
  /** Rows of some dataset are screened. */
  | { kind: "screened" }
  /** A run was finished since the step began: in that way, or in any. */
  | { kind: "trained"; method: "plain" | "vaccine" | "penalty" | "ablation" | "any" }
  /** What moved was measured of some run since the step began. */
  | { kind: "measured" }
  /** An answer was tuned by an adapter. */
  | { kind: "tuned" };

/** False at steps that stay without colours, which the lesson has not spoken of yet. */
export function isColoured(lesson: Lesson, step: number): boolean {
  return lesson.steps.slice(0, step + 1).findLast(({ setUp }) => setUp !== null)?.setUp?.colourBy !== "nothing";
}

/** A lesson that cannot be used; the message says why, and in which line of its file (from 1). */
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
