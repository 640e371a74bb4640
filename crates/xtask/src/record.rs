//! The recorded run that the page plays before a model is there: made here, by the program, from the real model.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::process;

const TRAIT: &str = "cheerful";
const RECORDING: &str = "web/public/generated/recording.json";
/// What the recording was made from, so that it is made again only when that changed.
const STAMP: &str = "target/recording.stamp";

/// What `trimtab record` is asked, besides where to write.
const QUESTION: &[&str] = &["--trait", TRAIT, "--question", "How was your day?"];
const SAMPLER: &[&str] = &["--max-tokens", "64", "--repetition-penalty", "1.1"];

/// `web/public/generated/recording.json`, made again when what it depends on changed.
pub fn ensure(root: &Path) -> Result<()> {
    let made_from = fs::read_to_string(root.join(STAMP)).unwrap_or_default();
    if root.join(RECORDING).is_file() && made_from == stamp(root)? {
        return Ok(());
    }
    make(root)
}

pub fn make(root: &Path) -> Result<()> {
    let out = root.join(RECORDING);
    let folder = out.parent().context("the recording needs a folder")?;
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let mut program = process::cargo(root);
    program.args([
        "run",
        "--quiet",
        "--release",
        "--package",
        "trimtab",
        "--",
        "record",
    ]);
    program
        .args(QUESTION)
        .args(SAMPLER)
        .args(["--out", RECORDING]);
    process::run(&mut program)?;
    fs::write(root.join(STAMP), stamp(root)?).context("the recording's stamp cannot be written")
}

/// Hash of the question, the sampler, the vector and the model's manifest.
fn stamp(root: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for word in QUESTION.iter().chain(SAMPLER) {
        digest.update(word);
        digest.update([0]);
    }
    let vector = format!("models/vectors/{TRAIT}.safetensors");
    for path in [
        vector.as_str(),
        "models/smollm2-135m-instruct/manifest.json",
    ] {
        digest.update(fs::read(root.join(path)).with_context(|| path.to_owned())?);
    }
    Ok(digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
