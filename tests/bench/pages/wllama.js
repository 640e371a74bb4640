/** llama.cpp as WebAssembly; what `globalThis.peer` has to do is told in `../peer.ts`. */
import { Wllama } from "/packages/@wllama/wllama/esm/index.js";

let wllama;

globalThis.peer = {
  async load({ file, context }) {
    wllama = new Wllama({ default: "/packages/@wllama/wllama/esm/wasm/wllama.wasm" }, { suppressNativeLog: true });
    const model = await (await fetch(file)).blob();
    // On the processor with one thread, as everything here; one sequence, like the others.
    await wllama.loadModel([model], { n_ctx: context, n_threads: 1, n_gpu_layers: 0, n_parallel: 1 });
    return { threads: wllama.getNumThreads() };
  },

  async answer({ text: prompt, maxTokens }) {
    const start = performance.now();
    const times = [];
    let text = "";
    let usage;
    let timings;
    await wllama.createCompletion({
      // It takes no token ids, but tells how many it made of the text.
      prompt,
      max_tokens: maxTokens,
      temperature: 0,
      samplers_sequence: ["top_k"],
      top_k: 1,
      penalty_repeat: 1,
      cache_prompt: false,
      stream: true,
      stream_options: { include_usage: true },
      onData: (chunk) => {
        const [choice] = chunk.choices;
        // One for each token, also for one that shows nothing yet; the last is about the end alone.
        if (choice && choice.finish_reason == null) times.push(performance.now() - start);
        text += choice?.text ?? "";
        usage = chunk.usage ?? usage;
        timings = chunk.timings ?? timings;
      },
    });
    // Its stream is one token behind, and the last two come together: its own clock is the fairer one.
    return { times, text, promptTokens: usage?.prompt_tokens, decodeTokensPerSecond: timings?.predicted_per_second };
  },
};
