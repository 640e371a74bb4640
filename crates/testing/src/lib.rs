//! What the tests of several crates share: the repository's files, the default checkpoint in one engine of each kind, and small
//! random models. What is missing fails the test with a sentence that says how to get it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod chat_model;
pub mod default_model;
pub mod files;
pub mod fuzzing;
pub mod small_models;

/// Whether the long checks run too, as `cargo xtask test --full` asks for.
pub fn full() -> bool {
    std::env::var_os("TRIMTAB_FULL").is_some()
}
