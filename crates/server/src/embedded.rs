//! Files that are part of the program, as [`ServeDir`](tower_http::services::ServeDir) reads them.

use std::future::{Ready, ready};
use std::io::{self, Cursor, ErrorKind, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use tokio::io::{AsyncRead, AsyncSeek, ReadBuf};
use tower_http::services::fs::{Backend, File, Metadata};

/// One file of the program.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedFile {
    pub bytes: &'static [u8],
    pub modified: SystemTime,
}

/// Finds a file by its path below the page's folder, with `/` between names.
#[derive(Clone, Copy, Debug)]
pub struct Embedded(pub fn(&str) -> Option<EmbeddedFile>);

/// The page that this program was built with.
#[cfg(feature = "page")]
pub fn page() -> Option<Embedded> {
    use rust_embed::Embed;
    use std::borrow::Cow;
    use std::time::Duration;

    #[derive(Embed)]
    #[folder = "../../dist/program-page"]
    struct Page;

    Some(Embedded(|path| {
        let file = Page::get(path)?;
        // Owned only where the page is read from disk, in builds without optimisation.
        let bytes = match file.data {
            Cow::Borrowed(bytes) => bytes,
            Cow::Owned(bytes) => bytes.leak(),
        };
        let seconds = file.metadata.last_modified().unwrap_or_default();
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        Some(EmbeddedFile { bytes, modified })
    }))
}

/// The page that this program was built with: none, `cargo xtask bundle --program` builds one that has it.
#[cfg(not(feature = "page"))]
pub fn page() -> Option<Embedded> {
    None
}

impl Embedded {
    /// A whole file.
    pub fn read(self, path: &str) -> Option<&'static [u8]> {
        (self.0)(path).map(|file| file.bytes)
    }

    fn find(self, path: &Path) -> io::Result<EmbeddedFile> {
        (self.0)(&Self::name(path)?).ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// Path with `/` between names; empty for the page's folder itself.
    fn name(path: &Path) -> io::Result<String> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name.to_str().ok_or(ErrorKind::NotFound)?),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(ErrorKind::NotFound.into());
                }
            }
        }
        Ok(names.join("/"))
    }
}

impl Backend for Embedded {
    type File = Reader;
    type Metadata = Facts;
    type OpenFuture = Ready<io::Result<Reader>>;
    type MetadataFuture = Ready<io::Result<Facts>>;

    fn open(&self, path: PathBuf) -> Self::OpenFuture {
        ready(self.find(&path).map(|file| Reader {
            cursor: Cursor::new(file.bytes),
            facts: Facts::of(file),
        }))
    }

    fn metadata(&self, path: PathBuf) -> Self::MetadataFuture {
        // The page's own folder is the only one that is asked for by itself.
        match Self::name(&path) {
            Ok(name) if name.is_empty() => ready(Ok(Facts::Folder)),
            _ => ready(self.find(&path).map(Facts::of)),
        }
    }
}

/// Properties of the file that are known without reading it.
#[derive(Clone, Copy, Debug)]
pub enum Facts {
    Folder,
    File { bytes: u64, modified: SystemTime },
}

impl Facts {
    fn of(file: EmbeddedFile) -> Self {
        Self::File {
            bytes: file.bytes.len() as u64,
            modified: file.modified,
        }
    }
}

impl Metadata for Facts {
    fn is_dir(&self) -> bool {
        matches!(self, Self::Folder)
    }

    fn modified(&self) -> io::Result<SystemTime> {
        match self {
            Self::Folder => Err(ErrorKind::Unsupported.into()),
            Self::File { modified, .. } => Ok(*modified),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Self::Folder => 0,
            Self::File { bytes, .. } => *bytes,
        }
    }
}

/// A file being sent.
#[derive(Debug)]
pub struct Reader {
    cursor: Cursor<&'static [u8]>,
    facts: Facts,
}

impl File for Reader {
    type Metadata = Facts;
    type MetadataFuture<'a> = Ready<io::Result<Facts>>;

    fn metadata(&self) -> Self::MetadataFuture<'_> {
        ready(Ok(self.facts))
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.cursor).poll_read(context, buffer)
    }
}

impl AsyncSeek for Reader {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.cursor).start_seek(position)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.cursor).poll_complete(context)
    }
}
