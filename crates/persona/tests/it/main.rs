//! The method against golden data and its own files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod golden_estimators;
mod golden_vectors;
mod trait_packs;
