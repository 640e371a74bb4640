/** Keeps the graphics devices that the worker asks for, so that a test can destroy one. */

/** Runs before the worker's own script. */
export const keepDevices = `{
  const requestDevice = GPUAdapter.prototype.requestDevice;
  globalThis.gpuDevices = [];
  GPUAdapter.prototype.requestDevice = async function (...inputs) {
    const device = await requestDevice.apply(this, inputs);
    globalThis.gpuDevices.push(device);
    return device;
  };
}
`;
