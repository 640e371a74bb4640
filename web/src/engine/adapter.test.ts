import { describe, expect, it, vi } from "vitest";
import { chooseBackend, largestBuffer, type Trials } from "./adapter.ts";
import { EngineFailure } from "./failure.ts";
import type { DeviceFigures, TokensPerSecond } from "./protocol.ts";

const browser = (info: object | null) => ({ gpu: { requestAdapter: () => Promise.resolve(info && { info }) } });
const acme = browser({ isFallbackAdapter: false, vendor: "acme", architecture: "rocket", description: "" });
const software = browser({ isFallbackAdapter: true, description: "SwiftShader" });

/** A device of this speed; `known` was measured at an earlier visit. */
function trials(speeds: TokensPerSecond, known: DeviceFigures | null = null) {
  return {
    run: vi.fn((timed: boolean, variant?: string) =>
      Promise.resolve({ compileMilliseconds: 5, checkMilliseconds: 1, variant: variant ?? "merged wide packed, packed", ...(timed && { tokensPerSecond: speeds }) }),
    ),
    recall: vi.fn(() => Promise.resolve(known)),
    remember: vi.fn(() => Promise.resolve()),
  } satisfies Trials;
}
const failing = (kind: "wrong-numbers" | "device-lost"): Trials => ({
  ...trials({ gpu: 1, cpu: 1 }),
  run: () => Promise.reject(new EngineFailure(kind, "The graphics device computes wrongly.")),
});

describe("where the model runs", () => {
  it("is the graphics device where that is faster, and what was measured is remembered", async () => {
    const fast = trials({ gpu: 90, cpu: 14 });
    const choice = await chooseBackend("auto", fast, acme);
    expect(choice).toMatchObject({ backend: "gpu", adapter: "acme rocket", notices: [], trial: { tokensPerSecond: { gpu: 90, cpu: 14 } } });
    expect(fast.remember).toHaveBeenCalledWith("acme rocket", { gpu: 90, cpu: 14, variant: "merged wide packed, packed" });
  });

  it("is the processor where the device is slower, with both figures", async () => {
    const choice = await chooseBackend("auto", trials({ gpu: 5.14, cpu: 13.6 }), acme);
    expect(choice).toMatchObject({ backend: "cpu", adapter: "" });
    expect(choice.notices[0]).toContain("14 tokens a second on the processor and 5.1 on the graphics device");
    expect(choice).not.toHaveProperty("untried");
  });

  it.each([
    [{ isFallbackAdapter: true, description: "SwiftShader" }, "SwiftShader"],
    [{ isFallbackAdapter: true }, "software"],
    [{ vendor: "google", architecture: "swiftshader" }, "google swiftshader"],
    [{ vendor: "mesa", description: "llvmpipe (LLVM 15.0.6, 256 bits)" }, "llvmpipe (LLVM 15.0.6, 256 bits)"],
    [{ vendor: "microsoft", architecture: "warp" }, "microsoft warp"],
    [{ description: "Microsoft Basic Render Driver" }, "Microsoft Basic Render Driver"],
  ])("is the processor at once where the device is a program: %o", async (info, untried) => {
    const any = trials({ gpu: 90, cpu: 1 }, { gpu: 90, cpu: 1 });
    expect(await chooseBackend("auto", any, browser(info))).toEqual({ backend: "cpu", adapter: "", notices: [], untried });
    expect(any.run).not.toHaveBeenCalled();
    expect(await chooseBackend("gpu", any, browser(info))).toMatchObject({ backend: "gpu", notices: [expect.stringContaining("program on the processor")] });
  });

  it("is not measured twice, but the device is checked whenever it is used", async () => {
    const slower = trials({ gpu: 1, cpu: 1 }, { gpu: 5, cpu: 14 });
    expect((await chooseBackend("auto", slower, acme)).backend).toBe("cpu");
    expect(slower.run).not.toHaveBeenCalled();
    const variant = "merged narrow float, shared";
    const faster = trials({ gpu: 1, cpu: 1 }, { gpu: 50, cpu: 14, variant });
    expect(await chooseBackend("auto", faster, acme)).toMatchObject({ backend: "gpu", trial: { checkMilliseconds: 1, tokensPerSecond: { gpu: 50, cpu: 14 }, variant } });
    expect(faster.run).toHaveBeenCalledExactlyOnceWith(false, variant);
    expect(faster.remember).not.toHaveBeenCalled();
  });

  it("is never a device that computes wrongly, whatever was asked", async () => {
    for (const asked of ["auto", "gpu"] as const) {
      const choice = await chooseBackend(asked, failing("wrong-numbers"), acme);
      expect(choice.backend).toBe("cpu");
      expect(choice.notices[0]).toContain("computes wrongly");
    }
  });

  it("is the processor where the device fails, unless that was asked for by name", async () => {
    expect((await chooseBackend("auto", failing("device-lost"), acme)).backend).toBe("cpu");
    await expect(chooseBackend("gpu", failing("device-lost"), acme)).rejects.toMatchObject({ kind: "device-lost" });
  });

  it("is the processor where there is no device, with a sentence", async () => {
    const broken = { gpu: { requestAdapter: () => Promise.reject(new Error("blocked")) } };
    for (const without of [{}, browser(null), broken]) {
      const choice = await chooseBackend("auto", trials({ gpu: 1, cpu: 1 }), without);
      expect(choice.backend).toBe("cpu");
      expect(choice.notices[0]).toContain("no graphics device (WebGPU)");
    }
  });

  it("is what was asked for by name", async () => {
    const any = trials({ gpu: 1, cpu: 1 });
    expect(await chooseBackend("cpu", any, browser({}))).toEqual({ backend: "cpu", adapter: "", notices: [] });
    expect(await chooseBackend("gpu", any, software)).toMatchObject({ backend: "gpu", adapter: "SwiftShader", notices: [expect.stringContaining("program on the processor")] });
    expect(any.run).toHaveBeenCalledExactlyOnceWith(false, undefined);
    expect((await chooseBackend("gpu", any, {})).backend).toBe("gpu");
  });
});

describe("the largest buffer that a model may be given", () => {
  const limits = { maxBufferSize: 256, maxStorageBufferBindingSize: 128 };
  const withLimits = (info: object) => ({ gpu: { requestAdapter: () => Promise.resolve({ info, limits }) } });

  it("is the adapter's, where the model would be given to it", async () => {
    const [real, program] = [withLimits({ vendor: "acme" }), withLimits({ isFallbackAdapter: true })];
    expect(await largestBuffer("auto", real)).toBe(128);
    expect(await largestBuffer("gpu", program)).toBe(128);
    expect(await largestBuffer("auto", program)).toBeNull();
    expect(await largestBuffer("cpu", real)).toBeNull();
    expect(await largestBuffer("gpu", browser(null))).toBeNull();
    expect(await largestBuffer("gpu", { gpu: { requestAdapter: () => Promise.reject(new Error("no")) } })).toBeNull();
    expect(await largestBuffer("gpu", {})).toBeNull();
  });
});
