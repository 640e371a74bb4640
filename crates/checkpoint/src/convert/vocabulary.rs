//! The vocabulary of a GGUF file, before it is a tokenizer.

use super::ConvertError;
use super::gguf::GgufFile;
use super::gguf_header::Value;
use serde::Deserialize;
use std::collections::HashMap;

/// GGUF token types (llama.cpp's `llama_token_type`): 1 normal, 2 unknown, 3 control, 4 user-defined,
/// 5 unused, 6 byte.
pub const UNKNOWN: i64 = 2;
pub const CONTROL: i64 = 3;
pub const USER_DEFINED: i64 = 4;

/// What the keys `tokenizer.ggml.…` say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Vocabulary {
    /// `gpt2` for byte-level BPE, `llama` for SentencePiece.
    pub model: String,
    pub pre: Option<String>,
    pub tokens: Vec<String>,
    /// Empty, or one for each token.
    pub types: Vec<i64>,
    /// Pairs, the first to be merged first.
    pub merges: Vec<(String, String)>,
    /// Empty, or one for each token: of two merges, that to the token with the higher score is done first.
    pub scores: Vec<f32>,
    /// Whether SentencePiece puts a space before a text; it does unless told otherwise.
    pub space_before: Option<bool>,
}

impl Vocabulary {
    /// # Errors
    /// Lists that are missing, hold something else or have other lengths than that of the tokens.
    pub fn of(gguf: &GgufFile) -> Result<Self, ConvertError> {
        let broken = |reason: String| ConvertError::Read {
            path: gguf.path().into(),
            reason,
        };
        let list = |key: &str| Ok::<_, ConvertError>(gguf.array(key)?.unwrap_or_default());
        let texts = |key: &str| -> Result<Vec<String>, ConvertError> {
            let texts = list(key)?.iter().map(|value| match value {
                Value::String(text) => Ok(text.clone()),
                _ => Err(broken(format!("{key} holds something else than texts"))),
            });
            texts.collect()
        };
        let tokens = texts("tokenizer.ggml.tokens")?;
        if tokens.is_empty() {
            return Err(broken("lacks tokenizer.ggml.tokens".into()));
        }
        let merges = texts("tokenizer.ggml.merges")?.into_iter().map(|merge| {
            let pair = merge.split_once(' ');
            let whole = || broken("a merge is not a pair".into());
            pair.map(|(left, right)| (left.into(), right.into()))
                .ok_or_else(whole)
        });
        let types = list("tokenizer.ggml.token_type")?
            .iter()
            .map(|value| match *value {
                Value::Signed(kind) => Ok(kind),
                Value::Unsigned(kind) if kind < 256 => Ok(kind as i64),
                _ => Err(broken("has token types that are no numbers".into())),
            });
        let scores = list("tokenizer.ggml.scores")?
            .iter()
            .map(|value| match *value {
                Value::F32(score) if !score.is_nan() => Ok(score),
                _ => Err(broken("has scores that are no numbers".into())),
            });
        let made = Self {
            model: gguf
                .text("tokenizer.ggml.model")?
                .unwrap_or_default()
                .into(),
            pre: gguf.text("tokenizer.ggml.pre")?.map(Into::into),
            merges: merges.collect::<Result<_, _>>()?,
            types: types.collect::<Result<_, _>>()?,
            scores: scores.collect::<Result<_, _>>()?,
            space_before: gguf.flag("tokenizer.ggml.add_space_prefix")?,
            tokens,
        };
        for (what, length) in [("types", made.types.len()), ("scores", made.scores.len())] {
            if length > 0 && length != made.tokens.len() {
                return Err(broken(format!(
                    "has {length} token {what} for {} tokens",
                    made.tokens.len()
                )));
            }
        }
        Ok(made)
    }

    pub fn is_of(&self, id: usize, kind: i64) -> bool {
        self.types.get(id) == Some(&kind)
    }

    /// The merges that make the tokens with the highest scores first: all ways to put a token together of two others, as transformers
    /// finds them where a file has scores alone (`integrations/ggml.py`).
    pub fn merges_by_score(&self) -> Vec<(&str, &str)> {
        // Control tokens and bytes come whole.
        let kind = |id: usize| self.types.get(id).copied().unwrap_or(1);
        let ids: HashMap<&str, usize> = self.tokens.iter().map(String::as_str).zip(0..).collect();
        let mut merges = Vec::new();
        for (id, token) in self
            .tokens
            .iter()
            .enumerate()
            .filter(|(id, _)| matches!(kind(*id), 1 | USER_DEFINED))
        {
            let splits = token
                .char_indices()
                .skip(1)
                .map(|(at, _)| token.split_at(at));
            let parts =
                splits.filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?)));
            let start = merges.len();
            merges.extend(parts.map(|(left, right)| (id, left, right)));
            merges[start..].sort_by(|a, b| {
                let scores =
                    |merge: &(usize, usize, usize)| (self.scores[merge.1], self.scores[merge.2]);
                let (a, b) = (scores(a), scores(b));
                b.0.total_cmp(&a.0).then(b.1.total_cmp(&a.1))
            });
        }
        merges.sort_by(|a, b| self.scores[b.0].total_cmp(&self.scores[a.0]));
        let spelled = |id: usize| self.tokens[id].as_str();
        merges
            .into_iter()
            .map(|(_, left, right)| (spelled(left), spelled(right)))
            .collect()
    }
}
