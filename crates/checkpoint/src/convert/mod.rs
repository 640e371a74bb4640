//! Making model directories out of what people have: a GGUF file, or a Hugging Face folder with safetensors files. What is
//! read, and where it is written, the caller says ([`Folder`], [`Sink`]): a disk, or a browser's storage.

#[cfg(all(feature = "convert", not(target_arch = "wasm32")))]
pub mod directory;
mod gguf;
mod gguf_blocks;
mod gguf_header;
mod gguf_model;
mod input;
pub(crate) mod names;
mod pre_tokenizers;
pub mod quantise;
mod safetensors_folder;
mod tokenizer_json;
#[cfg(all(feature = "convert", not(target_arch = "wasm32")))]
pub mod torch_tensor;
mod vocabulary;
mod weight_files;
mod writer;

pub use input::Folder;
pub use writer::{OutputTensor, Sink};

use crate::config::{ConfigError, ModelConfig};
use crate::error::WeightError;
use crate::family::{Family, ModelWeight};
use crate::manifest::{Manifest, ManifestError, ManifestFile};
use crate::source::{LocalFuture, SourceError};
use crate::weights::WeightRows;
use gguf::GgufFile;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokenizer_json::VocabularyError;
use weight_files::WeightFiles;
use writer::WeightPlan;

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

/// The form that weights of a safetensors folder are quantised to.
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
    /// Of the one file that is converted, where it is known.
    pub source_sha256: Option<String>,
}

/// A model made ready: everything but the weights is at hand, and of these where they come from and where they go.
#[derive(Debug)]
pub struct Conversion {
    /// The small files of the model directory, by name.
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub config: ModelConfig,
    described: Described,
    plan: WeightPlan,
    source: TensorSource,
}

/// The part of the manifest that is known from the input.
#[derive(Debug, Default)]
struct Described {
    name: String,
    licence: Option<String>,
    source: String,
    notes: Vec<String>,
}

/// A model's tensors by their names in the model directory.
type Tensors = BTreeMap<String, ModelWeight>;

fn by_name(tensors: Vec<ModelWeight>) -> Tensors {
    let tensors = tensors.into_iter();
    tensors
        .map(|tensor| (tensor.name.clone(), tensor))
        .collect()
}

#[derive(Debug)]
enum TensorSource {
    Gguf(GgufFile, &'static Family, Tensors),
    Safetensors(WeightFiles, Tensors),
}

impl Conversion {
    /// Reads what a conversion of `folder` needs to know: of its GGUF file `gguf`, or of its safetensors files. Of weights, it
    /// reads the headers alone, but where it quantises.
    ///
    /// # Errors
    /// Files that are missing, broken, or of a model that is not computed here, by name and reason.
    pub async fn prepare(
        folder: &dyn Folder,
        gguf: Option<&str>,
        quantisation: Option<Quantisation>,
    ) -> Result<Self, ConvertError> {
        match (gguf, quantisation) {
            (None, _) => safetensors_folder::prepare(folder, quantisation).await,
            (Some(name), None) => gguf_model::prepare(folder, name).await,
            (Some(name), Some(_)) => Err(ConvertError::Unsupported {
                path: folder.path().join(name),
                reason: "weights of a GGUF file are kept as they are; only a safetensors directory can be quantised".into(),
            }),
        }
    }

    /// The model's own name of itself.
    pub fn name(&self) -> &str {
        &self.described.name
    }

    /// The licence that the input states.
    pub fn licence(&self) -> Option<&str> {
        self.described.licence.as_deref()
    }

    /// Remarks on what is changed or cannot be kept.
    pub fn notes(&self) -> &[String] {
        &self.described.notes
    }

    /// Length of the weight file, in bytes.
    pub fn weight_bytes(&self) -> u64 {
        self.plan.bytes()
    }

    /// The weights were they quantised so; `None` where they cannot be. Tensors that turn out not to fit quantised blocks are kept,
    /// and make the file a little longer.
    pub fn tensors_as(&self, quantisation: Quantisation) -> Option<Vec<OutputTensor>> {
        match &self.source {
            TensorSource::Gguf(..) => None,
            TensorSource::Safetensors(files, _) => {
                safetensors_folder::tensors_as(files, &self.config, quantisation)
            }
        }
    }

    /// The weights that the file will hold.
    pub fn tensors(&self) -> &[OutputTensor] {
        self.plan.tensors()
    }

    /// Writes the weight file from byte `from` on, tensor by tensor. The same input gives the same bytes.
    ///
    /// # Errors
    /// Input that does not answer or holds numbers that are none, and a sink that does not take more.
    pub async fn write_weights(&self, from: u64, sink: &mut dyn Sink) -> Result<(), ConvertError> {
        let read = |tensor| -> LocalFuture<'_, _> { Box::pin(self.read(tensor)) };
        self.plan.write(from, read, sink).await
    }

    async fn read(&self, tensor: &OutputTensor) -> Result<WeightRows, ConvertError> {
        let (TensorSource::Gguf(.., weights) | TensorSource::Safetensors(_, weights)) =
            &self.source;
        let weight = weights
            .get(&tensor.name)
            .ok_or_else(|| ConvertError::Output(format!("{} comes from nowhere", tensor.name)))?;
        match &self.source {
            TensorSource::Gguf(file, family, _) => {
                let heads = family.gguf_interleaved_heads(weight.role, &self.config);
                file.read(weight, heads).await
            }
            TensorSource::Safetensors(files, _) => {
                safetensors_folder::read(files, weight, tensor).await
            }
        }
    }

    /// The manifest of the directory that `files` were written to.
    ///
    /// # Errors
    /// Texts that are too long for a manifest.
    pub fn manifest(
        &self,
        files: Vec<ManifestFile>,
        options: &Options,
    ) -> Result<Vec<u8>, ConvertError> {
        let Described {
            name,
            licence,
            source,
            notes,
        } = &self.described;
        let or = |option: &Option<String>, own: &String| option.as_ref().unwrap_or(own).clone();
        let unknown = "unknown".to_owned();
        let manifest = Manifest {
            format: 1,
            name: or(&options.name, name),
            licence: or(&options.licence, licence.as_ref().unwrap_or(&unknown)),
            source: or(&options.source, source),
            source_sha256: options.source_sha256.clone(),
            files,
            notes: notes.clone(),
        };
        let json = pretty(&manifest)?;
        Manifest::from_json(&json)?;
        Ok(json)
    }
}

fn pretty(value: &impl Serialize) -> Result<Vec<u8>, ConvertError> {
    let mut json = serde_json::to_vec_pretty(value)
        .map_err(|error| ConvertError::Output(error.to_string()))?;
    json.push(b'\n');
    Ok(json)
}
