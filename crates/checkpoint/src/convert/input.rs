//! The files that a conversion reads, wherever they are kept.

use super::ConvertError;
use crate::published_file::plain_text;
use crate::source::{ByteSource, SourceError};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::rc::Rc;

/// Longest file that is read whole, in bytes.
const MAX_WHOLE_BYTES: u64 = 64 << 20;

/// A model's files side by side: a folder on disk, or what somebody chose in a browser.
pub trait Folder {
    /// Names of its files, in no order.
    fn names(&self) -> Vec<String>;
    /// Opens the file of that name.
    fn open(&self, name: &str) -> Result<Rc<dyn ByteSource>, SourceError>;
    /// How sentences call the folder.
    fn path(&self) -> PathBuf;
}

impl dyn Folder + '_ {
    pub fn has(&self, name: &str) -> bool {
        self.names().iter().any(|own| own == name)
    }

    /// An error about the file of that name.
    pub fn unreadable(&self, name: &str, reason: impl Into<String>) -> ConvertError {
        ConvertError::Read {
            path: self.path().join(name),
            reason: reason.into(),
        }
    }

    /// A small file as it is.
    ///
    /// # Errors
    /// A file that is missing, too long, or does not answer.
    pub async fn whole(&self, name: &str) -> Result<Vec<u8>, ConvertError> {
        let source = self.open(name)?;
        let length = source.length();
        if length > MAX_WHOLE_BYTES {
            let reason = format!("is {length} bytes long, more than 64 MiB");
            return Err(self.unreadable(name, reason));
        }
        Ok(source.read(0, length as usize).await?)
    }

    /// A text file as UTF-8 without a byte order mark.
    ///
    /// # Errors
    /// As [`Self::whole`], and the pointer of a large-file store in the file's place.
    pub async fn text(&self, name: &str) -> Result<Vec<u8>, ConvertError> {
        let bytes = self.whole(name).await?;
        let text = plain_text(&bytes);
        let text = text.map_err(|pointer| self.unreadable(name, pointer.to_string()))?;
        Ok(text.into_owned())
    }

    /// A JSON file.
    ///
    /// # Errors
    /// As [`Self::text`], and JSON of another form.
    pub async fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConvertError> {
        let text = self.text(name).await?;
        serde_json::from_slice(&text).map_err(|error| self.unreadable(name, error.to_string()))
    }
}
