//! A two-block random model with the default model's tokenizer and template: it chats, nonsense, and in a few milliseconds. For tests of
//! everything but what a model says.

use crate::default_model;
use crate::small_models::{Form, Noise, Shape};
use pollster::block_on;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::Path;
use trimtab_checkpoint::manifest::{
    CHAT_TEMPLATE, CONFIG, MANIFEST, Manifest, ManifestFile, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS,
};
use trimtab_checkpoint::{ModelConfig, WeightFile};
use trimtab_engine::{Backend, Engine, EngineOptions, LayerTable, Precision};

/// Its name among models.
pub const ID: &str = "random-two-blocks";
/// Blocks, so that residual layers are one more.
pub const BLOCKS: usize = 2;
pub const WIDTH: usize = 64;

const SHAPE: Shape = Shape {
    vocabulary: 49_152,
    width: WIDTH,
    feed_forward: 96,
    blocks: BLOCKS,
    heads: 2,
    kv_heads: 1,
    head_dim: 32,
    context: 1024,
};
const FAMILY: &str = "llama";

fn config() -> Vec<u8> {
    serde_json::to_vec(&SHAPE.config(FAMILY, "silu")).unwrap()
}

fn weights() -> Vec<u8> {
    SHAPE.weights(Form::Q4WithMin, FAMILY).bytes()
}

/// The model in an engine of its own.
pub fn engine(precision: Precision, sequences: usize) -> Engine {
    let options = EngineOptions {
        backend: Backend::Cpu,
        precision,
        context: Some(512),
        sequences,
    };
    let config = ModelConfig::from_json(&config()).unwrap();
    block_on(async {
        let weights = WeightFile::open(weights()).await.unwrap();
        Engine::load(&config, &weights, options, &mut |_| ())
            .await
            .unwrap()
    })
}

/// Random directions, long enough to change what is written.
pub fn vector(seed: u32) -> LayerTable {
    let mut noise = Noise::new(seed);
    let values = (0..(BLOCKS + 1) * WIDTH).map(|_| noise.number());
    LayerTable::new(values.collect(), WIDTH).unwrap()
}

/// Writes the model's directory.
pub fn write(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let mut files = vec![(CONFIG, config()), (WEIGHTS, weights())];
    for name in [TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE] {
        files.push((name, default_model::file(name)));
    }
    let listed = files.iter().map(|(name, bytes)| listed(name, bytes));
    let manifest = Manifest {
        format: 1,
        name: "Two random blocks".into(),
        licence: "CC0-1.0".into(),
        source: "made here".into(),
        source_sha256: None,
        files: listed.collect(),
        notes: Vec::new(),
    };
    for (name, bytes) in &files {
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    let json = serde_json::to_vec_pretty(&manifest).unwrap();
    std::fs::write(directory.join(MANIFEST), json).unwrap();
}

/// Writes a folder as the page's `models/`: the model, a vector called *cheerful*, and a catalogue of both.
pub fn write_catalogue(models: &Path) {
    let directory = models.join(ID);
    write(&directory);
    let manifest = std::fs::read(directory.join(MANIFEST)).unwrap();
    let manifest = Manifest::from_json(&manifest).unwrap();
    let vectors = models.join("vectors");
    std::fs::create_dir_all(&vectors).unwrap();
    let name = "cheerful.safetensors";
    let vector = vector_file(&vector(7));
    std::fs::write(vectors.join(name), &vector).unwrap();
    let catalogue = json!({"format": 1, "models": [{
        "id": ID, "name": manifest.name, "licence": manifest.licence, "source": manifest.source,
        "files": manifest.files, "vectors": [listed(name, &vector)], "reports": [], "replaced": [],
    }]});
    std::fs::write(models.join("catalog.json"), catalogue.to_string()).unwrap();
}

fn listed(name: &str, bytes: &[u8]) -> ManifestFile {
    let mut sha256 = String::new();
    for byte in Sha256::digest(bytes) {
        write!(sha256, "{byte:02x}").unwrap();
    }
    ManifestFile {
        path: name.into(),
        bytes: bytes.len() as u64,
        sha256,
    }
}

/// A file of one tensor, which loads as a vector whatever its name.
pub fn vector_file(table: &LayerTable) -> Vec<u8> {
    let data: Vec<u8> = table
        .values()
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let header = json!({"response_avg": {
        "dtype": "F32", "shape": [table.rows(), table.width()], "data_offsets": [0, data.len()],
    }});
    let header = header.to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
