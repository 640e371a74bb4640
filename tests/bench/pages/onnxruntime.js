/** ONNX Runtime Web with the model of `../onnx_file.py`; what `globalThis.peer` has to do is told in `../peer.ts`. */
const dist = "/packages/onnxruntime-web/dist/";

let ort;
let session;
let provider;

globalThis.peer = {
  async load({ file, backend }) {
    provider = backend === "webgpu" ? "webgpu" : "wasm";
    ort = await import(`${dist}ort.${provider}.min.mjs`);
    ort.env.wasm.wasmPaths = dist;
    ort.env.wasm.numThreads = 1;
    const model = new Uint8Array(await (await fetch(file)).arrayBuffer());
    // With WebGPU the cache stays on the device from one call to the next.
    const cacheAt = Object.fromEntries(cacheNames("present", 30).map((name) => [name, "gpu-buffer"]));
    session = await ort.InferenceSession.create(model, {
      executionProviders: [provider],
      graphOptimizationLevel: "all",
      ...(provider === "webgpu" ? { preferredOutputLocation: cacheAt } : {}),
    });
    return { threads: 1 };
  },

  async answer({ prompt, maxTokens, endTokens }) {
    const start = performance.now();
    const times = [];
    const ids = [];
    const layers = session.outputNames.filter((name) => name.startsWith("present_key_")).length;
    let cache = Object.fromEntries(cacheNames("past", layers).map((name) => [name, new ort.Tensor("float32", new Float32Array(0), [1, 3, 0, 64])]));
    let input = prompt;
    let past = 0;
    while (ids.length < maxTokens) {
      const total = past + input.length;
      const outputs = await session.run({
        input_ids: new ort.Tensor("int64", BigInt64Array.from(input, BigInt), [1, input.length]),
        seqlens_k: new ort.Tensor("int32", Int32Array.of(total - 1), [1]),
        total_sequence_length: new ort.Tensor("int32", Int32Array.of(total), [1]),
        ...cache,
      });
      for (const tensor of Object.values(cache)) tensor.dispose();
      cache = Object.fromEntries(cacheNames("past", layers).map((name) => [name, outputs[name.replace("past", "present")]]));
      const next = Number((await outputs.next.getData())[0]);
      if (endTokens.includes(next)) break;
      times.push(performance.now() - start);
      ids.push(next);
      input = [next];
      past = total;
    }
    for (const tensor of Object.values(cache)) tensor.dispose();
    return { times, ids, promptTokens: prompt.length };
  },
};

function cacheNames(prefix, layers) {
  return Array.from({ length: layers }, (_, layer) => [`${prefix}_key_${layer}`, `${prefix}_value_${layer}`]).flat();
}
