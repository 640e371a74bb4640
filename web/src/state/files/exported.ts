import type { Conversation } from "../conversation/conversation.ts";

/**
 * A conversation as JSON: typed arrays become arrays, values that are not there (NaN) become null.
 * Numbers keep the digits that a 32-bit float has.
 */
export function exported(conversation: Conversation): string {
  return JSON.stringify({ format: "trimtab-conversation-1", ...conversation }, (_, value: unknown) =>
    value instanceof Float32Array ? Array.from(value, (one) => (Number.isFinite(one) ? Number(one.toPrecision(7)) : null)) : value,
  );
}
