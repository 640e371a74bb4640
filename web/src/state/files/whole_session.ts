/** Everything that is kept here, as the text of a session's file. */

import type { Progress } from "../lessons/progress.svelte.ts";
import { readOwnLessons } from "../lessons/own_lessons.ts";
import type { Session } from "../session/session.svelte.ts";
import { sessionText } from "./session_file.ts";
import { savedAdapters } from "./session_adapters.ts";
import { savedTraits } from "./session_traits.ts";

/** `unread` counts the conversations that storage did not give back, and that are not in the file. */
export async function wholeSession({ chat, workshop, lab }: Session, progress: Progress): Promise<{ text: string; unread: number }> {
  const found = await Promise.all(chat.heads.map(({ id }) => chat.store.get(id).catch(() => null)));
  const conversations = found.filter((one) => one !== null);
  const [traits, adapters] = [await savedTraits(workshop), await savedAdapters(lab)];
  const text = sessionText({ conversations, lessons: readOwnLessons(), progress: progress.all, traits, adapters });
  return { text, unread: found.length - conversations.length };
}
