/**
 * The Rust program, in the fastest form that this browser accepts: a module with instructions that it does not
 * know is refused as a whole, so that there is one with relaxed SIMD and one without.
 */
import { relaxedSimd } from "wasm-feature-detect";
import relaxedUrl from "../generated/relaxed_simd/trimtab_wasm_bg.wasm?url";
import simdUrl from "../generated/simd/trimtab_wasm_bg.wasm?url";
import type { InitOutput } from "../generated/simd/trimtab_wasm.js";

export type Program = typeof import("../generated/simd/trimtab_wasm.js");

export async function openProgram(fetch: (url: string) => Promise<Response>): Promise<{ program: Program; wasm: InitOutput }> {
  if (await relaxedSimd()) {
    const program: Program = await import("../generated/relaxed_simd/trimtab_wasm.js");
    return { program, wasm: await program.default({ module_or_path: fetch(relaxedUrl) }) };
  }
  const program: Program = await import("../generated/simd/trimtab_wasm.js");
  return { program, wasm: await program.default({ module_or_path: fetch(simdUrl) }) };
}
