//! The files that the tests read: the default model's and the golden data.

use std::path::{Path, PathBuf};

pub fn model_directory() -> PathBuf {
    repository().join("models/smollm2-135m-instruct")
}

pub fn model_file(name: &str) -> Vec<u8> {
    let path = model_directory().join(name);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `cargo xtask model` fetches the model",
            path.display()
        )
    })
}

pub fn golden(name: &str) -> Vec<u8> {
    let path = repository().join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
