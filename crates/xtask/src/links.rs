//! Golden links, and the fuzzing of what opens links.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::files::{read_json, write};
use crate::program::{Programs, trimtab};
use crate::{model, process};

/// A golden link and the arguments of `trimtab link make` that it comes from.
#[derive(Debug, Deserialize)]
struct Wanted {
    name: String,
    arguments: Vec<String>,
}

fn folder(root: &Path) -> PathBuf {
    root.join("tests/golden/links")
}

fn wanted(root: &Path) -> Result<Vec<Wanted>> {
    read_json(&folder(root).join("recipes.json"))
}

/// Makes the golden links that are missing. Those that are there stay: every link ever made has to open.
pub fn make(root: &Path) -> Result<()> {
    model::ensure_model(root, Programs::Fresh)?;
    for wanted in wanted(root)? {
        let path = folder(root).join(format!("{}.json", wanted.name));
        if path.exists() {
            continue;
        }
        let mut program = trimtab(root);
        program
            .args(["link", "make", "--json"])
            .args(&wanted.arguments);
        write(&path, &process::quiet_output(&mut program)?)?;
    }
    Ok(())
}

/// Opens mutated golden links for `seconds`; fails where that found something.
pub fn fuzz(root: &Path, seconds: u32, seed: u32) -> Result<()> {
    let findings = root.join("target/fuzz");
    fs::create_dir_all(&findings)
        .with_context(|| format!("{} cannot be made", findings.display()))?;
    let mut program = process::example(root, "fuzz_links");
    program
        .arg(seconds.to_string())
        .arg(seed.to_string())
        .arg(&findings);
    for wanted in wanted(root)? {
        program.arg(folder(root).join(format!("{}.json", wanted.name)));
    }
    process::run(&mut program)
}
