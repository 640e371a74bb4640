//! The recorded run that the page plays before a model is there: made here, by the program, from the real model.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::Stamp;
use crate::files::files_below;
use crate::process;
use crate::program::Programs;

/// The trait that is shown, and so the vector that the recording is made with.
const TRAIT: &str = "cheerful";

/// Makes `web/public/generated/recording.json` unless it was made from this model and this vector by this engine.
pub fn ensure(root: &Path, programs: Programs) -> Result<()> {
    let stamp = stamp(root)?;
    if stamp.current() && recording(root).is_file() {
        return Ok(());
    }
    make(root, programs)
}

/// Makes the recording again, whatever is there.
pub fn make(root: &Path, programs: Programs) -> Result<()> {
    let out = recording(root);
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let mut program = programs.trimtab(root);
    program
        .args(["record", "--backend", "cpu", "--trait", TRAIT, "--out"])
        .arg(&out);
    process::run(&mut program)?;
    stamp(root)?.write()
}

fn recording(root: &Path) -> PathBuf {
    root.join("web/public/generated/recording.json")
}

fn stamp(root: &Path) -> Result<Stamp> {
    let mut inputs = vec![
        root.join("crates/cli/src/record.rs"),
        root.join("models/smollm2-135m-instruct/manifest.json"),
        root.join(format!("models/vectors/{TRAIT}.safetensors")),
    ];
    // What computes: another engine may answer otherwise.
    for package in ["checkpoint", "engine", "persona", "studio"] {
        let sources = root.join("crates").join(package).join("src");
        let files = files_below(&sources)?.into_iter();
        inputs.extend(files.map(|file| sources.join(file)));
    }
    let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
    Stamp::new(root.join("target/recording-inputs"), TRAIT, &inputs)
}
