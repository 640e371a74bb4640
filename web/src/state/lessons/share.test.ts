import { describe, expect, it } from "vitest";
import { maxLessonBytes } from "./lesson.ts";
import { readyLessons } from "./library.ts";
import { packLesson, unpackLesson } from "./share.ts";

describe("a lesson in an address", () => {
  it("comes back as it was, and every ready-made one fits", async () => {
    for (const { text } of readyLessons) {
      const code = await packLesson(text);
      expect(code).toMatch(/^[\w-]+$/);
      expect(code.length).toBeLessThan(8000);
      expect(await unpackLesson(code)).toBe(text);
    }
  });

  it("is refused when it unpacks to more than a lesson", async () => {
    const stream = new Blob(["a".repeat(50 * maxLessonBytes)]).stream().pipeThrough(new CompressionStream("deflate-raw"));
    const bomb = Buffer.from(await new Response(stream).arrayBuffer()).toString("base64url");
    expect(bomb.length).toBeLessThan(10_000);
    await expect(unpackLesson(bomb)).rejects.toThrow(/larger than/);
  });

  it("is refused when it is cut short, or no code at all", async () => {
    const code = await packLesson("trimtab lesson: 1\ntitle: Something long enough to be cut\n");
    for (const broken of [code.slice(0, code.length / 2), "%00", "", "A".repeat(60_000), "_w"]) {
      await expect(unpackLesson(broken)).rejects.toThrow(/broken or cut short/);
    }
  });
});
