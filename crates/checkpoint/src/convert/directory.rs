//! Model directories on a disk.

use super::{Conversion, ConvertError, Folder, Options, Sink};
use crate::manifest::{self, Manifest, ManifestFile};
use crate::source::{ByteSource, FileSource, LocalFuture, SourceError};
use pollster::block_on;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The bytes of the weight file that are written, and all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// A folder on the disk.
#[derive(Debug)]
struct DiskFolder<'a> {
    path: &'a Path,
    names: Vec<String>,
}

impl<'a> DiskFolder<'a> {
    fn read(path: &'a Path) -> Result<Self, ConvertError> {
        // A file named without its folder lies in this one.
        let here = path.as_os_str().is_empty().then_some(Path::new("."));
        let unreadable = |error: std::io::Error| ConvertError::Read {
            path: path.into(),
            reason: error.to_string(),
        };
        let entries = fs::read_dir(here.unwrap_or(path)).map_err(unreadable)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        Ok(Self {
            path,
            names: names.collect::<Result<_, _>>().map_err(unreadable)?,
        })
    }
}

impl Folder for DiskFolder<'_> {
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn open(&self, name: &str) -> Result<Rc<dyn ByteSource>, SourceError> {
        Ok(Rc::new(FileSource::open(&self.path.join(name))?))
    }

    fn path(&self) -> PathBuf {
        self.path.into()
    }
}

/// A file that is written.
struct DiskSink<'a> {
    path: &'a Path,
    file: BufWriter<File>,
    done: u64,
    told: &'a mut dyn FnMut(u64),
}

impl Sink for DiskSink<'_> {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalFuture<'a, Result<(), ConvertError>> {
        let written = self.file.write_all(bytes);
        self.done += bytes.len() as u64;
        (self.told)(self.done);
        let path = self.path;
        Box::pin(std::future::ready(
            written.map_err(|error| write_error(path, &error)),
        ))
    }
}

fn write_error(path: &Path, error: &std::io::Error) -> ConvertError {
    ConvertError::Write {
        path: path.into(),
        reason: error.to_string(),
    }
}

/// Converts `input` (a `.gguf` file or a Hugging Face directory) to the model directory `output`,
/// which must not exist, or be empty. Everything is written beside it first and moved there at
/// the end, so that an interrupted conversion leaves no half-made directory.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, ConvertError> {
    if fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ConvertError::Write {
            path: output.into(),
            reason: "it exists and is not empty".into(),
        });
    }
    let name = output.file_name().ok_or_else(|| ConvertError::Write {
        path: output.into(),
        reason: "it has no name".into(),
    })?;
    let parent = output
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|error| write_error(parent, &error))?;
    let staging = parent.join(format!(".{}.partial", name.to_string_lossy()));
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(|error| write_error(&staging, &error))?;
    }
    fs::create_dir(&staging).map_err(|error| write_error(&staging, &error))?;
    let result = convert_into(input, &staging, options, progress).and_then(|manifest| {
        if output.exists() {
            fs::remove_dir(output).map_err(|error| write_error(output, &error))?;
        }
        fs::rename(&staging, output).map_err(|error| write_error(output, &error))?;
        Ok(manifest)
    });
    if result.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_dir_all(&staging);
    }
    result
}

fn convert_into(
    input: &Path,
    directory: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, ConvertError> {
    let gguf = input.file_name().filter(|_| !input.is_dir());
    let gguf = gguf.map(|name| name.to_string_lossy().into_owned());
    let folder = match &gguf {
        None => input,
        Some(_) => input.parent().unwrap_or(Path::new("")),
    };
    // Files answer at once, so the first poll is the last.
    let folder = DiskFolder::read(folder)?;
    let prepared = Conversion::prepare(&folder, gguf.as_deref(), options.quantisation);
    let conversion = block_on(prepared)?;
    let mut names = Vec::new();
    for (name, bytes) in &conversion.files {
        write_file(directory, name, bytes)?;
        names.push(*name);
    }
    let path = directory.join(manifest::WEIGHTS);
    let file = File::create(&path).map_err(|error| write_error(&path, &error))?;
    let bytes_total = conversion.weight_bytes();
    let mut sink = DiskSink {
        path: &path,
        file: BufWriter::with_capacity(1 << 20, file),
        done: 0,
        told: &mut |bytes_done| {
            progress(Progress {
                bytes_done,
                bytes_total,
            });
        },
    };
    block_on(conversion.write_weights(0, &mut sink))?;
    let file = sink.file.into_inner();
    file.map_err(|error| write_error(&path, error.error()))?
        .sync_all()
        .map_err(|error| write_error(&path, &error))?;
    names.push(manifest::WEIGHTS);
    let mut files = Vec::new();
    for name in names {
        let path = directory.join(name);
        let (bytes, sha256) = hash_input(&path)?;
        files.push(ManifestFile {
            path: name.into(),
            bytes,
            sha256,
        });
    }
    let options = match (&options.source_sha256, gguf) {
        (None, Some(_)) => &Options {
            source_sha256: Some(hash_input(input)?.1),
            ..options.clone()
        },
        _ => options,
    };
    let json = conversion.manifest(files, options)?;
    write_file(directory, manifest::MANIFEST, &json)?;
    Ok(Manifest::from_json(&json)?)
}

fn hash_input(path: &Path) -> Result<(u64, String), ConvertError> {
    hash_file(path).map_err(|error| ConvertError::Read {
        path: path.into(),
        reason: error.to_string(),
    })
}

/// Length and lower-case hexadecimal sha256 of a file, read in pieces.
pub fn hash_file(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut length = 0;
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
        length += count as u64;
    }
    Ok((
        length,
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    ))
}

fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
    let path = directory.join(name);
    fs::write(&path, bytes).map_err(|error| write_error(&path, &error))
}
