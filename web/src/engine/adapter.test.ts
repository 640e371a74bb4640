import { describe, expect, it } from "vitest";
import { chooseBackend } from "./adapter.ts";

const browser = (info: object | null) => ({ gpu: { requestAdapter: () => Promise.resolve(info && { info }) } });

describe("where the model runs", () => {
  it("is the graphics device where there is one", async () => {
    const choice = await chooseBackend("auto", browser({ isFallbackAdapter: false, vendor: "acme", architecture: "rocket", description: "" }));
    expect(choice).toEqual({ backend: "gpu", adapter: "acme rocket", notices: [] });
  });

  it("is the processor where that device is a program, unless it was asked for", async () => {
    const software = browser({ isFallbackAdapter: true, description: "SwiftShader" });
    const choice = await chooseBackend("auto", software);
    expect(choice.backend).toBe("cpu");
    expect(choice.notices[0]).toContain("program on the processor");
    expect(await chooseBackend("gpu", software)).toMatchObject({ backend: "gpu", adapter: "SwiftShader", notices: [expect.stringContaining("program on the processor")] });
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
