/** Progress in each lesson, kept in this browser alone. */

export interface LessonProgress {
  /** The step that was open last. */
  step: number;
  /** Done tasks, as `step.task`. */
  done: string[];
  /** Steps that were left by going on. */
  passed: number[];
}

const key = "trimtab.lessons";
const maxLessons = 200;
const maxMarks = 400;

const nothing: LessonProgress = { step: 0, done: [], passed: [] };

/** Reads stored progress. It may be old, foreign or broken: whatever is unfit is left out. */
export function parseProgress(text: string | null): Record<string, LessonProgress> {
  const found: Record<string, LessonProgress> = {};
  const raw = parsed(text);
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) return found;
  for (const [name, value] of Object.entries(raw).slice(0, maxLessons)) {
    if (typeof value !== "object" || value === null || name === "__proto__") continue;
    const { step, done, passed } = value as Record<string, unknown>;
    found[name] = {
      step: isIndex(step) ? step : 0,
      done: Array.isArray(done) ? done.filter((mark): mark is string => typeof mark === "string" && /^\d{1,3}\.\d{1,3}$/.test(mark)).slice(0, maxMarks) : [],
      passed: Array.isArray(passed) ? passed.filter(isIndex).slice(0, maxMarks) : [],
    };
  }
  return found;
}

function parsed(text: string | null): unknown {
  if (text === null || text.length > 500_000) return null;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

const isIndex = (value: unknown): value is number => typeof value === "number" && Number.isInteger(value) && value >= 0 && value < 1000;

export class Progress {
  /** True if the browser keeps progress for the next visit. */
  kept: boolean = $state(true);
  #lessons: Record<string, LessonProgress> = $state.raw(parseProgress(read()));

  constructor() {
    addEventListener("storage", (event) => {
      if (event.key === key) this.#lessons = this.stored();
    });
  }

  of(lesson: string): LessonProgress {
    return Object.hasOwn(this.#lessons, lesson) ? (this.#lessons[lesson] ?? nothing) : nothing;
  }

  /** The progress in every lesson, for a file. */
  get all(): Readonly<Record<string, LessonProgress>> {
    return this.#lessons;
  }

  begun(lesson: string): boolean {
    return Object.hasOwn(this.#lessons, lesson);
  }

  openStep(lesson: string, step: number): void {
    this.change(lesson, (before) => ({ ...before, step }));
  }

  pass(lesson: string, step: number): void {
    this.change(lesson, (before) => ({ ...before, passed: before.passed.includes(step) ? before.passed : [...before.passed, step] }));
  }

  isDone(lesson: string, step: number, task: number): boolean {
    return this.of(lesson).done.includes(mark(step, task));
  }

  setDone(lesson: string, step: number, task: number, done: boolean): void {
    if (done === this.isDone(lesson, step, task)) return;
    this.change(lesson, (before) => {
      const others = before.done.filter((one) => one !== mark(step, task));
      return { ...before, done: done ? [...others, mark(step, task)] : others };
    });
  }

  reset(lesson: string): void {
    this.keep(Object.fromEntries(Object.entries(this.stored()).filter(([name]) => name !== lesson)));
  }

  resetAll(): void {
    this.keep({});
  }

  /** Takes progress over from a file; lessons that the file does not name keep theirs. */
  adopt(lessons: Record<string, LessonProgress>): void {
    this.keep({ ...this.stored(), ...lessons });
  }

  private change(lesson: string, by: (before: LessonProgress) => LessonProgress): void {
    const stored = this.stored();
    this.keep({ ...stored, [lesson]: by(Object.hasOwn(stored, lesson) ? (stored[lesson] ?? nothing) : nothing) });
  }

  /** What is kept now, which another tab may have changed, but with the steps that are open here; what this page alone has, where nothing is kept. */
  private stored(): Record<string, LessonProgress> {
    if (!this.kept) return this.#lessons;
    const kept = Object.entries(parseProgress(read()));
    return Object.fromEntries(kept.map(([name, found]) => [name, this.begun(name) ? { ...found, step: this.of(name).step } : found]));
  }

  private keep(lessons: Record<string, LessonProgress>): void {
    this.#lessons = lessons;
    try {
      localStorage.setItem(key, JSON.stringify(lessons));
      this.kept = true;
    } catch {
      // Storage is full or forbidden: progress holds until the page closes, and the list of lessons says so.
      this.kept = false;
    }
  }
}

const mark = (step: number, task: number) => `${String(step)}.${String(task)}`;

function read(): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
