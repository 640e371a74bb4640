//! Threads that help the worker that holds the model: workers of their own, with this module on the same memory.

use trimtab_engine::cpu::team::TEAM;
use wasm_bindgen::prelude::wasm_bindgen;

/// Makes the calling worker a thread of the CPU executors that are made from now on. Does not return.
#[wasm_bindgen(js_name = runThread)]
pub fn run_thread() {
    TEAM.help()
}
