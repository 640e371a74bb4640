//! `trimtab extract`: trait vectors from given conversations, or from a trait pack.

use crate::model::{ModelArguments, end_tokens, read_bounded, read_json};
use crate::progress;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use trimtab_engine::Engine;
use trimtab_persona::answers::AnswerSettings;
use trimtab_persona::calibration::calibrate;
use trimtab_persona::contrast::{ContrastSet, parse_pairs};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::extract::{Example, MeanDifferences, extract};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack};
use trimtab_persona::trait_vector::{sha256, tensor_hash};
use trimtab_persona::vector_file::{VectorFile, VectorMetadata};

/// Largest pairs file read.
const MAX_PAIRS_BYTES: u64 = 256 << 20;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    from: From,
    /// The vector file to write [default with --trait: NAME.safetensors]
    #[arg(long, value_name = "VEC.safetensors")]
    out: Option<PathBuf>,
    /// Responses to write on each side of a trait
    #[arg(long, value_name = "N", default_value_t = 80)]
    responses: usize,
    #[arg(long, value_name = "N", default_value_t = 48)]
    max_tokens: usize,
    #[arg(long, value_name = "T", default_value_t = 0.8)]
    temperature: f32,
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u32,
    /// Responses written side by side
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,
    /// Where the responses to a trait's questions are kept; a run that was stopped goes on from
    /// them [default: the vector file's name with .contrast.json]
    #[arg(long, value_name = "FILE.json")]
    contrast: Option<PathBuf>,
    /// Neutral answers to calibrate on; written if missing, so that all traits of a model share
    /// them [default: neutral.json beside the vector file]
    #[arg(long, value_name = "FILE.json")]
    neutral: Option<PathBuf>,
    /// Also calibrate vectors made from --pairs; those of a trait always are
    #[arg(long)]
    calibrate: bool,
    /// Print {"out", "model_sha256", "counts", "tensors"}
    #[arg(long)]
    json: bool,
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
    let mut metadata = VectorMetadata {
        model_sha256: Some(arguments.model.weights_sha256()?),
        ..VectorMetadata::default()
    };
    let (mut engine, examples, out) = match (&arguments.from.pairs, &arguments.from.r#trait) {
        (Some(pairs), _) => {
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
            (arguments.model.engine(longest, 1)?, examples, out)
        }
        (None, Some(path)) => from_trait(arguments, path, &mut metadata)?,
        (None, None) => bail!("give --pairs or --trait"),
    };
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
    if arguments.calibrate || arguments.from.r#trait.is_some() {
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

/// Writes what is missing of the trait's responses.
fn from_trait(
    arguments: &Arguments,
    path: &Path,
    metadata: &mut VectorMetadata,
) -> Result<(Engine, Vec<Example>, PathBuf)> {
    let bytes = read_bounded(path, MAX_PACK_BYTES as u64)?;
    let pack = TraitPack::parse(&bytes).with_context(|| path.display().to_string())?;
    let out = arguments
        .out
        .clone()
        .unwrap_or_else(|| format!("{}.safetensors", pack.name).into());
    let kept_at = arguments
        .contrast
        .clone()
        .unwrap_or_else(|| out.with_extension("contrast.json"));
    let chat = arguments.model.chat()?;
    let mut set = ContrastSet {
        trait_name: pack.name.clone(),
        trait_sha256: sha256(&bytes),
        model_sha256: arguments.model.weights_sha256()?,
        settings: settings(arguments)?,
        responses_per_side: arguments.responses,
        responses: Vec::new(),
    };
    if kept_at.exists() {
        set.resume(read_json(&kept_at)?)
            .with_context(|| kept_at.display().to_string())?;
    }
    let mut engine = arguments.model.engine(
        Some(longest_prompt(&pack, &chat)?.saturating_add(arguments.max_tokens)),
        arguments.batch,
    )?;
    let missing = set.missing(&pack)?;
    let clock = Instant::now();
    for (index, jobs) in missing.chunks(arguments.batch).enumerate() {
        let done = index * arguments.batch;
        pollster::block_on(set.write(&mut engine, &chat, &pack, jobs, &mut |tokens| {
            let time = left(clock, done, missing.len());
            progress::show(&format!(
                "writing responses: {done} of {}, {tokens} tokens of the next{time}",
                missing.len()
            ));
        }))?;
        write(&kept_at, &serde_json::to_vec(&set)?)?;
    }
    let examples = set.examples();
    metadata.name = Some(pack.name);
    metadata.opposite = Some(pack.opposite);
    metadata.description = Some(pack.description);
    metadata.licence = Some(pack.licence);
    metadata.trait_sha256 = Some(set.trait_sha256);
    metadata.made = Some(format!(
        "trimtab {}: mean differences over {} responses of at most {} tokens to the trait pack's extraction questions, temperature {}, top-p {}, seed {}",
        env!("CARGO_PKG_VERSION"),
        examples.len(),
        set.settings.max_tokens,
        set.settings.temperature,
        set.settings.top_p,
        set.settings.seed,
    ));
    Ok((engine, examples, out))
}

