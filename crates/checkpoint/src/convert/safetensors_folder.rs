//! Hugging Face folders: `config.json`, `tokenizer.json`, one or several safetensors files.

use super::input::Folder;
use super::names::GENERATION_CONFIG;
use super::quantise::{Loss, to_q4_1, to_q8_0};
use super::weight_files::{Found, WeightFiles};
use super::writer::{OutputTensor, WeightPlan};
use super::{Conversion, ConvertError, Described, Quantisation, TensorSource, by_name, pretty};
use crate::config::ModelConfig;
use crate::encoding::{BLOCK, Encoding};
use crate::family::{Family, ModelWeight, is_redundant, spellings};
use crate::manifest;
use crate::weights::{WeightRows, same_numbers};
use serde_json::{Map, Value};
use std::ops::Range;

pub async fn prepare(
    folder: &dyn Folder,
    quantisation: Option<Quantisation>,
) -> Result<Conversion, ConvertError> {
    let mut published = folder.json(manifest::CONFIG).await?;
    add_generation_end_tokens(folder, &mut published).await?;
    let mut config = ModelConfig::from_json(&pretty(&published)?)?;
    let unsupported = |reason: String| ConvertError::Unsupported {
        path: folder.path(),
        reason,
    };
    let family = Family::of(&config).map_err(|error| unsupported(error.to_string()))?;
    let mut notes = Vec::new();
    let mut beside = Vec::new();
    for name in [
        manifest::TOKENIZER,
        manifest::TOKENIZER_CONFIG,
        manifest::CHAT_TEMPLATE,
    ] {
        if folder.has(name) {
            beside.push((name, folder.text(name).await?));
        } else if name == manifest::TOKENIZER {
            notes.push(
                "there is no tokenizer.json: the model reads and writes token ids only".into(),
            );
        }
    }

    let files = WeightFiles::open(folder, &mut notes).await?;
    files.tensors()?;
    let [embedding, head] = family.token_tables();
    if config.tied_embeddings
        && let (Some(embedding), Some(own)) = (files.find(embedding), files.find(head))
    {
        if same_numbers(embedding, own).await? {
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
    let expected = family.tensors(&config);
    let mut outputs = Vec::with_capacity(expected.len());
    for tensor in &expected {
        let Some((file, _)) = holder(&files, tensor) else {
            return Err(files.missing(&tensor.name).into());
        };
        let stored = file.holder(tensor)?;
        let mut encoding = target(tensor, stored.encoding, quantisation);
        if quantisation.is_some() && !tensor.vector && !encoding.is_quantised() {
            notes.push(format!(
                "{} has rows of {}, no multiple of {BLOCK}, and was kept",
                tensor.name, tensor.cols
            ));
        }
        if encoding != stored.encoding {
            let kept = match loss(&files, tensor, encoding).await? {
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
        let known = |tensor: &ModelWeight| {
            let named = |own: &str| spellings(own).any(|own| own == *name);
            named(&tensor.name) || tensor.transposed.as_deref().is_some_and(named)
        };
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
    if let Some(quantisation) = quantisation {
        notes.push(match quantisation {
            Quantisation::Q4 => {
                "matrices were quantised to Q4_1, embedding and output head to Q8_0".into()
            }
            Quantisation::Q8 => "matrices were quantised to Q8_0".into(),
        });
    }
    let name = folder.path();
    let name = name.file_name().unwrap_or(name.as_os_str());
    let name = name.to_string_lossy().into_owned();
    let mut made = vec![(manifest::CONFIG, pretty(&published)?)];
    made.extend(beside);
    Ok(Conversion {
        files: made,
        described: Described {
            source: name.clone(),
            name,
            licence: None,
            notes,
        },
        plan: WeightPlan::new(outputs)?,
        source: TensorSource::Safetensors(files, by_name(expected)),
        config,
    })
}

/// A whole tensor in the form in which it is stored from now on.
pub async fn read(
    files: &WeightFiles,
    weight: &ModelWeight,
    tensor: &OutputTensor,
) -> Result<WeightRows, ConvertError> {
    let Some((file, stored)) = holder(files, weight) else {
        return Err(files.missing(&tensor.name).into());
    };
    if stored.encoding == tensor.encoding {
        return Ok(file.rows_of(weight, 0..weight.rows).await?);
    }
    let mut whole = WeightRows::none(tensor.encoding, tensor.cols);
    whole.reserve(tensor.rows);
    for rows in pieces(weight) {
        let count = rows.len();
        let values = dequantised(&file.rows_of(weight, rows).await?);
        whole.append(&match tensor.encoding {
            Encoding::Q4_1 => to_q4_1(&values, count, tensor.cols),
            _ => to_q8_0(&values, count, tensor.cols),
        });
    }
    Ok(whole)
}

/// Runs of rows that make a piece together: as numbers in f32 they take more memory than a whole tensor may.
fn pieces(weight: &ModelWeight) -> impl Iterator<Item = Range<usize>> + use<> {
    let step = (PIECE / weight.cols.max(1)).max(1);
    let rows = weight.rows;
    (0..rows)
        .step_by(step)
        .map(move |first| first..rows.min(first + step))
}

/// Numbers of a piece.
const PIECE: usize = 1 << 20;

/// What is lost of a tensor in quantised blocks, beyond ordinary rounding.
async fn loss(
    files: &WeightFiles,
    weight: &ModelWeight,
    encoding: Encoding,
) -> Result<Option<Loss>, ConvertError> {
    let Some((file, _)) = holder(files, weight) else {
        return Err(files.missing(&weight.name).into());
    };
    let mut found = None;
    for rows in pieces(weight) {
        let values = dequantised(&file.rows_of(weight, rows).await?);
        match Loss::of(&values, encoding) {
            Some(Loss::TooLarge) => return Ok(Some(Loss::TooLarge)),
            loss => found = found.or(loss),
        }
    }
    Ok(found)
}

/// See [`Conversion::tensors_as`].
pub fn tensors_as(
    files: &WeightFiles,
    config: &ModelConfig,
    quantisation: Quantisation,
) -> Option<Vec<OutputTensor>> {
    let weights = Family::of(config).ok()?.tensors(config).into_iter();
    let tensors = weights.map(|weight| {
        let (_, stored) = holder(files, &weight)?;
        Some(OutputTensor {
            encoding: target(&weight, stored.encoding, Some(quantisation)),
            name: weight.name,
            rows: weight.rows,
            cols: weight.cols,
            vector: weight.vector,
        })
    });
    tensors.collect()
}

/// The file that holds a tensor, and how it stores it.
fn holder<'a>(files: &'a WeightFiles, tensor: &ModelWeight) -> Option<Found<'a>> {
    let published = tensor.transposed.as_deref();
    let found = files.find(&tensor.name);
    found.or_else(|| files.find(published?))
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
async fn add_generation_end_tokens(
    folder: &dyn Folder,
    config: &mut Map<String, Value>,
) -> Result<(), ConvertError> {
    if !folder.has(GENERATION_CONFIG) {
        return Ok(());
    }
    let stated = |fields: &Map<String, Value>| match fields.get("eos_token_id") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tokens)) => tokens.clone(),
        Some(token) => vec![token.clone()],
    };
    let mut tokens = stated(&folder.json(GENERATION_CONFIG).await?);
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
