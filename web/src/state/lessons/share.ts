/** A lesson's file inside an address: base64url of its raw-deflated text. */

import { LessonError, maxLessonBytes } from "./lesson.ts";

/** Mark of a code in an address: `#lessons/l=CODE`. */
export const linkMark = "l=";
const maxCodeLength = 48_000;

async function throughStream(bytes: Uint8Array<ArrayBuffer>, stream: CompressionStream | DecompressionStream, most: number): Promise<Uint8Array<ArrayBuffer>> {
  const reader = new Blob([bytes]).stream().pipeThrough(stream as ReadableWritablePair<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>).getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    size += value.length;
    if (size > most) {
      await reader.cancel();
      throw new LessonError(null, `The lesson is larger than ${String(most)} bytes, which is more than a lesson has.`);
    }
    parts.push(value);
  }
  const all = new Uint8Array(size);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

export async function packLesson(text: string): Promise<string> {
  const packed = await throughStream(new TextEncoder().encode(text), new CompressionStream("deflate-raw"), maxLessonBytes);
  let letters = "";
  for (const byte of packed) letters += String.fromCharCode(byte);
  return btoa(letters).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

export async function unpackLesson(code: string): Promise<string> {
  const broken = () => new LessonError(null, "The lesson in this address is broken or cut short. Ask for the link once more, or for the lesson as a file.");
  if (code.length > maxCodeLength || !/^[\w-]+$/.test(code)) throw broken();
  try {
    const letters = atob(code.replaceAll("-", "+").replaceAll("_", "/"));
    const packed = Uint8Array.from(letters, (letter) => letter.charCodeAt(0));
    const bytes = await throughStream(packed, new DecompressionStream("deflate-raw"), maxLessonBytes);
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (thrown) {
    throw thrown instanceof LessonError ? thrown : broken();
  }
}
