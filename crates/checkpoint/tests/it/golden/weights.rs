//! Weights against transformers' f32 copy of the GGUF file (tests/golden/weights.py), bit for bit.

use super::default_model::{golden, model_directory};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use trimtab_checkpoint::{FileSource, WeightFile};

#[derive(Deserialize)]
struct Golden {
    tensors: BTreeMap<String, Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    shape: Vec<usize>,
    sha256: String,
}

#[test]
fn every_weight_is_the_references_bit_for_bit() {
    let golden: Golden = serde_json::from_slice(&golden("weights.json")).unwrap();
    let path = model_directory().join("model.safetensors");
    let source = FileSource::open(&path)
        .unwrap_or_else(|error| panic!("{error}; `cargo xtask model` fetches the model"));
    let file = pollster::block_on(WeightFile::open(source)).unwrap();
    assert_eq!(golden.tensors.len(), 272);
    assert_eq!(file.tensors().count(), 272);
    for (name, expected) in &golden.tensors {
        let tensor = file.tensor(name).unwrap();
        let shape = if expected.shape.len() == 1 {
            vec![tensor.cols]
        } else {
            vec![tensor.rows, tensor.cols]
        };
        assert_eq!(shape, expected.shape, "{name}");
        let mut hasher = Sha256::new();
        let mut values = vec![0.0; tensor.cols];
        // In pieces, as a loader reads.
        for start in (0..tensor.rows).step_by(1000) {
            let rows =
                pollster::block_on(file.read_rows(tensor, start..tensor.rows.min(start + 1000)))
                    .unwrap();
            for row in 0..rows.rows {
                rows.dequantise_row(row, &mut values);
                hasher.update(bytemuck::cast_slice::<f32, u8>(&values));
            }
        }
        let sha256: String = hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(sha256, expected.sha256, "{name}");
    }
}
