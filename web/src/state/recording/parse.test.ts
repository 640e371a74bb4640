import { describe, expect, it } from "vitest";
import { standIn } from "./fixtures/stand_in.ts";
import type { Recording } from "./format.ts";
import { parseRecording } from "./parse.ts";

function broken(change: (recording: Record<string, unknown>) => void): string {
  const copy = structuredClone(standIn) as unknown as Record<string, unknown>;
  change(copy);
  return JSON.stringify(copy);
}

describe("parseRecording", () => {
  it("reads what the format says", () => {
    expect(parseRecording(JSON.stringify(standIn))).toEqual(standIn);
  });

  it("keeps null where a token has no value", () => {
    const copy: Recording = structuredClone(standIn);
    const token = copy.doses[0]?.tokens[0];
    if (token === undefined) throw new Error("the fixture has no token");
    token.logprob = null;
    token.reread = null;
    expect(parseRecording(JSON.stringify(copy)).doses[0]?.tokens[0]).toMatchObject({ logprob: null, reread: null });
  });

  it.each<[string, string, RegExp]>([
    ["a text in place of a number", broken((r) => (r["layer"] = "16")), /layer/],
    ["another schema", broken((r) => (r["schema"] = "trimtab-recording-9")), /schema/],
    ["four doses", broken((r) => (r["doses"] as unknown[]).pop()), /doses/],
    ["doses out of order", broken((r) => (r["doses"] as unknown[]).reverse()), /order/],
    ["no dose of 0", broken((r) => ((r["doses"] as { coefficient: number }[])[2] as { coefficient: number }).coefficient = 0.5), /dose is 0/],
    ["too many tokens", broken((r) => ((r["doses"] as { tokens: unknown[] }[])[0] as { tokens: unknown[] }).tokens = new Array(500).fill({})), /tokens/],
    ["a file too large", `"${"x".repeat(1_000_001)}"`, /large/],
    ["a list", "[]", /the recording/],
    ["null", "null", /the recording/],
    ["no JSON", "{", /JSON/],
  ])("refuses %s", (_, json, message) => {
    expect(() => parseRecording(json)).toThrow(message);
  });
});