fn settings(arguments: &Arguments) -> Result<AnswerSettings> {
    let &Arguments {
        max_tokens,
        temperature,
        top_p,
        seed,
        ..
    } = arguments;
    ensure!(
        max_tokens > 0 && arguments.batch > 0,
        "--max-tokens and --batch must be at least 1"
    );
    ensure!(
        temperature.is_finite() && temperature >= 0.0,
        "--temperature must be 0 or more"
    );
    ensure!(
        top_p > 0.0 && top_p <= 1.0,
        "--top-p must be above 0 and at most 1"
    );
    Ok(AnswerSettings {
        max_tokens,
        temperature,
        top_p,
        seed,
    })
}

/// In tokens, over every instruction with every question.
fn longest_prompt(pack: &TraitPack, chat: &ChatText) -> Result<usize> {
    let longest = |texts: Vec<&String>| -> Result<usize> {
        let lengths = texts.into_iter().map(|text| Ok(chat.encode(text)?.len()));
        lengths
            .collect::<Result<Vec<_>>>()
            .map(|lengths| lengths.into_iter().max().unwrap_or(0))
    };
    let sides = pack
        .instructions
        .iter()
        .flat_map(|pair| [&pair.positive, &pair.negative]);
    let questions = pack.questions.extraction.iter();
    // The template's own tokens around them: a generous allowance.
    Ok(longest(sides.collect())? + longest(questions.collect())? + 64)
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
    let chat = arguments.model.chat()?;
    let model_sha256 = arguments.model.weights_sha256()?;
    let mut neutral: NeutralSet = if path.exists() {
        read_json(&path)?
    } else {
        NeutralSet {
            model_sha256: model_sha256.clone(),
            settings: settings(arguments)?,
            answers: Vec::new(),
        }
    };
    ensure!(
        neutral.is_of(&model_sha256),
        "{} holds answers of another model; name another file with --neutral",
        path.display()
    );
    pollster::block_on(neutral.write(engine, &chat, &mut |done, total| {
        progress::show(&format!("writing neutral answers: {done} of {total}"));
    }))?;
    write(&path, &serde_json::to_vec_pretty(&neutral)?)?;
    let tables = found.named();
    let vectors: Vec<_> = tables.iter().map(|(_, table)| (*table).clone()).collect();
    let conversations = neutral.conversations(&chat)?;
    let statistics = pollster::block_on(calibrate(
        engine,
        &conversations,
        &vectors,
        &mut |done, total| {
            progress::show(&format!(
                "calibrating: {done} of {total} neutral conversations"
            ));
        },
    ))?;
    metadata.neutral_norm = Some(statistics.neutral_norm);
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

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    // Beside it first, so that a run that is stopped leaves the old file whole.
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}

/// `, about 3 min left`, once something is done.
fn left(clock: Instant, done: usize, total: usize) -> String {
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
