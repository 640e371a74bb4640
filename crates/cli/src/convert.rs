//! `trimtab convert`: make a model directory.

use crate::output::print_json;
use crate::progress;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use trimtab_checkpoint::convert::directory::convert;
use trimtab_checkpoint::convert::{Options, Quantisation};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A .gguf file, or a Hugging Face directory with safetensors
    #[arg(value_name = "IN")]
    input: PathBuf,
    /// The model directory to make; must not exist, or be empty
    #[arg(value_name = "OUT")]
    output: PathBuf,
    /// Quantise the weights of a safetensors directory; without it they are kept as they are
    #[arg(long)]
    quant: Option<QuantArgument>,
    /// Name for the manifest
    #[arg(long, allow_hyphen_values = true)]
    name: Option<String>,
    /// Licence for the manifest
    #[arg(long, allow_hyphen_values = true)]
    licence: Option<String>,
    /// Where the model comes from, for the manifest
    #[arg(long)]
    source: Option<String>,
    /// Print the manifest
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum QuantArgument {
    Q4,
    Q8,
}

impl From<QuantArgument> for Quantisation {
    fn from(quant: QuantArgument) -> Self {
        match quant {
            QuantArgument::Q4 => Self::Q4,
            QuantArgument::Q8 => Self::Q8,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let options = Options {
        quantisation: arguments.quant.map(Into::into),
        name: arguments.name.clone(),
        licence: arguments.licence.clone(),
        source: arguments.source.clone(),
        source_sha256: None,
    };
    make(
        &arguments.input,
        &arguments.output,
        &options,
        arguments.json,
    )
}

/// Makes the model directory `output`, and says what it is.
pub fn make(input: &Path, output: &Path, options: &Options, json: bool) -> Result<()> {
    let manifest = convert(input, output, options, &mut progress::converting)?;
    progress::finish();
    if json {
        print_json(&manifest)?;
        return Ok(());
    }
    println!(
        "{}: {}, {}",
        output.display(),
        manifest.name,
        manifest.licence
    );
    for note in &manifest.notes {
        println!("note: {note}");
    }
    Ok(())
}
