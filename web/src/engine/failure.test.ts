import { describe, expect, it } from "vitest";
import { EngineFailure, toFailure } from "./failure.ts";

describe("what was thrown, as a sentence", () => {
  it("is what the engine said", () => {
    expect(toFailure(new EngineFailure("download", "The server is away."))).toEqual({ kind: "download", message: "The server is away." });
  });

  it("says of an aborted transaction nothing about the visitor's wishes", () => {
    const { kind, message } = toFailure(new DOMException("The transaction was aborted.", "AbortError"));
    expect(kind).toBe("internal");
    expect(message).toContain("The transaction was aborted.");
    expect(message).not.toContain("as you asked");
  });

  it("says of storage that is full what can be done", () => {
    expect(toFailure(new DOMException("full", "QuotaExceededError"))).toMatchObject({ kind: "quota", message: expect.stringContaining("no room left") as string });
  });
});
