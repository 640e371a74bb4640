//! The default model against independent references; `tests/golden` of the repository has their data.

mod default_model;
mod tokenizer;
mod weights;
