//! `trimtab calibrate`: gives a vector file what its readings and doses are measured by. For vectors of other programs.

use crate::extract::write;
use crate::model::{ModelArguments, read_bounded, read_json};
use crate::progress;
use crate::vectors::neutral_answers;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use trimtab_engine::{Engine, LayerTable};
use trimtab_persona::answers::AnswerSettings;
use trimtab_persona::calibration::{NeutralStatistics, calibrate};
use trimtab_persona::coherence::{CoherenceBand, CoherenceCriteria};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::vector_file::{MAX_FILE_BYTES, VectorFile, check_shape};

/// Tokens of the longest neutral conversation: the template, a question, an answer.
const CONTEXT: usize = 256;
/// Neutral answers written side by side.
const AT_ONCE: usize = 16;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[arg(value_name = "VECTOR.safetensors")]
    file: PathBuf,
    /// Neutral answers of the model; written if missing [default: the ready-made ones where they are of this model, else
    /// neutral.json beside the vector file]
    #[arg(long, value_name = "FILE.json")]
    neutral: Option<PathBuf>,
    /// Print {"file", "tensors", "conversations", "neutral"}
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let named = || arguments.file.display().to_string();
    let bytes = read_bounded(&arguments.file, MAX_FILE_BYTES as u64)?;
    let mut file = VectorFile::parse(&bytes).with_context(named)?;
    let config = arguments.model.config()?;
    // Before the weights are read: a vector of another model is refused at once.
    for table in file.tensors.values() {
        let (rows, width) = (config.layers + 1, config.hidden_size);
        check_shape(&[table.rows(), table.width()], rows, width).with_context(named)?;
    }
    let model_sha256 = arguments.model.weights_sha256()?;
    let neutral = match &arguments.neutral {
        Some(path) => path.clone(),
        None => neutral_answers()
            .filter(|path| read_json::<NeutralSet>(path).is_ok_and(|set| set.is_of(&model_sha256)))
            .unwrap_or_else(|| arguments.file.with_file_name("neutral.json")),
    };
    let mut engine = arguments.model.engine(Some(CONTEXT), AT_ONCE)?;
    let tables: Vec<LayerTable> = file.tensors.values().cloned().collect();
    let (statistics, band) = read_neutral(&mut engine, &arguments.model, &neutral, &tables)?;
    progress::finish();
    let conversations = statistics.calibrations.first();
    let conversations = conversations.map_or(0, |one| one.conversations);
    file.metadata.neutral_norm = Some(statistics.neutral_norm);
    file.metadata.coherence_band = band.or(file.metadata.coherence_band);
    file.metadata.calibration = file
        .tensors
        .keys()
        .cloned()
        .zip(statistics.calibrations)
        .collect();
    // A model that the file names stays: the vector was made on that one, whatever it is read with here.
    let made_on = file
        .metadata
        .model_sha256
        .get_or_insert(model_sha256.clone());
    if *made_on != model_sha256 {
        progress::warn(&format!(
            "{} was made on other weights than those that it was calibrated on",
            named()
        ));
    }
    write(&arguments.file, &file.to_bytes()?)?;
    if arguments.json {
        let report = serde_json::json!({
            "file": named(),
            "tensors": file.tensors.keys().collect::<Vec<_>>(),
            "conversations": conversations,
            "neutral": neutral.display().to_string(),
        });
        println!("{report}");
    } else {
        println!(
            "{}: calibrated on {conversations} neutral conversations ({})",
            named(),
            neutral.display()
        );
    }
    Ok(())
}

/// Calibrates `tables` on the neutral answers at `path`, which are written first as far as they are missing. The band
/// comes with answers whose likelihood is known.
pub fn read_neutral(
    engine: &mut Engine,
    model: &ModelArguments,
    path: &Path,
    tables: &[LayerTable],
) -> Result<(NeutralStatistics, Option<CoherenceBand>)> {
    let chat = model.chat()?;
    let model_sha256 = model.weights_sha256()?;
    let mut neutral: NeutralSet = if path.exists() {
        read_json(path)?
    } else {
        NeutralSet {
            model_sha256: model_sha256.clone(),
            settings: AnswerSettings::default(),
            answers: Vec::new(),
        }
    };
    ensure!(
        neutral.is_of(&model_sha256),
        "{} holds answers of another model; name another file with --neutral",
        path.display()
    );
    let there = neutral.answers.len();
    pollster::block_on(neutral.write(engine, &chat, &mut |done, total| {
        progress::show(&format!("writing neutral answers: {done} of {total}"));
    }))?;
    if neutral.answers.len() > there {
        write(path, &serde_json::to_vec_pretty(&neutral)?)?;
    }
    let conversations = neutral.conversations(&chat)?;
    let mut progress = |done, total| {
        progress::show(&format!(
            "calibrating: {done} of {total} neutral conversations"
        ));
    };
    let statistics = calibrate(engine, &conversations, tables, &mut progress);
    let statistics = pollster::block_on(statistics)?;
    let logprobs = neutral.answers.iter().filter_map(|answer| answer.logprob);
    let band = CoherenceBand::of(&logprobs.collect::<Vec<_>>(), CoherenceCriteria::default());
    Ok((statistics, band.ok()))
}
