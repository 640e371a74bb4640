//! `trimtab extract`: trait vectors from given conversations, or from a trait pack.

use crate::calibrate::read_neutral;
use crate::extract_trait::{self, TraitArguments};
use crate::model::{ModelArguments, end_tokens, read_bounded};
use crate::progress;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use trimtab_engine::Engine;
use trimtab_persona::contrast::parse_pairs;
use trimtab_persona::extract::{MeanDifferences, extract};
use trimtab_persona::trait_vector::tensor_hash;
use trimtab_persona::vector_file::{VectorFile, VectorMetadata};

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
    let mut metadata = VectorMetadata {
        model_sha256: Some(arguments.model.weights_sha256()?),
        ..VectorMetadata::default()
    };
    let out = arguments
        .out
        .clone()
        .context("--pairs needs --out VEC.safetensors")?;
    let bytes = read_bounded(pairs, MAX_PAIRS_BYTES)?;
    // A model directory without a chat template can still extract from ids.
    let chat = arguments.model.chat().ok();
    let examples =
        parse_pairs(&bytes, chat.as_ref()).with_context(|| pairs.display().to_string())?;
    let longest = examples.iter().map(|example| example.tokens.len()).max();
    metadata.made = Some(format!(
        "mean differences over {} given conversations",
        examples.len()
    ));
    let mut engine = arguments.model.engine(longest, 1)?;
    let ends = end_tokens(engine.config());
    let clock = Instant::now();
    let found = pollster::block_on(extract(
        &mut engine,
        &examples,
        &ends,
        &mut |done, total| {
            progress::show(&format!(
                "reading the conversations: {done} of {total}{}",
                left(clock, done, total)
            ));
        },
    ))?;
    if arguments.calibrate {
        add_calibration(arguments, &mut engine, &out, &found, &mut metadata)?;
    }
    progress::finish();
    if let Some(kept) = std::fs::read(&out)
        .ok()
        .and_then(|bytes| VectorFile::parse(&bytes).ok())
    {
        // A recommendation was made by hand or by a sweep; making the same trait again keeps it.
        metadata.recommended = kept
            .metadata
            .recommended
            .filter(|_| kept.metadata.name == metadata.name);
    }
    let tensors = found
        .named()
        .map(|(name, table)| (name.to_owned(), table.clone()))
        .into();
    let file = VectorFile { tensors, metadata };
    write(&out, &file.to_bytes()?)?;
    report(arguments, &out, &file, &found)
}

fn add_calibration(
    arguments: &Arguments,
    engine: &mut Engine,
    out: &Path,
    found: &MeanDifferences,
    metadata: &mut VectorMetadata,
) -> Result<()> {
    let path = arguments
        .neutral
        .clone()
        .unwrap_or_else(|| out.with_file_name("neutral.json"));
    let tables = found.named();
    let vectors: Vec<_> = tables.iter().map(|(_, table)| (*table).clone()).collect();
    let (statistics, band) = read_neutral(engine, &arguments.model, &path, &vectors)?;
    metadata.neutral_norm = Some(statistics.neutral_norm);
    metadata.coherence_band = band;
    metadata.calibration = tables
        .iter()
        .zip(statistics.calibrations)
        .map(|((name, _), one)| ((*name).to_owned(), one))
        .collect();
    Ok(())
}

fn report(
    arguments: &Arguments,
    out: &Path,
    file: &VectorFile,
    found: &MeanDifferences,
) -> Result<()> {
    let [positive, negative] = found.counts;
    if arguments.json {
        let hashes: BTreeMap<_, _> = file
            .tensors
            .iter()
            .map(|(name, table)| (name, tensor_hash(table)))
            .collect();
        let report = serde_json::json!({
            "out": out.display().to_string(),
            "model_sha256": file.metadata.model_sha256,
            "counts": {"positive": positive, "negative": negative},
            "tensors": hashes,
        });
        println!("{report}");
    } else {
        println!(
            "{}: {positive} positive and {negative} negative conversations",
            out.display()
        );
    }
    Ok(())
}

pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    // Beside it first, so that a run that is stopped leaves the old file whole.
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}

/// `, about 3 min left`, once something is done.
pub fn left(clock: Instant, done: usize, total: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let seconds = clock.elapsed().as_secs_f64() / done as f64 * (total - done) as f64;
    if seconds < 90.0 {
        format!(", about {seconds:.0} s left")
    } else {
        format!(", about {:.0} min left", seconds / 60.0)
    }
}
