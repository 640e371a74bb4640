//! Text to token ids and back, by Hugging Face's `tokenizers` from the model's own `tokenizer.json`.

use crate::pieces::Pieces;
use tokenizers::{AddedVocabulary, DecoderWrapper, NormalizerWrapper};
use tokenizers::{OffsetReferential, OffsetType};

/// Longest `tokenizer.json` that is read, in bytes (the largest published ones have 35 MB).
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;
/// Longest text that is encoded at once, in bytes.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error(
        "tokenizer.json is {bytes} bytes long, more than {MAX_TOKENIZER_BYTES}; it is not a tokenizer"
    )]
    TooLong { bytes: usize },
    #[error("tokenizer.json cannot be used: {reason}")]
    Unusable { reason: String },
    #[error(
        "a text of {bytes} bytes is longer than the {MAX_TEXT_BYTES} that are read at once; shorten it"
    )]
    TextTooLong { bytes: usize },
    #[error("the text could not be encoded: {reason}")]
    Encoding { reason: String },
}

/// A model's tokenizer. Nothing is ever prepended or appended to what it encodes.
#[derive(Clone)]
pub struct Tokenizer {
    /// Reads special tokens in a text as ordinary text.
    ordinary: tokenizers::Tokenizer,
    /// Finds special tokens in a text.
    specials: AddedVocabulary,
    byte_level: bool,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary_size())
            .finish_non_exhaustive()
    }
}

/// Part of a text: a special token, or what stands between two.
pub(crate) struct Split {
    /// Bytes in the text.
    pub start: usize,
    pub end: usize,
    /// Ids, for an added token.
    pub ids: Option<Vec<u32>>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that it may ask for are switched off.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        if json.len() > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLong { bytes: json.len() });
        }
        let unusable = |error: tokenizers::Error| TokenizerError::Unusable {
            reason: error.to_string(),
        };
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

    /// Tokens, special ones included. Ids are below this for every published tokenizer.
    pub fn vocabulary_size(&self) -> usize {
        self.ordinary.get_vocab_size(true)
    }

    /// Ids of `text` as ordinary text: what looks like a special token (`<|im_end|>`) becomes the
    /// tokens of its characters.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self
            .encode_with_offsets(text)?
            .into_iter()
            .map(|(id, _)| id)
            .collect())
    }

    /// Ids of a text in which special tokens are meant, such as a rendered chat template.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        for split in self.split_specials(text)? {
            match split.ids {
                Some(special) => ids.extend(special),
                None => ids.extend(self.encode(&text[split.start..split.end])?),
            }
        }
        Ok(ids)
    }

    /// `(id, end)` of each token of an ordinary text; `end` is the byte behind its last one. A token
    /// that ends inside a character has the end of the character.
    pub(crate) fn encode_with_offsets(
        &self,
        text: &str,
    ) -> Result<Vec<(u32, usize)>, TokenizerError> {
        check_length(text)?;
        let encoding =
            self.ordinary
                .encode(text, false)
                .map_err(|error| TokenizerError::Encoding {
                    reason: error.to_string(),
                })?;
        Ok(encoding
            .get_ids()
            .iter()
            .copied()
            .zip(encoding.get_offsets().iter().map(|offsets| offsets.1))
            .collect())
    }

    /// Cuts `text` at its special tokens.
    pub(crate) fn split_specials(&self, text: &str) -> Result<Vec<Split>, TokenizerError> {
        check_length(text)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        // Without a normalizer: the ordinary pieces are normalised when they are encoded.
        let pieces = self
            .specials
            .extract_and_normalize::<NormalizerWrapper>(None, text);
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        Ok(splits
            .into_iter()
            .map(|(_, (start, end), tokens)| {
                let ids = tokens
                    .as_ref()
                    .map(|tokens| tokens.iter().map(|token| token.id).collect::<Vec<_>>());
                // Added tokens that are not special are ordinary text.
                let special = |ids: &Vec<u32>| ids.iter().any(|&id| self.is_special(id));
                Split {
                    start,
                    end,
                    ids: ids.filter(special),
                }
            })
            .collect())
    }

    /// The text of `ids`, special tokens left out. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let ordinary: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|&id| !self.is_special(id))
            .collect();
        // Decoding fails only in decoders that replace patterns; none of the known models has one.
        self.ordinary.decode(&ordinary, false).unwrap_or_default()
    }

    /// What each token adds to the text, special tokens included: empty for a token that ends
    /// inside a character; the one that completes it carries it.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let mut pieces = self.piece_stream();
        ids.iter().map(|&id| pieces.push(id)).collect()
    }

    /// The same, token by token, for an answer while it is written.
    pub fn piece_stream(&self) -> Pieces<'_> {
        if self.byte_level {
            Pieces::of_bytes(&self.ordinary)
        } else {
            Pieces::of_decoder(&self.ordinary)
        }
    }

    /// Whether `id` is a special token (`<|im_end|>`), which is no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.specials
            .get_added_tokens_decoder()
            .get(&id)
            .is_some_and(|token| token.special)
    }

    /// The id of the token that is spelt exactly so in the vocabulary, special tokens included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.specials.token_to_id(token, self.ordinary.get_model())
    }
}

fn check_length(text: &str) -> Result<(), TokenizerError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(TokenizerError::TextTooLong { bytes: text.len() });
    }
    Ok(())
}
