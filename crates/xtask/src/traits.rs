//! Ready-made traits: contrast sets, vectors and reports of the trait packs, for the default model.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use safetensors::SafeTensors;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::catalogue::{Catalogue, FIRST};
use crate::files::{hexadecimal, names as names_in, read};
use crate::program::{self, Programs};
use crate::{model, process};

/// Where a vector is held against controls that no sweep found a layer and range for: the middle of those that a sweep tries.
const UNRECOMMENDED_LAYER: &str = "17";
const UNRECOMMENDED_DOSE: &str = "0.2";
const KEPT: &str = "target/traits";

/// Makes the named traits, or all of `models/traits`, each in four steps: extract, sweep, controls, predict. What is there is
/// used: a contrast set, and the answers of a step that was stopped. A vector whose tensor changes stays beside the new one
/// under its hash, because links name it.
pub fn make(root: &Path, names: &[String]) -> Result<()> {
    model::ensure_model(root, Programs::Fresh)?;
    let all = self::names(root)?;
    if let Some(unknown) = names.iter().find(|name| !all.contains(name)) {
        bail!(
            "there is no trait {unknown:?}; there are {}",
            all.join(", ")
        );
    }
    let kept = root.join(KEPT);
    fs::create_dir_all(&kept).with_context(|| kept.display().to_string())?;
    for name in if names.is_empty() { &all } else { names } {
        let files = Files::of(root, name);
        let before = copy_under_hash(&files.vector)?;
        extract(root, &files)?;
        for verb in ["sweep", "controls", "predict"] {
            study(root, &files, verb)?;
        }
        if let Some(copy) =
            before.filter(|copy| hashed(&files.vector).is_ok_and(|now| now == *copy))
        {
            fs::remove_file(&copy).with_context(|| copy.display().to_string())?;
        }
        Catalogue::list_ready_made(root)?;
    }
    Ok(())
}

/// Names of all trait packs.
pub fn names(root: &Path) -> Result<Vec<String>> {
    let mut all = names_in(&root.join("models/traits"), ".json")?;
    all.retain(|name| name != "schema");
    Ok(all)
}

/// Of one trait.
struct Files {
    name: String,
    pack: PathBuf,
    vector: PathBuf,
    report: PathBuf,
}

impl Files {
    fn of(root: &Path, name: &str) -> Self {
        let made = root.join("models/vectors");
        Self {
            name: name.to_owned(),
            pack: root.join(format!("models/traits/{name}.json")),
            vector: made.join(format!("{name}.safetensors")),
            report: made.join(format!("{name}.report.json")),
        }
    }
}

/// *Exact*: what comes out does not depend on how an executor rounds activations.
fn trimtab(root: &Path, verb: &str, files: &Files) -> Command {
    let mut program = program::trimtab(root);
    program.args([verb, "--precision", "exact", "--trait"]);
    program.arg(&files.pack).arg("--report").arg(&files.report);
    program
}

fn extract(root: &Path, files: &Files) -> Result<()> {
    let mut extract = trimtab(root, "extract", files);
    extract.arg("--out").arg(&files.vector);
    extract.args(["--neutral", "models/vectors/neutral.json"]);
    // More responses, and one instruction pair instead of two to try them on.
    if FIRST.contains(&files.name.as_str()) {
        extract.args(["--instruction-pairs", "4"]);
    }
    process::run(&mut extract)
}

fn study(root: &Path, files: &Files, verb: &str) -> Result<()> {
    let mut study = trimtab(root, verb, files);
    study.arg("--vector").arg(&files.vector);
    let (recommends, _) = read_vector(&files.vector)?;
    study.arg("--keep").arg(records(root, &files.name, verb)?);
    let layer = ["--layer", UNRECOMMENDED_LAYER];
    match (verb, recommends) {
        ("sweep", _) | ("controls", true) => study.arg("--store"),
        ("controls", false) => study.args(layer).args(["--dose", UNRECOMMENDED_DOSE]),
        (_, false) => study.args(layer),
        _ => &mut study,
    };
    process::run(&mut study)
}

/// The answers that a study of trait `name` keeps; those to another vector lie in another file.
pub fn records(root: &Path, name: &str, verb: &str) -> Result<PathBuf> {
    let (_, hash) = read_vector(&Files::of(root, name).vector)?;
    let kept = root.join(KEPT);
    Ok(kept.join(format!("{name}.{}.{verb}.json", &hash[..8])))
}

/// The estimator that a vector file with several is read by.
const DEFAULT_TENSOR: &str = "response_avg";

/// Whether the file recommends a layer and a range, and the hash that links name its default tensor by: sha256 of the numbers of
/// its rows and columns and its values, all in four bytes.
fn read_vector(path: &Path) -> Result<(bool, String)> {
    let bytes = read(path)?;
    let broken = || format!("{} is no vector file", path.display());
    let (_, header) = SafeTensors::read_metadata(&bytes).with_context(broken)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let recommended = metadata.get("recommended").filter(|json| {
        serde_json::from_str::<Value>(json).is_ok_and(|recommended| !recommended.is_null())
    });
    let file = SafeTensors::deserialize(&bytes).with_context(broken)?;
    let tensor = file.tensor(DEFAULT_TENSOR).with_context(broken)?;
    let mut hasher = Sha256::new();
    for &length in tensor.shape() {
        hasher.update(u32::try_from(length)?.to_le_bytes());
    }
    hasher.update(tensor.data());
    Ok((recommended.is_some(), hexadecimal(&hasher.finalize())))
}

/// Where a vector lies when another took its place.
fn hashed(vector: &Path) -> Result<PathBuf> {
    let (_, hash) = read_vector(vector)?;
    Ok(vector.with_file_name(format!("{hash}.safetensors")))
}

/// Copies the vector that is there, if one is: the next may be another, and a run that fails half-way must not lose it.
fn copy_under_hash(vector: &Path) -> Result<Option<PathBuf>> {
    if !vector.exists() {
        return Ok(None);
    }
    let copy = hashed(vector)?;
    fs::copy(vector, &copy).with_context(|| copy.display().to_string())?;
    Ok(Some(copy))
}
