//! Making model directories: from a GGUF file, or from a Hugging Face
//! safetensors directory. Native only.

mod gguf;
mod gguf_blocks;
mod gguf_header;
mod pre_tokenizers;
pub mod quantise;
mod safetensors_directory;
mod tokenizer_json;
pub mod torch_tensor;
mod vocabulary;
mod weight_files;
mod writer;

use crate::config::{ConfigError, ModelConfig};
use crate::error::WeightError;
use crate::family::Family;
use crate::manifest::{self, Manifest, ManifestError, ManifestFile};
use crate::source::SourceError;
use gguf::GgufFile;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use tokenizer_json::VocabularyError;
use vocabulary::Vocabulary;
use writer::{OutputTensor, write_weights};

/// Why a model could not be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("{path}: {reason}", path = path.display())]
    Read { path: PathBuf, reason: String },
    #[error("{path} cannot be converted: {reason}", path = path.display())]
    Unsupported { path: PathBuf, reason: String },
    #[error("tensor {tensor}: {reason}")]
    Tensor { tensor: String, reason: String },
    #[error("{path} could not be written: {reason}", path = path.display())]
    Write { path: PathBuf, reason: String },
    #[error("the converted model is not usable: {0}")]
    Output(String),
    #[error(transparent)]
    Vocabulary(VocabularyError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// The form that weights of a safetensors directory are quantised to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantisation {
    /// `Q4_1`; the embedding and the output head `Q8_0`, which need the precision most.
    Q4,
    /// `Q8_0`.
    Q8,
}

/// The choices of a conversion.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The form of the weights, for safetensors input only; without it, weights are kept as they are.
    pub quantisation: Option<Quantisation>,
    /// The model's name in the manifest; without it, the one that the input states, or its file's name.
    pub name: Option<String>,
    pub licence: Option<String>,
    pub source: Option<String>,
    /// Of a GGUF file, where it is known; else the file is read through once more for it.
    pub source_sha256: Option<String>,
}

