//! Hugging Face directories: `config.json`, `tokenizer.json`, one or several safetensors files.

use super::quantise::{to_q4_1, to_q8_0};
use super::writer::{OutputTensor, write_weights};
use super::{
    ConvertError, Described, Options, Progress, Quantisation, file_name, pretty, write_file,
};
use crate::config::ModelConfig;
use crate::encoding::{BLOCK, Encoding};
use crate::family::{Family, ModelWeight};
use crate::manifest;
use crate::source::FileSource;
use crate::weights::{StoredTensor, WeightError, WeightFile, WeightRows, is_redundant};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) fn convert(
    input: &Path,
    directory: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Described, ConvertError> {
    let config_json = with_generation_end_tokens(input, read(input, manifest::CONFIG)?)?;
    let config = ModelConfig::from_json(&config_json)?;
    let unsupported = |reason: String| ConvertError::Unsupported {
        path: input.into(),
        reason,
    };
    let family = Family::of(&config).map_err(|error| unsupported(error.to_string()))?;
    write_file(directory, manifest::CONFIG, &config_json)?;
    let mut notes = Vec::new();
    for name in [
        manifest::TOKENIZER,
        manifest::TOKENIZER_CONFIG,
        manifest::CHAT_TEMPLATE,
    ] {
        if input.join(name).is_file() {
            write_file(directory, name, &read(input, name)?)?;
        } else if name == manifest::TOKENIZER {
            notes.push(
                "there is no tokenizer.json: the model reads and writes token ids only".into(),
            );
        }
    }

    let files = weight_files(input)?;
    let mut found: BTreeMap<&str, (&WeightFile<FileSource>, &StoredTensor)> = BTreeMap::new();
    for file in &files {
        for tensor in file.tensors() {
            if found.insert(&tensor.name, (file, tensor)).is_some() {
                return Err(ConvertError::Tensor {
                    tensor: tensor.name.clone(),
                    reason: "is in two of the files".into(),
                });
            }
        }
    }
    let expected = family.weights(&config);
    let mut outputs = Vec::with_capacity(expected.len());
    for tensor in &expected {
        let stored = match found.get(tensor.name.as_str()) {
            Some((_, stored)) => stored,
            // Asked again only for its reason.
            None => files[0].tensor(&tensor.name)?,
        };
        if (stored.rows, stored.cols) != (tensor.rows, tensor.cols) {
            return Err(ConvertError::Tensor {
                tensor: tensor.name.clone(),
                reason: format!(
                    "has shape [{}, {}], where the configuration asks for [{}, {}]",
                    stored.rows, stored.cols, tensor.rows, tensor.cols
                ),
            });
        }
        let encoding = target(tensor, stored.encoding, options.quantisation);
        if options.quantisation.is_some()
            && !tensor.vector
            && encoding == stored.encoding
            && !encoding.has_scale()
        {
            notes.push(format!(
                "{} has rows of {}, no multiple of {BLOCK}, and was kept",
                tensor.name, tensor.cols
            ));
        }
        outputs.push(OutputTensor {
            name: tensor.name.clone(),
            encoding,
            rows: tensor.rows,
            cols: tensor.cols,
            vector: tensor.vector,
        });
    }
    let unknown = files.iter().flat_map(WeightFile::names);
    for name in unknown.filter(|name| expected.iter().all(|tensor| tensor.name != **name)) {
        if !is_redundant(name, config.tied_embeddings) {
            return Err(ConvertError::Tensor {
                tensor: name.into(),
                reason: format!(
                    "belongs to no model of type {}; this model has parts that would be lost",
                    config.model_type
                ),
            });
        }
        notes.push(format!("{name} says nothing new and was left out"));
    }
    if let Some(window) = config.sliding_window {
        notes.push(format!(
            "the context is {window} tokens, the sliding window that the model attends to"
        ));
    }
    let bytes_total = outputs.iter().map(OutputTensor::bytes).sum();
    write_weights(
        &directory.join(manifest::WEIGHTS),
        &outputs,
        |output| {
            let (file, stored) = found[output.name.as_str()];
            let rows = now(file.read_rows(stored, 0..stored.rows))?;
            Ok(if rows.encoding == output.encoding {
                rows
            } else {
                quantise(&rows, output.encoding)
            })
        },
        |bytes_done| {
            progress(Progress {
                bytes_done,
                bytes_total,
            })
        },
    )?;
    if let Some(quantisation) = options.quantisation {
        notes.push(match quantisation {
            Quantisation::Q4 => {
                "matrices were quantised to Q4_1, embedding and output head to Q8_0".into()
            }
            Quantisation::Q8 => "matrices were quantised to Q8_0".into(),
        });
    }
    Ok(Described {
        name: file_name(input),
        licence: None,
        source: file_name(input),
        notes,
    })
}

fn target(tensor: &ModelWeight, stored: Encoding, quantisation: Option<Quantisation>) -> Encoding {
    let outermost = matches!(
        tensor.name.as_str(),
        "model.embed_tokens.weight" | "lm_head.weight"
    );
    match quantisation {
        Some(_) if tensor.vector || !tensor.cols.is_multiple_of(BLOCK) || stored.has_scale() => {
            stored
        }
        Some(Quantisation::Q4) if !outermost => Encoding::Q4_1,
        Some(_) => Encoding::Q8_0,
        None => stored,
    }
}

fn quantise(rows: &WeightRows, encoding: Encoding) -> WeightRows {
    let mut values = vec![0.0; rows.rows * rows.cols];
    for (row, out) in values.chunks_exact_mut(rows.cols).enumerate() {
        rows.dequantise_row(row, out);
    }
    match encoding {
        Encoding::Q4_1 => to_q4_1(&values, rows.rows, rows.cols),
        _ => to_q8_0(&values, rows.rows, rows.cols),
    }
}

/// The directory's `*.safetensors`, opened, in the order of their names.
fn weight_files(input: &Path) -> Result<Vec<WeightFile<FileSource>>, ConvertError> {
    let unreadable = |error: std::io::Error| ConvertError::Read {
        path: input.into(),
        reason: error.to_string(),
    };
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(input).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(ConvertError::Read {
            path: input.into(),
            reason: "has no *.safetensors file".into(),
        });
    }
    paths
        .iter()
        .map(|path| Ok(now(WeightFile::open(FileSource::open(path)?))?))
        .collect()
}

