//! `trimtab extract`: trait vectors from given conversations, or from a trait pack.

use crate::calibrate::{self, calibrate};
use crate::extract_trait::{self, TraitArguments};
use crate::files::{read_bounded, write};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{Terminal, wait};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use trimtab_persona::contrast::{ContrastPair, parse_pairs};
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::VectorFile;

/// Largest pairs file read.
const MAX_PAIRS_BYTES: u64 = 256 << 20;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub model: ModelArguments,
    #[command(flatten)]
    from: From,
    /// The vector file to write [default with --trait: NAME.safetensors]
    #[arg(long, value_name = "VEC.safetensors")]
    pub out: Option<PathBuf>,
    /// Neutral answers to calibrate on; written if missing, so that all traits of a model share
    /// them [default: neutral.json beside the vector file]
    #[arg(long, value_name = "FILE.json")]
    pub neutral: Option<PathBuf>,
    #[command(flatten, next_help_heading = "With --trait")]
    pub from_trait: TraitArguments,
    /// Also calibrate vectors made from --pairs; those of a trait always are
    #[arg(long)]
    calibrate: bool,
    /// Print {"out", "model_sha256", "counts", "tensors"}, and with --trait what was found out
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct From {
    /// Conversations: {"pairs": [{"side": 1|-1, "prompt_ids": […], "full_ids": […]}]}, or
    /// "messages" in place of the ids
    #[arg(long, value_name = "PAIRS.json")]
    pairs: Option<PathBuf>,
    /// A trait pack; its responses are written first
    #[arg(long, value_name = "TRAIT.json")]
    r#trait: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let pairs = match (&arguments.from.pairs, &arguments.from.r#trait) {
        (_, Some(path)) => return extract_trait::run(arguments, path),
        (Some(pairs), None) => pairs,
        (None, None) => bail!("give --pairs or --trait"),
    };
    let out = arguments
        .out
        .clone()
        .context("--pairs needs --out VEC.safetensors")?;
    let conversations = read_pairs(pairs)?;
    let count = |side| {
        conversations
            .iter()
            .filter(|pair| pair.side == side)
            .count()
    };
    let (positive, negative) = (count(1), count(-1));
    let longest = conversations.iter().map(ContrastPair::longest).max();
    let longest = longest.unwrap_or(0).max(calibrate::CONTEXT);
    let mut session = arguments.model.session_for_ids(Some(longest))?;
    let made = wait(session.extract(conversations, &mut Terminal::quiet()));
    let mut made = made.with_context(|| pairs.display().to_string())?;
    if arguments.calibrate {
        let neutral = arguments.neutral.clone();
        let neutral = neutral.unwrap_or_else(|| out.with_file_name("neutral.json"));
        made = calibrate(&mut session, &made, &neutral)?.vector;
    }
    let mut file = VectorFile::parse(&made)?;
    if let Some(kept) = std::fs::read(&out)
        .ok()
        .and_then(|bytes| VectorFile::parse(&bytes).ok())
    {
        // A recommendation was made by hand or by a sweep; making the same trait again keeps it.
        let same = kept.metadata.name == file.metadata.name;
        file.metadata.recommended = kept.metadata.recommended.filter(|_| same);
    }
    write(&out, &file.to_bytes()?)?;
    if arguments.json {
        return print_json(&serde_json::json!({
            "out": out.display().to_string(),
            "model_sha256": file.metadata.model_sha256,
            "counts": {"positive": positive, "negative": negative},
            "tensors": hashes(&file),
        }));
    }
    println!(
        "{}: {positive} positive and {negative} negative conversations",
        out.display()
    );
    Ok(())
}

/// Hashes of a file's tensors, by name.
pub fn hashes(file: &VectorFile) -> BTreeMap<&String, String> {
    let tensors = file.tensors.iter();
    tensors
        .map(|(name, table)| (name, tensor_hash(table)))
        .collect()
}

/// The conversations of a pairs file.
pub fn read_pairs(path: &Path) -> Result<Vec<ContrastPair>> {
    let bytes = read_bounded(path, MAX_PAIRS_BYTES)?;
    parse_pairs(&bytes).with_context(|| path.display().to_string())
}
