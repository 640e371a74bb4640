//! `trimtab recommend`: write into a vector file where it works.

use crate::files::{read_bounded, write};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use std::path::PathBuf;
use trimtab_persona::plan::parse_layers;
use trimtab_persona::vector_file::{MAX_FILE_BYTES, Recommended, VectorFile};

#[derive(Debug, Args)]
pub struct Arguments {
    #[arg(value_name = "VECTOR.safetensors")]
    file: PathBuf,
    /// LAYER[,LAYER…|a-b]
    #[arg(long, value_name = "LAYERS")]
    layers: String,
    /// Smallest coefficient, 0 or less
    #[arg(long, value_name = "α", allow_hyphen_values = true)]
    min: f32,
    /// Largest coefficient, 0 or more
    #[arg(long, value_name = "α")]
    max: f32,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let named = || arguments.file.display().to_string();
    let mut file = VectorFile::parse(&read_bounded(&arguments.file, MAX_FILE_BYTES as u64)?)
        .with_context(named)?;
    let rows = file.tensors.values().next().map_or(0, |table| table.rows());
    let layers = parse_layers(&arguments.layers).map_err(|reason| anyhow!("--layers: {reason}"))?;
    let recommended = Recommended {
        layers: layers.iter().map(|layer| layer.0).collect(),
        min: arguments.min,
        max: arguments.max,
        usual: None,
    };
    recommended.check(rows).map_err(|reason| anyhow!(reason))?;
    file.metadata.recommended = Some(recommended);
    write(&arguments.file, &file.to_bytes()?)
}
