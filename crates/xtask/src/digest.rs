//! Steps that cargo does not watch: done again only when their inputs' bytes changed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// The inputs of one finished step, kept as a hash beside its output.
#[derive(Debug)]
pub struct Stamp {
    path: PathBuf,
    digest: String,
}

impl Stamp {
    /// `version` changes when the step itself does.
    pub fn new(path: PathBuf, version: &str, inputs: &[&Path]) -> Result<Self> {
        let mut hasher = Sha256::new();
        hasher.update(version);
        for input in inputs {
            let bytes =
                fs::read(input).with_context(|| format!("{} cannot be read", input.display()))?;
            hasher.update(bytes.len().to_le_bytes());
            hasher.update(bytes);
        }
        let mut digest = String::new();
        for byte in hasher.finalize() {
            write!(digest, "{byte:02x}")?;
        }
        Ok(Self { path, digest })
    }

    pub fn current(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|found| found == self.digest)
    }

    pub fn write(&self) -> Result<()> {
        fs::write(&self.path, &self.digest)
            .with_context(|| format!("{} cannot be written", self.path.display()))
    }
}
