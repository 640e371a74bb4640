import { describe, expect, it } from "vitest";
import { chooseBackend } from "./adapter.ts";

const browser = (info: object | null) => ({ gpu: { requestAdapter: () => Promise.resolve(info && { info }) } });

describe("where the model runs", () => {
  it("is the graphics device where there is one", async () => {
    const choice = await chooseBackend("auto", browser({ isFallbackAdapter: false, vendor: "acme", architecture: "rocket", description: "" }));
    expect(choice).toEqual({ backend: "gpu", adapter: "acme rocket", notices: [] });
  });

  it("is told when that device is a program", async () => {
    const choice = await chooseBackend("auto", browser({ isFallbackAdapter: true, description: "SwiftShader" }));
    expect(choice).toMatchObject({ backend: "gpu", adapter: "SwiftShader" });
    expect(choice.notices[0]).toContain("program on the processor");
  });

  it("is the processor where there is none, with a sentence", async () => {
    const broken = { gpu: { requestAdapter: () => Promise.reject(new Error("blocked")) } };
    for (const without of [{}, browser(null), broken]) {
      const choice = await chooseBackend("auto", without);
      expect(choice.backend).toBe("cpu");
      expect(choice.notices[0]).toContain("no graphics device (WebGPU)");
    }
  });

  it("is what was asked for by name", async () => {
    expect(await chooseBackend("cpu", browser({}))).toEqual({ backend: "cpu", adapter: "", notices: [] });
    expect((await chooseBackend("gpu", {})).backend).toBe("gpu");
  });
});