/// Hugging Face lists further end tokens in `generation_config.json`; ours has them in one place.
fn with_generation_end_tokens(input: &Path, config: Vec<u8>) -> Result<Vec<u8>, ConvertError> {
    let path = input.join("generation_config.json");
    if !path.is_file() {
        return Ok(config);
    }
    let parse = |json: &[u8], path: &Path| {
        serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(json).map_err(|error| {
            ConvertError::Read {
                path: path.into(),
                reason: error.to_string(),
            }
        })
    };
    let generation = parse(&read(input, "generation_config.json")?, &path)?;
    let mut merged = parse(&config, &input.join(manifest::CONFIG))?;
    match generation.get("eos_token_id") {
        Some(tokens) if merged.get("eos_token_id") != Some(tokens) && !tokens.is_null() => {
            merged.insert("eos_token_id".into(), tokens.clone());
            pretty(&merged)
        }
        _ => Ok(config),
    }
}

fn read(input: &Path, name: &str) -> Result<Vec<u8>, ConvertError> {
    let path = input.join(name);
    let length = fs::metadata(&path)
        .map_err(|error| ConvertError::Read {
            path: path.clone(),
            reason: error.to_string(),
        })?
        .len();
    if length > 64 << 20 {
        return Err(ConvertError::Read {
            path,
            reason: format!("is {length} bytes long, more than 64 MiB"),
        });
    }
    fs::read(&path).map_err(|error| ConvertError::Read {
        path,
        reason: error.to_string(),
    })
}

/// Files answer at once, so the first poll is the last.
fn now<T>(future: impl Future<Output = Result<T, WeightError>>) -> Result<T, WeightError> {
    pollster::block_on(future)
}
