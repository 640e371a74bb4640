//! Random access to the bytes of a file, wherever it is kept.

use std::future::Future;
use std::pin::Pin;

/// A future that need not be `Send`: in a browser, byte sources hold JavaScript objects.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("{name}: asked for bytes {offset}..{end}, but it is {length} bytes long; the file is probably cut short, so fetch it again")]
    OutOfBounds { name: String, offset: u64, end: u64, length: u64 },
    #[error("{name}: {reason}")]
    Unreadable { name: String, reason: String },
}

/// Something with a length from which byte ranges can be read: a file, a blob, a buffer.
pub trait ByteSource {
    /// Length in bytes.
    fn length(&self) -> u64;
    /// Reads exactly `length` bytes from `offset`, or fails.
    fn read(&self, offset: u64, length: usize) -> LocalFuture<'_, Result<Vec<u8>, SourceError>>;
}

/// Bytes already in memory: tests, and small files.
impl ByteSource for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, length: usize) -> LocalFuture<'_, Result<Vec<u8>, SourceError>> {
        let end = offset.saturating_add(length as u64);
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(length)?))
            .map(<[u8]>::to_vec)
            .ok_or_else(|| SourceError::OutOfBounds {
                name: "bytes in memory".into(),
                offset,
                end,
                length: self.len() as u64,
            });
        Box::pin(std::future::ready(bytes))
    }
}
