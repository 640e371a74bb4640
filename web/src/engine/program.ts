/**
 * The Rust program, in the fastest form that this browser accepts: a module with instructions that it does not
 * know is refused as a whole, so that there is one with relaxed SIMD and one without, and one for several threads.
 */
import { relaxedSimd } from "wasm-feature-detect";
import relaxedUrl from "../generated/relaxed_simd/trimtab_wasm_bg.wasm?url";
import simdUrl from "../generated/simd/trimtab_wasm_bg.wasm?url";
import type { InitOutput } from "../generated/simd/trimtab_wasm.js";
import { openThreaded } from "./threads.ts";

export type Program = typeof import("../generated/simd/trimtab_wasm.js");

export interface OpenProgram {
  program: Program;
  wasm: InitOutput;
}

export type Fetch = (url: string) => Promise<Response>;

/** Loads the program. `onThread` gets the port on which a thread says that it broke. */
export async function openProgram(fetch: Fetch, onThread: (port: MessagePort) => void): Promise<OpenProgram> {
  if (await relaxedSimd()) {
    const threaded = await openThreaded(fetch, onThread);
    if (threaded) return threaded;
    const program: Program = await import("../generated/relaxed_simd/trimtab_wasm.js");
    return { program, wasm: await program.default({ module_or_path: fetch(relaxedUrl) }) };
  }
  const program: Program = await import("../generated/simd/trimtab_wasm.js");
  return { program, wasm: await program.default({ module_or_path: fetch(simdUrl) }) };
}