/// The bytes of the weight file that are written, and all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub bytes_done: u64,
    pub bytes_total: u64,
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
    let write_error = |path: &Path, error: std::io::Error| ConvertError::Write {
        path: path.into(),
        reason: error.to_string(),
    };
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
    fs::create_dir_all(parent).map_err(|error| write_error(parent, error))?;
    let staging = parent.join(format!(".{}.partial", name.to_string_lossy()));
    if staging.exists() {
        fs::remove_dir_all(&staging).map_err(|error| write_error(&staging, error))?;
    }
    fs::create_dir(&staging).map_err(|error| write_error(&staging, error))?;
    let result = convert_into(input, &staging, options, progress).and_then(|manifest| {
        if output.exists() {
            fs::remove_dir(output).map_err(|error| write_error(output, error))?;
        }
        fs::rename(&staging, output).map_err(|error| write_error(output, error))?;
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
    let described = if input.is_dir() {
        safetensors_directory::convert(input, directory, options, progress)?
    } else if options.quantisation.is_some() {
        return Err(ConvertError::Unsupported {
            path: input.into(),
            reason: "weights of a GGUF file are kept as they are; only a safetensors directory can be quantised".into(),
        });
    } else {
        convert_gguf(input, directory, options, progress)?
    };
    finish(directory, described, options)
}

/// The part of the manifest that is known from the input.
#[derive(Debug, Default)]
struct Described {
    name: String,
    licence: Option<String>,
    source: String,
    source_sha256: Option<String>,
    notes: Vec<String>,
}

fn convert_gguf(
    input: &Path,
    directory: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Described, ConvertError> {
    let gguf = GgufFile::open(input)?;
    let Some(architecture) = gguf.text("general.architecture")? else {
        return Err(gguf.unsupported("it does not name its architecture".into()));
    };
    let family =
        Family::named(architecture).map_err(|error| gguf.unsupported(error.to_string()))?;
    let config_json = pretty(&gguf.config(family)?)?;
    let config = ModelConfig::from_json(&config_json)?;
    write_file(directory, manifest::CONFIG, &config_json)?;

    let beside = input.with_file_name(manifest::TOKENIZER);
    let mut notes = Vec::new();
    let tokenizer = if beside.is_file() {
        notes.push("tokenizer.json was taken from beside the GGUF file".into());
        fs::read(&beside).map_err(|error| ConvertError::Read {
            path: beside,
            reason: error.to_string(),
        })?
    } else {
        tokenizer_json::tokenizer_json(&Vocabulary::of(&gguf)?, architecture, &mut notes).map_err(
            |error| match error {
                ConvertError::Vocabulary(reason) => gguf.unsupported(reason.to_string()),
                other => other,
            },
        )?
    };
    write_file(directory, manifest::TOKENIZER, &tokenizer)?;
    let tokenizer_config = BTreeMap::from([
        ("bos_token", gguf.token_text("bos")?),
        ("eos_token", gguf.token_text("eos")?),
    ]);
    write_file(
        directory,
        manifest::TOKENIZER_CONFIG,
        &pretty(&tokenizer_config)?,
    )?;
    match gguf.text("tokenizer.chat_template")? {
        Some(template) => write_file(directory, manifest::CHAT_TEMPLATE, template.as_bytes())?,
        None => notes.push("the GGUF file has no chat template".into()),
    }

    let expected = family.weights(&config);
    if let Some(unknown) = gguf
        .tensor_names()
        .find(|name| expected.iter().all(|tensor| tensor.gguf != **name))
    {
        return Err(ConvertError::Tensor {
            tensor: unknown.into(),
            reason: format!(
                "belongs to no model of type {}; this file has parts that would be lost",
                family.model_type
            ),
        });
    }
    let mut outputs = Vec::with_capacity(expected.len());
    let mut sources = BTreeMap::new();
    let mut changed: BTreeMap<String, usize> = BTreeMap::new();
    for tensor in &expected {
        let (stored, encoding) = gguf.stored(tensor)?;
        if !stored.keeps_integers() {
            *changed
                .entry(format!("{} to {encoding:?}", stored.name))
                .or_default() += 1;
        }
        outputs.push(OutputTensor {
            name: tensor.name.clone(),
            encoding,
            rows: tensor.rows,
            cols: tensor.cols,
            vector: tensor.vector,
        });
        sources.insert(tensor.name.as_str(), tensor);
    }
    notes.extend(changed.iter().map(|(change, count)| {
        format!("{count} tensors were dequantised and stored again: {change}")
    }));
    let bytes_total = outputs.iter().map(OutputTensor::bytes).sum();
    write_weights(
        &directory.join(manifest::WEIGHTS),
        &outputs,
        |output| {
            let tensor = sources[output.name.as_str()];
            gguf.read(tensor, family.gguf_interleaved_heads(tensor.role, &config))
        },
        |bytes_done| {
            progress(Progress {
                bytes_done,
                bytes_total,
            })
        },
    )?;
    let source_sha256 = match &options.source_sha256 {
        Some(known) => known.clone(),
        None => hash_input(input)?.1,
    };
    Ok(Described {
        source_sha256: Some(source_sha256),
        name: gguf.text("general.name")?.unwrap_or("unnamed").into(),
        licence: gguf.text("general.license")?.map(Into::into),
        source: file_name(input),
        notes,
    })
}

/// Hashes what was written and describes it.
fn finish(
    directory: &Path,
    described: Described,
    options: &Options,
) -> Result<Manifest, ConvertError> {
    let mut files = Vec::new();
    for path in [
        manifest::CONFIG,
        manifest::TOKENIZER,
        manifest::TOKENIZER_CONFIG,
        manifest::CHAT_TEMPLATE,
        manifest::WEIGHTS,
    ] {
        let full = directory.join(path);
        if full.is_file() {
            let (bytes, sha256) = hash_input(&full)?;
            files.push(ManifestFile {
                path: path.into(),
                bytes,
                sha256,
            });
        }
    }
    let manifest = Manifest {
        format: 1,
        name: options.name.clone().unwrap_or(described.name),
        licence: options
            .licence
            .clone()
            .or(described.licence)
            .unwrap_or_else(|| "unknown".into()),
        source: options.source.clone().unwrap_or(described.source),
        source_sha256: described.source_sha256,
        files,
        notes: described.notes,
    };
    let json = pretty(&manifest)?;
    Manifest::from_json(&json)?;
    write_file(directory, manifest::MANIFEST, &json)?;
    Ok(manifest)
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

fn pretty(value: &impl Serialize) -> Result<Vec<u8>, ConvertError> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| ConvertError::Output(error.to_string()))?;
    json.push(b'\n');
    Ok(json)
}

fn write_file(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
    let path = directory.join(name);
    fs::write(&path, bytes).map_err(|error| ConvertError::Write {
        path,
        reason: error.to_string(),
    })
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
