//! `trimtab control`: a direction that means nothing, as long as a trait vector.

use crate::files::{read_bounded, write};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;
use trimtab_persona::control::random_like;
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::{MAX_FILE_BYTES, VectorFile, VectorMetadata};

#[derive(Debug, Args)]
pub struct Arguments {
    /// The vector file whose length to take at each layer
    #[arg(long, value_name = "VECTOR.safetensors")]
    like: PathBuf,
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u32,
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let bytes = read_bounded(&arguments.like, MAX_FILE_BYTES as u64)?;
    let like = VectorFile::parse(&bytes).with_context(|| arguments.like.display().to_string())?;
    let (_, table) = like.choose(None)?;
    let random = random_like(table, arguments.seed)?;
    let made = format!(
        "a random direction, seed {}, as long as {} at each layer",
        arguments.seed,
        tensor_hash(table)
    );
    let metadata = VectorMetadata {
        made: Some(made),
        model_sha256: like.metadata.model_sha256.clone(),
        neutral_norm: like.metadata.neutral_norm.clone(),
        recommended: like.metadata.recommended.clone(),
        ..VectorMetadata::default()
    };
    let file = VectorFile {
        tensors: [("random".to_owned(), random)].into(),
        metadata,
    };
    write(&arguments.out, &file.to_bytes()?)
}
