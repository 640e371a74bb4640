//! The library's `Tokenizer`, put together from those of its parts that byte-pair encoders of decoders have.

use super::added_tokens::{AddedTokens, Entry, Specials};
use super::decoding::Decoding;
use super::normalizing::Normalizing;
use super::offsets::Trimming;
use super::splitting::Splitting;
use super::{Implementation, Split, model};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokenizers::models::bpe::BPE;
use tokenizers::{Model, OffsetReferential, OffsetType};

pub(super) struct Pipeline {
    added: AddedTokens,
    normalizing: Normalizing,
    splitting: Splitting,
    model: BPE,
    trimming: Trimming,
    decoding: Decoding,
}

#[derive(Deserialize)]
struct File<'a> {
    version: Option<String>,
    #[serde(default)]
    added_tokens: Vec<Entry>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(borrow)]
    model: &'a RawValue,
}

impl Pipeline {
    /// # Errors
    /// A file that is none; parts that only the program knows, by name.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let file: File = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        if let Some(version) = file.version.filter(|version| version != "1.0") {
            return Err(format!("its version is {version:?}, not \"1.0\""));
        }
        let normalizing = Normalizing::new(&file.normalizer)?;
        let splitting = Splitting::new(&file.pre_tokenizer)?;
        let trimming = Trimming::new(&file.post_processor)?;
        let decoding = Decoding::new(&file.decoder)?;
        let model = model::bpe(file.model)?;
        Ok(Self {
            added: AddedTokens::new(file.added_tokens, &model, &normalizing)?,
            normalizing,
            splitting,
            model,
            trimming,
            decoding,
        })
    }

    fn encode_with_library_errors(
        &self,
        text: &str,
    ) -> Result<Vec<(u32, usize)>, tokenizers::Error> {
        let normalizing = Some(&self.normalizing);
        let mut parts = self
            .added
            .extract(text, Specials::OrdinaryText, normalizing)?;
        self.splitting.cut(&mut parts)?;
        parts.tokenize(|part| self.model.tokenize(part.get()))?;
        let mut encoding = parts.into_encoding(None, 0, OffsetType::Byte)?;
        self.trimming.apply(&mut encoding);
        let ends = encoding.get_offsets().iter().map(|offsets| offsets.1);
        Ok(encoding.get_ids().iter().copied().zip(ends).collect())
    }
}

impl Implementation for Pipeline {
    fn vocabulary_size(&self) -> usize {
        self.model.get_vocab_size() + self.added.beyond(&self.model)
    }

    fn encode(&self, text: &str) -> Result<Vec<(u32, usize)>, String> {
        self.encode_with_library_errors(text)
            .map_err(|error| error.to_string())
    }

    fn split_added(&self, text: &str) -> Result<Vec<Split>, String> {
        // Without a normalizer: the ordinary pieces are normalised when they are encoded.
        let pieces = self
            .added
            .extract(text, Specials::Found, None)
            .map_err(|error| error.to_string())?;
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(splits
            .into_iter()
            .map(|(_, (start, end), tokens)| Split {
                start,
                end,
                id: tokens.as_ref().and_then(|tokens| Some(tokens.first()?.id)),
            })
            .collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, String> {
        let tokens = ids.iter().filter_map(|&id| self.token(id)).collect();
        self.decoding
            .text(tokens)
            .map_err(|error| error.to_string())
    }

    fn token(&self, id: u32) -> Option<String> {
        let added = self.added.token(id);
        added.or_else(|| self.model.id_to_token(id))
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.added.id(token, &self.model)
    }

    fn is_special(&self, id: u32) -> bool {
        self.added.is_special(id)
    }

    fn is_byte_level(&self) -> bool {
        self.decoding.byte_level
    }
}
