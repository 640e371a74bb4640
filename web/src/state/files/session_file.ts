/** Everything that a visitor has, as one file that opens again here or in another browser. */

import type { Conversation } from "../conversation/conversation.ts";
import { type LessonProgress, parseProgress } from "../lessons/progress.svelte.ts";
import { type OwnLesson, parseOwnLessons } from "../lessons/own_lessons.ts";
import { readTrait, type SavedTrait } from "./session_traits.ts";
import { readAdapter, type SavedAdapter } from "./session_adapters.ts";
import { FileError, list, object } from "../untrusted/fields.ts";
import { conversationFrom } from "./conversation_file.ts";

export interface SessionFile {
  conversations: Conversation[];
  /** Lessons of the visitor's own, and the progress in every lesson. */
  lessons: OwnLesson[];
  progress: Record<string, LessonProgress>;
  traits: SavedTrait[];
  adapters: SavedAdapter[];
}

export const maxSessionBytes = 256 << 20;
const maxConversations = 1000;
const maxTraits = 200;
const maxAdapters = 50;

/** Writes a session's file. Numbers keep every bit: a float array becomes base64 of its little-endian bytes. */
export function sessionText({ conversations, lessons, progress, traits, adapters }: SessionFile): string {
  return JSON.stringify({ format: "trimtab-session-1", conversations, lessons, progress, traits, adapters }, (_, value: unknown) => {
    if (value instanceof Float32Array) return { f32: base64(littleEndian(value)) };
    return value instanceof Uint8Array ? { u8: base64(value) } : value;
  });
}

function littleEndian(values: Float32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, at) => {
    view.setFloat32(at * 4, value, true);
  });
  return new Uint8Array(view.buffer);
}

function base64(bytes: Uint8Array): string {
  let letters = "";
  for (let at = 0; at < bytes.length; at += 8192) letters += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(letters);
}

/** Reads a session's file, or that of one conversation (`trimtab-conversation-1`). */
export function readSession(text: string): SessionFile {
  if (text.length > maxSessionBytes) throw new FileError(`The file has more than ${String(maxSessionBytes >> 20)} MB; is it a session of Trimtab?`);
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    throw new FileError("This is no session of Trimtab, or it was cut short: the file is not JSON.");
  }
  const file = object(found, "the file");
  const format = file["format"];
  if (format === "trimtab-conversation-1") return { conversations: [conversationFrom(file, "the conversation")], lessons: [], progress: {}, traits: [], adapters: [] };
  if (format !== "trimtab-session-1") {
    const newer = typeof format === "string" && /^trimtab-(session|conversation)-\d+$/.test(format);
    throw new FileError(newer ? "This file was made by a newer Trimtab. Reload the page to get the newest one, then open it again." : "This is no session of Trimtab.");
  }
  return {
    conversations: list(file["conversations"], "conversations", maxConversations, conversationFrom),
    lessons: parseOwnLessons(JSON.stringify(file["lessons"] ?? [])),
    progress: parseProgress(JSON.stringify(file["progress"] ?? {})),
    traits: list(file["traits"] ?? [], "traits", maxTraits, readTrait),
    adapters: list(file["adapters"] ?? [], "adapters", maxAdapters, readAdapter),
  };
}
