/** Where the model runs: what the browser offers, what it computes, and how fast it is beside the processor. */
import { toFailure } from "./failure.ts";
import type { Backend, DeviceFigures, DeviceTrial, TokensPerSecond } from "./protocol.ts";

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
    requestAdapter(options: { powerPreference: "high-performance" }): Promise<Adapter | null>;
  };
}

interface Adapter {
  info?: AdapterInfo;
  limits?: { maxBufferSize: number; maxStorageBufferBindingSize: number };
}

export interface Choice {
  backend: Backend;
  /** The graphics device's name, as the browser gives it; wgpu gets none. */
  adapter: string;
  notices: string[];
  trial?: DeviceTrial;
  /** Name of a device that was not tried, because it is a program and nobody asked for it. */
  untried?: string;
}

export interface Trials {
  /** Checks the device with `variant`, or chooses one and times it and the processor where that is wanted. Rejects with a `Failure`. */
  run(timed: boolean, variant?: string): Promise<DeviceTrial>;
  /** Figures that an earlier visit measured with this adapter. */
  recall(adapter: string): Promise<DeviceFigures | null>;
  remember(adapter: string, measured: DeviceFigures): Promise<void>;
}

/** Why there is no graphics device, for somebody who may change that, and that nothing is lost without it. */
function withoutDevice({ gpu }: GpuNavigator): string {
  const reason =
    gpu !== undefined
      ? "This browser found no graphics device (WebGPU) that it can use"
      : globalThis.isSecureContext
        ? "This browser has no graphics device (WebGPU) for pages, as Chrome and Edge have"
        : "Browsers give a page no graphics device (WebGPU) unless its address begins with https";
  return `${reason}, so the model runs on the processor: everything works, more slowly.`;
}

const SOFTWARE =
  "The graphics device that this browser offers is a program on the processor. If this computer has a real graphics device, look for “hardware acceleration” in the browser's settings.";

/** Graphics devices that are programs, by the names that browsers give them: Chromium's, Mesa's on Linux, and Windows' own. */
const PROGRAMS = /swiftshader|llvmpipe|lavapipe|softpipe|microsoft basic render|\bwarp\b/i;

function isSoftware({ info = {} }: Adapter): boolean {
  const { isFallbackAdapter, vendor, architecture, device, description } = info;
  return isFallbackAdapter === true || [vendor, architecture, device, description].some((word) => PROGRAMS.test(word ?? ""));
}

/** Most bytes of a buffer that the graphics device binds; null where the model would not be given to one. */
export async function largestBuffer(asked: Backend | "auto", browser: object = navigator): Promise<number | null> {
  if (asked === "cpu") return null;
  const adapter = await (browser as GpuNavigator).gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter?.limits || (asked === "auto" && isSoftware(adapter))) return null;
  return Math.min(adapter.limits.maxBufferSize, adapter.limits.maxStorageBufferBindingSize);
}

const rounded = (speed: number) => (speed < 10 ? speed.toFixed(1) : String(Math.round(speed)));

/** Both figures, as a visitor reads them. */
export function inWords({ gpu, cpu }: TokensPerSecond): string {
  return `a short measurement gave about ${rounded(cpu)} tokens a second on the processor and ${rounded(gpu)} on the graphics device`;
}

/**
 * What `auto` means here: the faster of the two, by a short measurement that is remembered. A device that is a program has never been
 * the faster one, and compiling its kernels takes half a minute: it is tried only where it is asked for. A device that computes wrongly
 * is never used, whatever was asked.
 */
export async function chooseBackend(asked: Backend | "auto", trials: Trials, browser: object = navigator): Promise<Choice> {
  if (asked === "cpu") return { backend: "cpu", adapter: "", notices: [] };
  const { gpu } = browser as GpuNavigator;
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" }).catch(() => null);
  if (!adapter) {
    // Asked for by name: the engine says what is missing.
    return asked === "gpu" ? { backend: "gpu", adapter: "", notices: [] } : { backend: "cpu", adapter: "", notices: [withoutDevice(browser as GpuNavigator)] };
  }
  const { vendor, architecture, device, description } = adapter.info ?? {};
  const name = description ? description : [vendor, architecture, device].filter(Boolean).join(" ");
  const isProgram = isSoftware(adapter);
  if (asked === "auto" && isProgram) return { backend: "cpu", adapter: "", notices: [], untried: name || "software" };
  const onProcessor = (measured: TokensPerSecond, trial: DeviceTrial): Choice => {
    const notice = `The model runs on the processor, which is the faster one here: ${inWords(measured)}. You can choose otherwise under “Model”.`;
    return { backend: "cpu", adapter: "", notices: [notice], trial };
  };

  const known = await trials.recall(name);
  if (asked === "auto" && known && known.cpu >= known.gpu) {
    return onProcessor(known, { tokensPerSecond: { gpu: known.gpu, cpu: known.cpu } });
  }
  let trial: DeviceTrial;
  try {
    trial = await trials.run(asked === "auto" && known === null, known?.variant);
  } catch (thrown) {
    const { kind, message } = toFailure(thrown);
    if (asked === "gpu" && kind !== "wrong-numbers") throw thrown;
    return { backend: "cpu", adapter: "", notices: [`The graphics device could not be used, so the model runs on the processor. ${message}`] };
  }
  const measured = trial.tokensPerSecond ?? (asked === "auto" && known ? { gpu: known.gpu, cpu: known.cpu } : null);
  if (trial.tokensPerSecond) await trials.remember(name, { ...trial.tokensPerSecond, ...(trial.variant !== undefined && { variant: trial.variant }) });
  if (asked === "auto" && measured && measured.cpu >= measured.gpu) return onProcessor(measured, trial);
  return { backend: "gpu", adapter: name, notices: isProgram ? [SOFTWARE] : [], trial: { ...trial, ...(measured && { tokensPerSecond: measured }) } };
}
