//! Models made of GGUF files that were named with `--model`: converted once, kept under the file's sha256.

use crate::files::{MAX_JSON_BYTES, read_bounded, write};
use crate::progress;
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use trimtab_checkpoint::convert::Options;
use trimtab_checkpoint::convert::directory::{convert, hash_file};
use trimtab_checkpoint::manifest::{MANIFEST, MAX_MANIFEST_BYTES, Manifest};

/// Files whose sha256 is known, so that a start need not read them through.
const KNOWN: &str = "known.json";

/// A file as it was when its sha256 was taken.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u128,
    sha256: String,
}

#[derive(Debug, Args)]
pub struct Arguments {
    /// Remove the model that begins so, of the first column; `all` removes everything
    #[arg(long, value_name = "SHA256")]
    drop: Option<String>,
}

/// `trimtab cache`: what is kept, and dropping it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = folder()?;
    let mut kept: Vec<PathBuf> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<_>>()?,
        Err(_) => Vec::new(),
    };
    kept.retain(|path| path.is_dir());
    kept.sort();
    let name = |path: &Path| -> String {
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    let Some(drop) = &arguments.drop else {
        println!("{}: {}", folder.display(), size(bytes_below(&folder)));
        for path in &kept {
            let what = manifest(path).map_or_else(|_| "unfinished".into(), |one| one.name);
            println!("{:.12}  {:>9}  {what}", name(path), size(bytes_below(path)));
        }
        return Ok(());
    };
    let chosen = |path: &PathBuf| {
        drop == "all" || (!drop.is_empty() && name(path).starts_with(drop.as_str()))
    };
    let dropped: Vec<_> = kept.into_iter().filter(chosen).collect();
    if dropped.is_empty() && drop != "all" {
        bail!("nothing in {} begins with {drop:?}", folder.display());
    }
    for path in &dropped {
        let freed = size(bytes_below(path));
        std::fs::remove_dir_all(path).with_context(|| path.display().to_string())?;
        println!("dropped {}, {freed}", name(path));
    }
    Ok(())
}

/// The model directory of a GGUF file: the kept one, or a new one.
pub fn directory_of(file: &Path) -> Result<PathBuf> {
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let sha256 = sha256_of(file, &folder)?;
    let directory = folder.join(&sha256);
    if directory.join(MANIFEST).is_file() {
        return Ok(directory);
    }
    // Another run may be making the same: each has a folder of its own, and the first to be ready stays.
    let own = folder.join(format!("{sha256}.{}", std::process::id()));
    let options = Options {
        source_sha256: Some(sha256),
        ..Options::default()
    };
    convert(file, &own, &options, &mut progress::converting)?;
    progress::finish();
    if std::fs::rename(&own, &directory).is_err() {
        std::fs::remove_dir_all(&own).with_context(|| own.display().to_string())?;
    }
    for note in manifest(&directory)?.notes {
        progress::warn(&note);
    }
    progress::warn(&format!(
        "{} is kept converted in {}, {}; `trimtab cache` lists and drops such models",
        file.display(),
        directory.display(),
        size(bytes_below(&directory))
    ));
    Ok(directory)
}

fn manifest(directory: &Path) -> Result<Manifest> {
    let bytes = read_bounded(&directory.join(MANIFEST), MAX_MANIFEST_BYTES as u64)?;
    Ok(Manifest::from_json(&bytes)?)
}

/// `$TRIMTAB_CACHE`, or the folder that this system has for such things.
fn folder() -> Result<PathBuf> {
    let variable = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value.map(PathBuf::from)
    };
    let home = || variable("HOME");
    let of_system = match std::env::consts::OS {
        "windows" => variable("LOCALAPPDATA"),
        "macos" => home().map(|home| home.join("Library/Caches")),
        _ => variable("XDG_CACHE_HOME").or_else(|| home().map(|home| home.join(".cache"))),
    };
    variable("TRIMTAB_CACHE")
        .or_else(|| Some(of_system?.join("trimtab")))
        .context("there is no folder for converted models; name one in the variable TRIMTAB_CACHE")
}

fn sha256_of(file: &Path, folder: &Path) -> Result<String> {
    let named = || file.display().to_string();
    let path = file.canonicalize().with_context(named)?;
    let metadata = path.metadata().with_context(named)?;
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH);
    let modified = modified.map_or(0, |since| since.as_nanos());
    let list = folder.join(KNOWN);
    // A list that cannot be read is written anew.
    let known = read_bounded(&list, MAX_JSON_BYTES).ok();
    let known = known.and_then(|json| serde_json::from_slice(&json).ok());
    let mut known: BTreeMap<PathBuf, Known> = known.unwrap_or_default();
    if let Some(known) = known.get(&path)
        && (known.bytes, known.modified) == (metadata.len(), modified)
    {
        return Ok(known.sha256.clone());
    }
    progress::show("reading the file through once, for its sha256");
    let (bytes, sha256) = hash_file(&path).with_context(named)?;
    progress::finish();
    let entry = Known {
        bytes,
        modified,
        sha256: sha256.clone(),
    };
    known.retain(|path, _| path.exists());
    known.insert(path, entry);
    write(&list, &serde_json::to_vec_pretty(&known)?)?;
    Ok(sha256)
}

fn bytes_below(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else {
        return path.metadata().map_or(0, |metadata| metadata.len());
    };
    entries
        .flatten()
        .map(|entry| bytes_below(&entry.path()))
        .sum()
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
