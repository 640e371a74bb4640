//! Files that the program reads and writes.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use trimtab_checkpoint::text::as_utf8;

/// Largest JSON file read.
pub const MAX_JSON_BYTES: u64 = 64 << 20;

/// `relative` below the current directory or one above it, or above the program's own file.
pub fn find_up(relative: &str) -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|directory| directory.join(relative))
        .find(|path| path.exists())
}

/// A whole file of at most `limit` bytes.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let named = || path.display().to_string();
    let length = std::fs::metadata(path).with_context(named)?.len();
    if length > limit {
        bail!(
            "{} is {length} bytes long, more than the {limit} that are read",
            path.display()
        );
    }
    std::fs::read(path).with_context(named)
}

/// A JSON file of at most 64 MiB.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&as_utf8(&bytes))
        .with_context(|| format!("{} is not the JSON that is expected here", path.display()))
}

/// Writes beside the file first, so that a run that is stopped leaves the old one whole.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, path).with_context(|| path.display().to_string())
}
