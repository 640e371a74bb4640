//! A model in one GGUF file, made ready to be stored as ours.

use super::gguf::GgufFile;
use super::input::Folder;
use super::tokenizer_json::tokenizer_json;
use super::vocabulary::Vocabulary;
use super::writer::{OutputTensor, WeightPlan};
use super::{Conversion, ConvertError, Described, TensorSource, by_name, pretty};
use crate::config::ModelConfig;
use crate::family::Family;
use crate::manifest;
use crate::tokenizer::Tokenizer;
use std::collections::BTreeMap;

pub async fn prepare(folder: &dyn Folder, name: &str) -> Result<Conversion, ConvertError> {
    let gguf = GgufFile::open(folder, name).await?;
    let Some(architecture) = gguf.text("general.architecture")? else {
        return Err(gguf.unsupported("it does not name its architecture".into()));
    };
    let family =
        Family::of_gguf(architecture).map_err(|error| gguf.unsupported(error.to_string()))?;
    let config_json = pretty(&gguf.config(family).await?)?;
    let config = ModelConfig::from_json(&config_json)?;
    let mut files = vec![(manifest::CONFIG, config_json)];

    let mut notes = Vec::new();
    let tokenizer = if folder.has(manifest::TOKENIZER) {
        notes.push("tokenizer.json was taken from beside the GGUF file".into());
        folder.whole(manifest::TOKENIZER).await?
    } else {
        let made = tokenizer_json(&Vocabulary::of(&gguf)?, architecture, &mut notes);
        made.map_err(|error| match error {
            ConvertError::Vocabulary(reason) => gguf.unsupported(reason.to_string()),
            other => other,
        })?
    };
    // Lists that are sound each may not be so together, and that shows only when they are used.
    if let Err(error) = Tokenizer::from_json(&tokenizer) {
        return Err(gguf.unsupported(format!("its vocabulary makes no tokenizer ({error})")));
    }
    files.push((manifest::TOKENIZER, tokenizer));
    let mut tokenizer_config = BTreeMap::from([
        ("bos_token", serde_json::json!(gguf.token_text("bos")?)),
        ("eos_token", serde_json::json!(gguf.token_text("eos")?)),
    ]);
    if begins_with_bos(&gguf)? {
        tokenizer_config.insert("add_bos_token", true.into());
    }
    files.push((manifest::TOKENIZER_CONFIG, pretty(&tokenizer_config)?));
    match gguf.text("tokenizer.chat_template")? {
        Some(template) => files.push((manifest::CHAT_TEMPLATE, template.into())),
        None => notes.push("the GGUF file has no chat template".into()),
    }

    let expected = family.tensors(&config);
    if let Some(unknown) = gguf
        .weight_names()
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
    }
    notes.extend(changed.iter().map(|(change, count)| match count {
        1 => format!("a tensor was dequantised and stored again: {change}"),
        _ => format!("{count} tensors were dequantised and stored again: {change}"),
    }));
    Ok(Conversion {
        files,
        described: Described {
            name: gguf.text("general.name")?.unwrap_or("unnamed").into(),
            licence: gguf.text("general.license")?.map(Into::into),
            source: name.into(),
            notes,
        },
        plan: WeightPlan::new(outputs)?,
        source: TensorSource::Gguf(gguf, family, by_name(expected)),
        config,
    })
}

/// Whether a text that is only continued begins with a `bos_token`: as the file says, and else as llama.cpp takes it to be
/// (`llama-vocab.cpp`, `llama_vocab::impl::load`).
fn begins_with_bos(gguf: &GgufFile) -> Result<bool, ConvertError> {
    let stated = gguf.flag("tokenizer.ggml.add_bos_token")?;
    let kind = gguf.text("tokenizer.ggml.model")?;
    let pre = gguf.text("tokenizer.ggml.pre")?;
    let llama_3 = matches!(pre, Some("llama3" | "llama-v3" | "llama-bpe"));
    Ok(stated.unwrap_or(kind == Some("llama") || llama_3))
}
