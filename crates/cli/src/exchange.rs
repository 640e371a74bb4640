//! `trimtab import` and `trimtab export`: vectors of other programs.

use crate::extract::write;
use crate::model::{ModelArguments, read_bounded};
use crate::vectors::open_vector;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::path::PathBuf;
use trimtab_checkpoint::convert::torch_tensor::read_torch_tensor;
use trimtab_engine::LayerTable;
use trimtab_persona::control_vector::{ControlVector, FIRST_LAYER, MAX_BYTES};
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::{DEFAULT_TENSOR, VectorFile, VectorMetadata};

#[derive(Debug, Args)]
pub struct ImportArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// A GGUF control vector, or a .pt file with one tensor [layers + 1, width] as the persona vectors
    /// paper's code saves it
    file: PathBuf,
    #[arg(long, value_name = "VEC.safetensors")]
    out: PathBuf,
    /// Print {"out", "tensors", "zero_layers"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// A ready-made trait, or the path of a vector file (PATH#TENSOR chooses its tensor)
    vector: String,
    #[arg(long, value_name = "FILE.gguf")]
    out: PathBuf,
    /// The model's architecture as llama.cpp names it
    #[arg(long, value_name = "NAME", default_value = "llama")]
    architecture: String,
    /// Print {"out", "first_layer", "last_layer"}
    #[arg(long)]
    json: bool,
}

pub fn import(arguments: &ImportArguments) -> Result<()> {
    let config = arguments.model.config()?;
    let (rows, width) = (config.layers + 1, config.hidden_size);
    let named = || arguments.file.display().to_string();
    let extension = arguments
        .file
        .extension()
        .and_then(|extension| extension.to_str());
    let (table, from, zero) = match extension {
        Some("gguf") => {
            let bytes = read_bounded(&arguments.file, MAX_BYTES as u64)?;
            let read = ControlVector::parse(&bytes).with_context(named)?;
            let table = read.into_table(rows, width).with_context(named)?;
            (table, "a GGUF control vector", vec![0, 1])
        }
        Some("pt" | "pth") => {
            let (shape, mut values) = read_torch_tensor(&arguments.file).with_context(named)?;
            ensure!(
                shape == [rows, width],
                "{}: the tensor has shape {shape:?}, this model needs [{rows}, {width}]: it was made for another model",
                named()
            );
            // The reference takes its last row after the final norm; there is no such layer here.
            values[(rows - 1) * width..].fill(0.0);
            (
                LayerTable::new(values, width).with_context(named)?,
                "a tensor of the reference implementation",
                vec![rows - 1],
            )
        }
        _ => bail!("{}: neither a .gguf nor a .pt file", named()),
    };
    let tensors = [(DEFAULT_TENSOR.to_owned(), table)].into();
    let layers: Vec<String> = zero.iter().map(usize::to_string).collect();
    let layers = layers.join(" and ");
    let made = format!("from {from}; layers that it has not ({layers}) are zero");
    let metadata = VectorMetadata {
        made: Some(made.clone()),
        ..VectorMetadata::default()
    };
    let file = VectorFile { tensors, metadata };
    write(&arguments.out, &file.to_bytes()?)?;
    let out = arguments.out.display();
    if arguments.json {
        let hash = tensor_hash(&file.tensors[DEFAULT_TENSOR]);
        let report = serde_json::json!({"out": out.to_string(), "tensors": {DEFAULT_TENSOR: hash}, "zero_layers": zero});
        println!("{report}");
    } else {
        println!(
            "{out}: made {made}. `trimtab calibrate {out}` measures what its readings and doses mean on this model"
        );
    }
    Ok(())
}

pub fn export(arguments: &ExportArguments) -> Result<()> {
    let (path, tensor, file) = open_vector(&arguments.vector)?;
    let named = || path.display().to_string();
    let (_, table) = file.choose(tensor.as_deref()).with_context(named)?;
    let control = ControlVector::of(table, &arguments.architecture).with_context(named)?;
    write(&arguments.out, &control.to_bytes())?;
    let (out, last) = (arguments.out.display(), table.rows() - 1);
    if arguments.json {
        let report = serde_json::json!({"out": out.to_string(), "first_layer": FIRST_LAYER, "last_layer": last});
        println!("{report}");
    } else {
        println!(
            "{out}: layers {FIRST_LAYER} to {last}; the format has no place for layers 0 and 1"
        );
    }
    Ok(())
}
