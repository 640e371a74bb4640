//! `dist/trimtab`: the program with page and model inside.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{gzip, megabytes, site};
use crate::files::{files_below, read, write};
use crate::process;

/// From the built page: `dist/program-page` is what goes in, compressed twins included.
pub fn make(root: &Path) -> Result<()> {
    let inside = root.join("dist/program-page");
    site::fill(&site::Contents {
        site: inside.clone(),
        ..site::Contents::published(root)
    })?;
    for file in files_below(&inside)? {
        // Weights hardly get smaller; and a download that goes on in the middle must not meet a compressed file.
        if file.starts_with("models/") && file != "models/catalog.json" {
            continue;
        }
        let bytes = read(&inside.join(&file))?;
        let smaller = gzip(&bytes)?;
        if smaller.len() < bytes.len() / 10 * 9 {
            write(&inside.join(format!("{file}.gz")), &smaller)?;
        }
    }
    process::run(process::cargo(root).args([
        "build",
        "--release",
        "--bin",
        "trimtab",
        "--features",
        "trimtab/page",
    ]))?;
    let name = format!("trimtab{EXE_SUFFIX}");
    let program = root.join("dist").join(&name);
    let built = root.join("target/release").join(&name);
    fs::copy(&built, &program)
        .with_context(|| format!("{} cannot be written", program.display()))?;
    println!(
        "{}: {}. It runs on computers like this one: `trimtab serve`, in a classroom `trimtab serve --lan`",
        program.display(),
        megabytes(fs::metadata(&program)?.len())
    );
    Ok(())
}
