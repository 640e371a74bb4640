//! Model directories: conversions, the default model against references, hostile files, memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod convert;
mod convert_families;
mod golden;
mod hostile;
mod memory;
mod published_files;
mod templates;
