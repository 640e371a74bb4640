//! `trimtab convert`: make a model directory.

use crate::output::print_json;
use crate::progress;
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use trimtab_checkpoint::convert::directory::convert;
use trimtab_checkpoint::convert::{Options, Quantisation};

#[derive(Debug, Args)]
pub struct Arguments {
    /// A .gguf file of the llama family, or a Hugging Face directory with safetensors
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
enum QuantArgument {
    Q4,
    Q8,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let options = Options {
        quantisation: arguments.quant.map(|quant| match quant {
            QuantArgument::Q4 => Quantisation::Q4,
            QuantArgument::Q8 => Quantisation::Q8,
        }),
        name: arguments.name.clone(),
        licence: arguments.licence.clone(),
        source: arguments.source.clone(),
        source_sha256: None,
    };
    let (input, output) = (&arguments.input, &arguments.output);
    let manifest = convert(input, output, &options, &mut progress::converting)?;
    progress::finish();
    if arguments.json {
        print_json(&manifest)?;
        return Ok(());
    }
    println!(
        "{}: {}, {}",
        arguments.output.display(),
        manifest.name,
        manifest.licence
    );
    for note in &manifest.notes {
        println!("note: {note}");
    }
    Ok(())
}
