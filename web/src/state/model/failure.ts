import { toFailure } from "../../engine/failure.ts";
import type { Failure } from "../../engine/protocol.ts";

/** The thrown value as a failure with a sentence for the visitor. */
export const asFailure: (thrown: unknown) => Failure = toFailure;

export type Remedy = "reload-model" | "use-cpu" | "shorter-context" | "download-again" | "new-conversation" | "reload-page" | "save-session";

/** The next step that a failure offers as a button. */
export function remedyFor(failure: Failure): { remedy: Remedy; label: string } | null {
  switch (failure.kind) {
    case "no-webgpu":
    case "wrong-numbers":
      return { remedy: "use-cpu", label: "Use the processor (CPU) instead" };
    case "device-lost":
      return { remedy: "reload-model", label: "Start the model again" };
    case "out-of-memory":
      return { remedy: "shorter-context", label: "Try with less memory" };
    case "download":
      return { remedy: "reload-model", label: "Try again" };
    case "corrupt-model":
      return { remedy: "download-again", label: "Delete it and download again" };
    case "context-full":
      return { remedy: "new-conversation", label: "Start a new conversation" };
    case "internal":
      return { remedy: "reload-page", label: "Reload the page" };
    case "quota":
      return { remedy: "save-session", label: "Save everything as a file" };
    case "usage":
      return null;
  }
}
