/** The ready-made lessons, and the reader of others. This module is fetched when somebody opens Lessons: the YAML reader is a third of the page. */

import { type Lesson, LessonError } from "./lesson.ts";
import { parseLesson } from "./parse.ts";

/** Texts by path. A lesson has its file's name without the number: `1-direction.yaml` is `#lessons/direction`. */
const files = import.meta.glob<string>("../../../lessons/[0-9]*.yaml", { query: "?raw", import: "default", eager: true });
const examples = import.meta.glob<string>("../../../lessons/example.yaml", { query: "?raw", import: "default", eager: true });

export interface ReadyLesson {
  /** The name in the address. */
  name: string;
  text: string;
  lesson: Lesson;
}

export const readyLessons: readonly ReadyLesson[] = Object.entries(files)
  .sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
  .map(([path, text]) => ({ name: path.replace(/^.*\/\d+-|\.yaml$/g, ""), text, lesson: parseLesson(text) }));

/** A small lesson to begin one's own with. */
export const exampleText: string = Object.values(examples)[0] ?? "";

/** The lesson, or the sentence that says why it is none. */
export function readLesson(text: string): Lesson | string {
  try {
    return parseLesson(text);
  } catch (thrown) {
    if (thrown instanceof LessonError) return thrown.message;
    throw thrown;
  }
}
