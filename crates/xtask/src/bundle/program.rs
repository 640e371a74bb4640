//! `dist/trimtab`: the program with page and model inside.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{add_twins, megabytes, site};
use crate::process;

/// From the built page: `dist/program-page` is what goes in, compressed twins included.
pub fn make(root: &Path) -> Result<()> {
    let inside = root.join("dist/program-page");
    site::fill(&site::Contents {
        site: inside.clone(),
        ..site::Contents::published(root)
    })?;
    add_twins(&inside)?;
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
