//! The wasm-bindgen surface that the page's worker calls. Thin: converts types, nothing else. The
//! other side of every type here is `web/src/engine/protocol.ts`.

mod blob;
mod failure;
mod hash;
mod model;
mod protocol;
mod run;
mod trimtab;
