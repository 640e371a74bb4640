//! Hugging Face directories: `config.json`, `tokenizer.json`, one or several safetensors files.

use super::quantise::{Loss, to_q4_1, to_q8_0};
use super::weight_files::WeightFiles;
use super::writer::{OutputTensor, write_weights};
use super::{
    ConvertError, Described, Options, Progress, Quantisation, file_name, pretty, write_file,
};
use crate::config::ModelConfig;
use crate::encoding::{BLOCK, Encoding};
use crate::error::WeightError;
use crate::family::{Family, ModelWeight, WeightRole, is_redundant};
use crate::manifest;
use crate::published_file::plain_text;
use crate::weights::{WeightRows, same_numbers};
use serde_json::{Map, Value};
use std::fs;
use std::path::Path;

pub(super) fn convert(
    input: &Path,
    directory: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress),
) -> Result<Described, ConvertError> {
    let mut published = read_json(input, manifest::CONFIG)?;
    add_generation_end_tokens(input, &mut published)?;
    let mut config = ModelConfig::from_json(&pretty(&published)?)?;
    let unsupported = |reason: String| ConvertError::Unsupported {
        path: input.into(),
        reason,
    };
    let family = Family::of(&config).map_err(|error| unsupported(error.to_string()))?;
    let mut notes = Vec::new();
    for name in [
        manifest::TOKENIZER,
        manifest::TOKENIZER_CONFIG,
        manifest::CHAT_TEMPLATE,
    ] {
        if input.join(name).is_file() {
            let bytes = read(input, name)?;
            let text = plain_text(&bytes).map_err(|pointer| ConvertError::Read {
                path: input.join(name),
                reason: pointer.to_string(),
            })?;
            write_file(directory, name, &text)?;
        } else if name == manifest::TOKENIZER {
            notes.push(
                "there is no tokenizer.json: the model reads and writes token ids only".into(),
            );
        }
    }

    let files = WeightFiles::open(input, &mut notes)?;
    let found = files.tensors()?;
    let [embedding, head] =
        [WeightRole::Embedding, WeightRole::OutputHead].map(|role| family.name(role, 0));
    if config.tied_embeddings
        && let (Some(embedding), Some(own)) =
            (found.get(embedding.as_str()), found.get(head.as_str()))
    {
        if now(same_numbers(*embedding, *own))? {
            notes.push(format!(
                "{head} has the numbers of the embedding and was left out"
            ));
        } else {
            config.tied_embeddings = false;
            published.insert("tie_word_embeddings".into(), false.into());
            notes.push(format!(
                "config.json says that the output head is the embedding, but {head} has other numbers: it was kept, and \
                 tie_word_embeddings is false now"
            ));
        }
    }
    write_file(directory, manifest::CONFIG, &pretty(&published)?)?;
    let expected = family.weights(&config);
    let mut outputs = Vec::with_capacity(expected.len());
    for tensor in &expected {
        let Some((file, stored)) = found.get(tensor.name.as_str()) else {
            return Err(files.missing(&tensor.name).into());
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
        let mut encoding = target(tensor, stored.encoding, options.quantisation);
        if options.quantisation.is_some() && !tensor.vector && !encoding.is_quantised() {
            notes.push(format!(
                "{} has rows of {}, no multiple of {BLOCK}, and was kept",
                tensor.name, tensor.cols
            ));
        }
        if encoding != stored.encoding {
            let values = dequantised(&now(file.read_rows(stored, 0..stored.rows))?);
            let kept = match Loss::of(&values, encoding) {
                None => None,
                Some(Loss::TooLarge) => Some("too large"),
                // Rows of tokens that no text of the training had are next to zero, and may be.
                Some(Loss::TooSmall) if tensor.is_token_table() => None,
                Some(Loss::TooSmall) => Some("too small"),
            };
            if let Some(size) = kept {
                encoding = stored.encoding;
                notes.push(format!(
                    "{} has blocks of numbers that are {size} for quantised blocks, and was kept",
                    tensor.name
                ));
            }
        }
        outputs.push(OutputTensor {
            name: tensor.name.clone(),
            encoding,
            rows: tensor.rows,
            cols: tensor.cols,
            vector: tensor.vector,
        });
    }
    let unknown = files.names().filter(|name| {
        let known = |tensor: &ModelWeight| tensor.name == *name;
        !expected.iter().any(known) && *name != head
    });
    for name in unknown {
        if !is_redundant(name) {
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
                let values = dequantised(&rows);
                match output.encoding {
                    Encoding::Q4_1 => to_q4_1(&values, rows.rows, rows.cols),
                    _ => to_q8_0(&values, rows.rows, rows.cols),
                }
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
        source_sha256: None,
        notes,
    })
}

fn target(tensor: &ModelWeight, stored: Encoding, quantisation: Option<Quantisation>) -> Encoding {
    match quantisation {
        Some(_) if tensor.vector || !tensor.cols.is_multiple_of(BLOCK) || stored.is_quantised() => {
            stored
        }
        Some(Quantisation::Q4) if !tensor.is_token_table() => Encoding::Q4_1,
        Some(_) => Encoding::Q8_0,
        None => stored,
    }
}

fn dequantised(rows: &WeightRows) -> Vec<f32> {
    let mut values = vec![0.0; rows.rows * rows.cols];
    for (row, out) in values.chunks_exact_mut(rows.cols).enumerate() {
        rows.dequantise_row(row, out);
    }
    values
}

/// Hugging Face lists further end tokens in `generation_config.json`; ours has them in one place.
fn add_generation_end_tokens(
    input: &Path,
    config: &mut Map<String, Value>,
) -> Result<(), ConvertError> {
    const GENERATION: &str = "generation_config.json";
    if !input.join(GENERATION).is_file() {
        return Ok(());
    }
    let stated = |fields: &Map<String, Value>| match fields.get("eos_token_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tokens)) => tokens.clone(),
        Some(token) => vec![token.clone()],
    };
    let mut tokens = stated(&read_json(input, GENERATION)?);
    if tokens.is_empty() {
        return Ok(());
    }
    for token in stated(config) {
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    config.insert("eos_token_id".into(), tokens.into());
    Ok(())
}

fn read_json(input: &Path, name: &str) -> Result<Map<String, Value>, ConvertError> {
    let bytes = read(input, name)?;
    plain_text(&bytes)
        .map_err(|pointer| pointer.to_string())
        .and_then(|json| serde_json::from_slice(&json).map_err(|error| error.to_string()))
        .map_err(|reason| ConvertError::Read {
            path: input.join(name),
            reason,
        })
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
