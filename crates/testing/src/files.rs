//! Files of the repository.

use safetensors::SafeTensors;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A file by its path in the repository.
pub fn bytes(path: impl AsRef<Path>) -> Vec<u8> {
    let path = repository().join(path);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; it belongs to the repository, and the README beside it says how it is made",
            path.display()
        )
    })
}

/// A file of `tests/golden`.
pub fn golden(name: &str) -> Vec<u8> {
    bytes(Path::new("tests/golden").join(name))
}

/// A JSON file of `tests/golden`.
pub fn golden_json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Shape and values of an f32 tensor.
pub fn floats(file: &SafeTensors<'_>, name: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32, "{name}");
    let fours = tensor.data().as_chunks::<4>().0;
    let values = fours.iter().map(|four| f32::from_le_bytes(*four)).collect();
    (tensor.shape().to_vec(), values)
}
