//! Random access to the bytes of a file, wherever it is kept.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

/// A future that need not be `Send`: in a browser, byte sources hold JavaScript objects.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(
        "{name}: asked for bytes {offset}..{end}, but it is {length} bytes long; the file is probably cut short, so fetch it again"
    )]
    OutOfBounds {
        name: String,
        offset: u64,
        end: u64,
        length: u64,
    },
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

impl ByteSource for Rc<dyn ByteSource> {
    fn length(&self) -> u64 {
        self.as_ref().length()
    }

    fn read(&self, offset: u64, length: usize) -> LocalFuture<'_, Result<Vec<u8>, SourceError>> {
        self.as_ref().read(offset, length)
    }
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

/// A file on disk, read in place. Native only.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug)]
pub struct FileSource {
    file: std::fs::File,
    name: String,
    length: u64,
}

#[cfg(not(target_arch = "wasm32"))]
impl FileSource {
    /// Opens `path` for reading; its length is taken once, here.
    pub fn open(path: &std::path::Path) -> Result<Self, SourceError> {
        let name = path.display().to_string();
        let unreadable = |error: std::io::Error| SourceError::Unreadable {
            name: name.clone(),
            reason: error.to_string(),
        };
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(SourceError::Unreadable {
                name,
                reason: "is not a file".into(),
            });
        }
        Ok(Self {
            file,
            name,
            length: metadata.len(),
        })
    }

    fn read_now(&self, offset: u64, length: usize) -> Result<Vec<u8>, SourceError> {
        let end = offset.saturating_add(length as u64);
        if end > self.length {
            return Err(SourceError::OutOfBounds {
                name: self.name.clone(),
                offset,
                end,
                length: self.length,
            });
        }
        let mut bytes = vec![0; length];
        read_exact_at(&self.file, &mut bytes, offset).map_err(|error| SourceError::Unreadable {
            name: self.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(bytes)
    }
}

#[cfg(all(not(target_arch = "wasm32"), unix))]
fn read_exact_at(file: &std::fs::File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(all(not(target_arch = "wasm32"), windows))]
fn read_exact_at(
    file: &std::fs::File,
    mut bytes: &mut [u8],
    mut offset: u64,
) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(not(target_arch = "wasm32"))]
impl ByteSource for FileSource {
    fn length(&self) -> u64 {
        self.length
    }

    fn read(&self, offset: u64, length: usize) -> LocalFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(std::future::ready(self.read_now(offset, length)))
    }
}
