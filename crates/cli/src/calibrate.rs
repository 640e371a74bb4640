//! `trimtab calibrate`: gives a vector file what its readings and doses are measured by. For vectors of other programs.

use crate::files::{read_bounded, read_json, write};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{Terminal, wait, warn};
use crate::vectors::neutral_answers;
use anyhow::{Context, Result, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::vector_file::{MAX_FILE_BYTES, VectorFile, check_shape};
use trimtab_studio::reading::Calibrated;
use trimtab_studio::session::Session;

/// Tokens of the longest neutral conversation: the template, a question, an answer.
pub const CONTEXT: usize = 256;
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
    let file = VectorFile::parse(&bytes).with_context(named)?;
    let config = arguments.model.config()?;
    // Before the weights are read: a vector of another model is refused at once.
    for table in file.tensors.values() {
        let (rows, width) = (config.layers + 1, config.hidden_size);
        check_shape(&[table.rows(), table.width()], rows, width).with_context(named)?;
    }
    let model_sha256 = arguments.model.names()?.sha256;
    let neutral = match &arguments.neutral {
        Some(path) => path.clone(),
        None => neutral_answers()
            .filter(|path| read_json::<NeutralSet>(path).is_ok_and(|set| set.is_of(&model_sha256)))
            .unwrap_or_else(|| arguments.file.with_file_name("neutral.json")),
    };
    let mut session = arguments.model.session(Some(CONTEXT), AT_ONCE)?;
    let calibrated = calibrate(&mut session, &bytes, &neutral)?;
    if file
        .metadata
        .model_sha256
        .is_some_and(|made_on| made_on != model_sha256)
    {
        warn(&format!(
            "{} was made on other weights than those that it was calibrated on",
            named()
        ));
    }
    write(&arguments.file, &calibrated.vector)?;
    let (conversations, neutral) = (calibrated.conversations, neutral.display().to_string());
    if arguments.json {
        return print_json(&serde_json::json!({
            "file": named(),
            "tensors": calibrated.tensors,
            "conversations": conversations,
            "neutral": neutral,
        }));
    }
    println!(
        "{}: calibrated on {conversations} neutral conversations ({neutral})",
        named()
    );
    Ok(())
}

/// Calibrates a vector file on the neutral answers at `path`, which are written as far as they are missing there.
pub fn calibrate(session: &mut Session, vector: &[u8], path: &Path) -> Result<Calibrated> {
    session.neutral = open_neutral(path, &session.sha256)?;
    let calibrated = wait(session.calibrate(vector, &mut Terminal::quiet()))?;
    if let Some(neutral) = &session.neutral {
        share_neutral(path, neutral)?;
    }
    Ok(calibrated)
}

/// A model's neutral answers at `path`, where there are any.
pub fn open_neutral(path: &Path, model_sha256: &str) -> Result<Option<NeutralSet>> {
    let shared: Option<NeutralSet> = path.exists().then(|| read_json(path)).transpose()?;
    ensure!(
        shared.as_ref().is_none_or(|set| set.is_of(model_sha256)),
        "{} holds answers of another model; name another file with --neutral",
        path.display()
    );
    Ok(shared)
}

/// Leaves the answers at `path` for other traits, which are calibrated on them too: what is there stays, unless `ours` has more.
pub fn share_neutral(path: &Path, ours: &NeutralSet) -> Result<()> {
    if path.exists() && !ours.has_more_than(&read_json(path)?) {
        return Ok(());
    }
    write(path, &serde_json::to_vec_pretty(ours)?)
}
