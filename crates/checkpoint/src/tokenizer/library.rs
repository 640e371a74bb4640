//! Hugging Face's `Tokenizer` as it is.

use super::{Implementation, Split};
use tokenizers::{AddedVocabulary, DecoderWrapper, NormalizerWrapper};
use tokenizers::{OffsetReferential, OffsetType};

pub(super) struct Library {
    /// Reads special tokens in a text as ordinary text.
    ordinary: tokenizers::Tokenizer,
    /// Finds special tokens in a text.
    specials: AddedVocabulary,
    byte_level: bool,
}

impl Library {
    /// # Errors
    /// The library's own sentence for a file that it cannot read.
    pub fn from_json(json: &[u8]) -> Result<Self, String> {
        let unusable = |error: tokenizers::Error| error.to_string();
        let mut ordinary = tokenizers::Tokenizer::from_bytes(json).map_err(unusable)?;
        ordinary.with_truncation(None).map_err(unusable)?;
        ordinary.with_padding(None);
        let mut specials = ordinary.get_added_vocabulary().clone();
        specials.set_encode_special_tokens(false);
        ordinary.set_encode_special_tokens(true);
        let byte_level = matches!(ordinary.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        Ok(Self {
            ordinary,
            specials,
            byte_level,
        })
    }
}

impl Implementation for Library {
    fn vocabulary_size(&self) -> usize {
        self.ordinary.get_vocab_size(true)
    }

    fn encode(&self, text: &str) -> Result<Vec<(u32, usize)>, String> {
        let encoding = self
            .ordinary
            .encode(text, false)
            .map_err(|error| error.to_string())?;
        let ends = encoding.get_offsets().iter().map(|offsets| offsets.1);
        Ok(encoding.get_ids().iter().copied().zip(ends).collect())
    }

    fn split_added(&self, text: &str) -> Result<Vec<Split>, String> {
        // Without a normalizer: the ordinary pieces are normalised when they are encoded.
        let pieces = self
            .specials
            .extract_and_normalize::<NormalizerWrapper>(None, text);
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
        self.ordinary
            .decode(ids, false)
            .map_err(|error| error.to_string())
    }

    fn token(&self, id: u32) -> Option<String> {
        self.ordinary.id_to_token(id)
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.specials.token_to_id(token, self.ordinary.get_model())
    }

    fn is_special(&self, id: u32) -> bool {
        self.specials
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|token| token.special)
    }

    fn is_byte_level(&self) -> bool {
        self.byte_level
    }
}
