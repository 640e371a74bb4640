//! `manifest.json`: what a model directory contains, where it came from and under which licence.

use crate::text::as_utf8;
use serde::{Deserialize, Serialize};

/// Longest manifest that is read, in bytes.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;
const MAX_FILES: usize = 64;
const MAX_TEXT: usize = 4096;
const MAX_NOTES: usize = 4096;
/// Largest file that a manifest may claim: 1 TiB.
const MAX_FILE_BYTES: u64 = 1 << 40;

pub const CONFIG: &str = "config.json";
pub const TOKENIZER: &str = "tokenizer.json";
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
pub const CHAT_TEMPLATE: &str = "chat_template.jinja";
pub const WEIGHTS: &str = "model.safetensors";
pub const MANIFEST: &str = "manifest.json";

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("manifest.json is {bytes} bytes long, more than {MAX_MANIFEST_BYTES}")]
    TooLong { bytes: usize },
    #[error("manifest.json is not valid: {0}")]
    Json(#[from] serde_json::Error),
    #[error("manifest.json is of format {0}, and this version reads format 1; get a newer version")]
    Format(u32),
    #[error("manifest.json: {0}")]
    Content(String),
}

/// The contents and the origin of a model directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    pub name: String,
    /// SPDX identifier, or the publisher's words where there is none.
    pub licence: String,
    /// The origin of the weights, in words and addresses.
    pub source: String,
    /// Of the one file that the weights were made of, where they were: a name that stays whatever they are stored as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
    /// Every file but the manifest itself.
    pub files: Vec<ManifestFile>,
    /// Remarks on what the conversion changed or could not keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// A plain file name; nothing lies in subdirectories.
    pub path: String,
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Over-long manifests and texts, other formats, files whose names could leave the directory or
    /// appear twice, and hashes that are none.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooLong { bytes: json.len() });
        }
        let manifest: Self = serde_json::from_slice(&as_utf8(json))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The entry of the weight file, whose sha256 names the model.
    pub fn weights(&self) -> Option<&ManifestFile> {
        self.files.iter().find(|file| file.path == WEIGHTS)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let fail = |reason: String| Err(ManifestError::Content(reason));
        if self.format != 1 {
            return Err(ManifestError::Format(self.format));
        }
        for (field, text) in [
            ("name", &self.name),
            ("licence", &self.licence),
            ("source", &self.source),
        ] {
            if text.len() > MAX_TEXT {
                return fail(format!(
                    "{field} is {} bytes long, more than {MAX_TEXT}",
                    text.len()
                ));
            }
        }
        if self.notes.len() > MAX_NOTES || self.notes.iter().any(|note| note.len() > MAX_TEXT) {
            return fail(format!(
                "more than {MAX_NOTES} notes, or one longer than {MAX_TEXT} bytes"
            ));
        }
        if self.files.len() > MAX_FILES {
            return fail(format!(
                "lists {} files, more than {MAX_FILES}",
                self.files.len()
            ));
        }
        if self
            .source_sha256
            .as_deref()
            .is_some_and(|hash| !is_sha256(hash))
        {
            return fail("source_sha256 is not 64 lower-case hexadecimal digits".into());
        }
        for (index, file) in self.files.iter().enumerate() {
            let shown: String = file.path.chars().take(80).collect();
            let plain = !file.path.is_empty()
                && file.path.len() <= 128
                && !file.path.starts_with('.')
                && file
                    .path
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
            if !plain {
                return fail(format!("{shown:?} is no plain file name"));
            }
            if self.files[..index]
                .iter()
                .any(|other| other.path == file.path)
            {
                return fail(format!("{shown} is listed twice"));
            }
            if file.bytes > MAX_FILE_BYTES {
                return fail(format!("{shown} claims {} bytes", file.bytes));
            }
            if !is_sha256(&file.sha256) {
                return fail(format!(
                    "{shown} has a sha256 that is not 64 lower-case hexadecimal digits"
                ));
            }
        }
        Ok(())
    }
}

fn is_sha256(text: &str) -> bool {
    let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    text.len() == 64 && text.bytes().all(hexadecimal)
}
