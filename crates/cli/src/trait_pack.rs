//! `trimtab trait`: draft a trait pack from a sentence, or check one.

use crate::files::read_bounded;
use crate::output::print_json;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use trimtab_persona::trait_pack::{MAX_PACK_BYTES, TraitPack};
use trimtab_persona::trait_vector::sha256;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Draft a trait pack from a sentence; edit the file before you extract from it.
    New(New),
    /// Say whether a file is a trait pack, and if not, which field is wrong.
    Check(Check),
}

#[derive(Debug, Args)]
struct New {
    /// Lower-case letters, digits and hyphens
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    name: String,
    /// One sentence about how the trait shows
    #[arg(long, value_name = "SENTENCE", allow_hyphen_values = true)]
    description: String,
    /// The other end of the slider, in a word or a few
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    opposite: String,
    /// One sentence about how the opposite shows, so that both sides say as much
    #[arg(
        long,
        value_name = "SENTENCE",
        default_value = "",
        allow_hyphen_values = true
    )]
    opposite_description: String,
    /// A file that is not there yet
    #[arg(long, value_name = "FILE.json")]
    out: PathBuf,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Check {
    #[arg(value_name = "FILE.json")]
    file: PathBuf,
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.verb {
        Verb::New(new) => draft(new),
        Verb::Check(check) => {
            let bytes = read_bounded(&check.file, MAX_PACK_BYTES as u64)?;
            report(&check.file, &bytes, check.json)
        }
    }
}

fn draft(new: &New) -> Result<()> {
    let pack = TraitPack::from_sentences(
        &new.name,
        &new.description,
        &new.opposite,
        &new.opposite_description,
    )?;
    let mut bytes = serde_json::to_vec_pretty(&pack)?;
    bytes.push(b'\n');
    // Another pack may lie there, with somebody's work in it.
    File::create_new(&new.out)
        .and_then(|mut file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", new.out.display()))?;
    report(&new.out, &bytes, new.json)
}

/// Checks the bytes of `path` and says what is in them.
fn report(path: &Path, bytes: &[u8], json: bool) -> Result<()> {
    let pack = TraitPack::parse(bytes).with_context(|| path.display().to_string())?;
    let (pairs, extraction, evaluation) = (
        pack.instructions.len(),
        pack.questions.extraction.len(),
        pack.questions.evaluation.len(),
    );
    if json {
        let report = serde_json::json!({
            "file": path.display().to_string(),
            "name": pack.name,
            "opposite": pack.opposite,
            "sha256": sha256(bytes),
            "instructions": pairs,
            "questions": {"extraction": extraction, "evaluation": evaluation},
        });
        print_json(&report)?;
    } else {
        println!(
            "{}: {} or {}, {pairs} pairs of instructions, {extraction} questions to extract from and {evaluation} to evaluate on",
            path.display(),
            pack.name,
            pack.opposite
        );
    }
    Ok(())
}
