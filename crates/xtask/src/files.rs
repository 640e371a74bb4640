//! Files and folders: reading, writing, listing, hashing.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A file as manifests and the catalogue list it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ListedFile {
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
    /// The files that it lies in, one after the other, where it is too large for a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<Vec<Part>>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    pub path: String,
    pub bytes: usize,
}

impl ListedFile {
    /// The file at `folder/path` as it is now.
    pub fn measure(folder: &Path, path: &str) -> Result<Self> {
        let (bytes, sha256) = hash_file(&folder.join(path))?;
        Ok(Self {
            path: path.to_owned(),
            bytes,
            sha256,
            parts: None,
        })
    }
}

/// Length in bytes and sha256, in lower-case hexadecimal.
pub fn hash_file(path: &Path) -> Result<(u64, String)> {
    let mut file =
        File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = io::Read::read(&mut file, &mut piece)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        if count == 0 {
            return Ok((bytes, hexadecimal(&hasher.finalize())));
        }
        hasher.update(&piece[..count]);
        bytes += count as u64;
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

/// Removes `folder` with everything in it, if it is there.
pub fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{} cannot be removed", folder.display()))?;
    }
    Ok(())
}

/// Names in `folder` that end in `ending`, sorted, without it.
pub fn names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(name)
        .filter_map(|name| Some(name.strip_suffix(ending)?.to_owned()))
        .collect();
    names.sort();
    Ok(names)
}

/// The value of a JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_slice(&read(path)?).with_context(|| format!("{} is broken", path.display()))
}

/// All files below `folder`, as paths with `/` between names, sorted.
pub fn files_below(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(below) = folders.pop() {
        let here = folder.join(&below);
        let entries =
            fs::read_dir(&here).with_context(|| format!("{} cannot be read", here.display()))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().with_context(|| {
                format!("{} has a name that is no text", entry.path().display())
            })?;
            let path = if below.is_empty() {
                name.to_owned()
            } else {
                format!("{below}/{name}")
            };
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
