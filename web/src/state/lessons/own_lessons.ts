/** The visitor's own lessons, opened from files or kept from links: their texts, in this browser. */

export interface OwnLesson {
  /** The name in the address, such as `own-1`. */
  name: string;
  text: string;
}

const key = "trimtab.own-lessons";
const most = 30;
const maxLetters = 70_000;

export function parseOwnLessons(text: string | null): OwnLesson[] {
  if (text === null || text.length > most * maxLetters * 2) return [];
  try {
    const found: unknown = JSON.parse(text);
    if (!Array.isArray(found)) return [];
    return found
      .filter((one: unknown): one is OwnLesson => {
        const { name, text: body } = (one ?? {}) as Record<string, unknown>;
        return typeof name === "string" && /^own-\d{1,6}$/.test(name) && typeof body === "string" && body.length <= maxLetters;
      })
      .slice(0, most)
      .map(({ name, text: body }) => ({ name, text: body }));
  } catch {
    return [];
  }
}

export function readOwnLessons(): OwnLesson[] {
  try {
    return parseOwnLessons(localStorage.getItem(key));
  } catch {
    return [];
  }
}

/** Keeps the lessons; gives a sentence where that failed, else null. */
export function keepOwnLessons(lessons: readonly OwnLesson[]): string | null {
  if (lessons.length > most) return `This browser keeps at most ${String(most)} lessons of your own; remove one first.`;
  try {
    localStorage.setItem(key, JSON.stringify(lessons));
    return null;
  } catch {
    return "The browser has no room to keep this lesson; it can be used until the page is closed. Keep its file.";
  }
}

export function freeName(lessons: readonly OwnLesson[]): string {
  const taken = lessons.map(({ name }) => Number(name.slice("own-".length)));
  return `own-${String(Math.max(0, ...taken) + 1)}`;
}
