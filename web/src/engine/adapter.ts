import type { Backend } from "./protocol.ts";

/** The part of WebGPU that is asked here; TypeScript's library has no `navigator.gpu` yet. */
interface GpuNavigator {
  gpu?: {
    requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean; vendor?: string; architecture?: string; description?: string } } | null>;
  };
}

export interface Choice {
  backend: Backend;
  notices: string[];
}

const NO_WEBGPU =
  "This browser offers no graphics device (WebGPU), so the model runs on the processor, which is slower. Chrome or Edge 113 and later, over https or on localhost, have WebGPU.";
const SOFTWARE =
  "The graphics device that this browser offers is a program on the processor. If this computer has a real one, look for “hardware acceleration” in the browser's settings.";

/** What `auto` means here: the graphics device where there is one, else the processor. */
export async function chooseBackend(asked: Backend | "auto", browser: object = navigator): Promise<Choice> {
  if (asked === "cpu") return { backend: "cpu", notices: [] };
  const { gpu } = browser as GpuNavigator;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) {
    // Asked for by name: the engine says what is missing.
    return asked === "gpu" ? { backend: "gpu", notices: [] } : { backend: "cpu", notices: [NO_WEBGPU] };
  }
  return { backend: "gpu", notices: adapter.info?.isFallbackAdapter === true ? [SOFTWARE] : [] };
}
