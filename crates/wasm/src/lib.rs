//! The wasm-bindgen surface that the page's worker calls. Thin: converts types, nothing else. The
//! other side of every type here is `web/src/engine/protocol.ts`.

mod blob;
mod device_trial;
mod failure;
mod hash;
mod link;
mod making;
mod model;
mod protocol;
mod run;
mod study;
#[cfg(feature = "threads")]
mod threads;
mod trimtab;
