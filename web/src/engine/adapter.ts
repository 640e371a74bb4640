import type { Backend } from "./protocol.ts";

interface AdapterInfo {
  isFallbackAdapter?: boolean;
  vendor?: string;
  architecture?: string;
  device?: string;
  description?: string;
}

/** The part of WebGPU that is asked here; TypeScript's library has no `navigator.gpu` yet. */
interface GpuNavigator {
  gpu?: {
    requestAdapter(): Promise<{ info?: AdapterInfo } | null>;
  };
}

export interface Choice {
  backend: Backend;
  /** What the browser says of the graphics device; wgpu is told no name. */
  adapter: string;
  notices: string[];
}

const NO_WEBGPU =
  "This browser offers no graphics device (WebGPU), so the model runs on the processor, which is slower. Chrome or Edge 113 and later, over https or on localhost, have WebGPU.";
const HARDWARE_HINT =
  "If this computer has a real graphics device, look for “hardware acceleration” in the browser's settings.";
const SOFTWARE = `The graphics device that this browser offers is a program on the processor. ${HARDWARE_HINT}`;
const NOT_SOFTWARE = `The graphics device that this browser offers is a program on the processor, so the model runs on the processor itself, which is faster. ${HARDWARE_HINT}`;

/** What `auto` means here: the graphics device where there is a real one, else the processor (several times as fast as SwiftShader). */
export async function chooseBackend(asked: Backend | "auto", browser: object = navigator): Promise<Choice> {
  if (asked === "cpu") return { backend: "cpu", adapter: "", notices: [] };
  const { gpu } = browser as GpuNavigator;
  const adapter = await gpu?.requestAdapter().catch(() => null);
  if (!adapter) {
    // Asked for by name: the engine says what is missing.
    return asked === "gpu" ? { backend: "gpu", adapter: "", notices: [] } : { backend: "cpu", adapter: "", notices: [NO_WEBGPU] };
  }
  const { isFallbackAdapter, vendor, architecture, device, description } = adapter.info ?? {};
  const name = description ? description : [vendor, architecture, device].filter(Boolean).join(" ");
  if (isFallbackAdapter !== true) return { backend: "gpu", adapter: name, notices: [] };
  return asked === "auto" ? { backend: "cpu", adapter: "", notices: [NOT_SOFTWARE] } : { backend: "gpu", adapter: name, notices: [SOFTWARE] };
}
