/**
 * Counts what the worker asks of WebGPU, from outside: this source is put in front of the worker's
 * script and wraps the prototypes of GPUDevice, GPUQueue, GPUBuffer and the compute pass.
 */
export interface GpuCounts {
  /** Calls of `GPUDevice.create*` by name. */
  creates: Record<string, number>;
  submissions: number;
  dispatches: number;
  /** Bytes of each `mapAsync` for reading. */
  readbacks: number[];
}

export const countingSource = `
{
  const counts = { creates: {}, submissions: 0, dispatches: 0, readbacks: [] };
  globalThis.gpuCounts = counts;
  const wrap = (type, name, before) => {
    const prototype = globalThis[type]?.prototype;
    const original = prototype?.[name];
    if (!original) return;
    prototype[name] = function (...inputs) {
      before.apply(this, inputs);
      return original.apply(this, inputs);
    };
  };
  for (const name of Object.getOwnPropertyNames(globalThis.GPUDevice?.prototype ?? {})) {
    if (name.startsWith("create")) wrap("GPUDevice", name, () => { counts.creates[name] = (counts.creates[name] ?? 0) + 1; });
  }
  wrap("GPUQueue", "submit", () => { counts.submissions += 1; });
  wrap("GPUComputePassEncoder", "dispatchWorkgroups", () => { counts.dispatches += 1; });
  wrap("GPUComputePassEncoder", "dispatchWorkgroupsIndirect", () => { counts.dispatches += 1; });
  wrap("GPUBuffer", "mapAsync", function (mode, offset = 0, size = this.size - offset) {
    if (mode === GPUMapMode.READ) counts.readbacks.push(size);
  });
}
`;
