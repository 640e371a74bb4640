//! Golden links.

use std::path::{Path, PathBuf};

use anyhow::Result;
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

/// Paths of the golden links.
pub fn golden_files(root: &Path) -> Result<Vec<PathBuf>> {
    let files = wanted(root)?.into_iter();
    let path = |wanted: Wanted| folder(root).join(format!("{}.json", wanted.name));
    Ok(files.map(path).collect())
}
