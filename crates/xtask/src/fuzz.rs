//! Opening damaged inputs for as long as asked: links and GGUF files, as strangers may send them.

use crate::{links, process};
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Inputs {
    Links,
    Gguf,
}

/// Opens damaged golden files for `seconds`; fails where that found something.
pub fn run(root: &Path, inputs: Inputs, seconds: u32, seed: u32) -> Result<()> {
    let findings = root.join("target/fuzz");
    fs::create_dir_all(&findings)
        .with_context(|| format!("{} cannot be made", findings.display()))?;
    let (example, sound) = match inputs {
        Inputs::Links => ("fuzz_links", links::golden_files(root)?),
        Inputs::Gguf => ("fuzz_gguf", gguf_files(root)?),
    };
    let mut program = process::example(root, example);
    program
        .arg(seconds.to_string())
        .arg(seed.to_string())
        .arg(&findings)
        .args(sound);
    process::run(&mut program)
}

/// The small ones of every family.
fn gguf_files(root: &Path) -> Result<Vec<PathBuf>> {
    let golden = root.join("tests/golden");
    let mut files = vec![golden.join("tiny/tiny.gguf")];
    let families = golden.join("families");
    for entry in fs::read_dir(&families).with_context(|| families.display().to_string())? {
        let file = entry?.path().join("model.gguf");
        files.extend(file.is_file().then_some(file));
    }
    files.sort();
    Ok(files)
}
