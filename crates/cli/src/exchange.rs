//! `trimtab import` and `trimtab export`: vectors of other programs.

use crate::files::{read_bounded, write};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::vectors::open_vector;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::PathBuf;
use trimtab_checkpoint::convert::torch_tensor::read_torch_tensor;
use trimtab_engine::LayerTable;
use trimtab_persona::control_vector::{ControlVector, FIRST_LAYER, MAX_BYTES};
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::{DEFAULT_TENSOR, VectorFile, check_shape};

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
        .map(|extension| extension.to_string_lossy().to_lowercase());
    let (table, from, zero) = match extension.as_deref() {
        Some("gguf") => {
            let bytes = read_bounded(&arguments.file, MAX_BYTES as u64)?;
            let read = ControlVector::parse(&bytes).with_context(named)?;
            let missing = read.missing_layers(rows);
            let table = read.into_table(rows, width).with_context(named)?;
            (table, "a GGUF control vector", missing)
        }
        Some("pt" | "pth") => {
            let (shape, mut values) = read_torch_tensor(&arguments.file).with_context(named)?;
            check_shape(&shape, rows, width).with_context(named)?;
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
    let file = VectorFile::imported(table, from, &zero);
    write(&arguments.out, &file.to_bytes()?)?;
    let out = arguments.out.display();
    if arguments.json {
        let hash = tensor_hash(&file.tensors[DEFAULT_TENSOR]);
        let report = serde_json::json!({"out": out.to_string(), "tensors": {DEFAULT_TENSOR: hash}, "zero_layers": zero});
        print_json(&report)?;
    } else {
        println!(
            "{out}: made {}. `trimtab calibrate {out}` measures what its readings and doses mean on this model",
            file.metadata.made.as_deref().unwrap_or_default()
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
        print_json(&report)?;
    } else {
        println!(
            "{out}: layers {FIRST_LAYER} to {last}; the format has no place for layers 0 and 1"
        );
    }
    Ok(())
}
