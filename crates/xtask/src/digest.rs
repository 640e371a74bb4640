//! Steps that cargo does not watch: done again only when their inputs' bytes changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::files::hexadecimal;

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
        let digest = hexadecimal(&hasher.finalize());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_current_until_an_input_or_the_step_changes() {
        let folder = std::env::temp_dir().join(format!("trimtab-stamp-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (stamp, input) = (folder.join("stamp"), folder.join("input"));
        let now = |version: &str| Stamp::new(stamp.clone(), version, &[&input]).unwrap();

        fs::write(&input, "one").unwrap();
        assert!(!now("1").current());
        now("1").write().unwrap();
        assert!(now("1").current());
        assert!(!now("2").current());
        fs::write(&input, "two").unwrap();
        assert!(!now("1").current());
        fs::remove_dir_all(&folder).unwrap();
    }
}
