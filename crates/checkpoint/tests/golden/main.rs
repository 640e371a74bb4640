//! The default model against independent references; `tests/golden` of the repository has their data.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod default_model;
mod tokenizer;
mod weights;
