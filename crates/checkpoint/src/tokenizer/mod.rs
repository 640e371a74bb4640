//! Text to token ids and back, by Hugging Face's `tokenizers` from the model's own `tokenizer.json`.
//!
//! The program has the library's whole `Tokenizer` ([`library`]). In the browser that would be half of the download:
//! every kind of model and normalizer with its serde, and a regular expression engine with its tables of Unicode.
//! There the library's BPE and its aligned strings stay, and what lies between is put together here from what decoders
//! have ([`pipeline`]), with the browser's own regular expressions. Tests have both and compare them.

#[cfg(any(target_family = "wasm", test))]
mod added_tokens;
#[cfg(test)]
mod agreement;
mod byte_level;
#[cfg(any(target_family = "wasm", test))]
mod component;
#[cfg(any(target_family = "wasm", test))]
mod decoding;
#[cfg(any(target_family = "wasm", test))]
#[cfg_attr(target_family = "wasm", path = "engine_browser.rs")]
#[cfg_attr(not(target_family = "wasm"), path = "engine_native.rs")]
mod engine;
#[cfg(not(target_family = "wasm"))]
mod library;
#[cfg(any(target_family = "wasm", test))]
mod model;
#[cfg(any(target_family = "wasm", test))]
mod normalizing;
#[cfg(any(target_family = "wasm", test))]
mod offsets;
#[cfg(any(target_family = "wasm", test))]
mod pattern;
#[cfg(any(target_family = "wasm", test))]
mod pipeline;
#[cfg(any(target_family = "wasm", test))]
mod splitting;

use crate::pieces::Pieces;
pub(crate) use byte_level::token_bytes;
#[cfg(target_family = "wasm")]
use std::rc::Rc as Counted;
#[cfg(not(target_family = "wasm"))]
use std::sync::Arc as Counted;

/// Longest `tokenizer.json` that is read, in bytes (the largest published ones have 35 MB).
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;
/// Longest text that is encoded at once, in bytes.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

#[cfg(not(target_family = "wasm"))]
type Shared = Counted<dyn Implementation + Send + Sync>;
/// The browser's regular expressions stay on their thread.
#[cfg(target_family = "wasm")]
type Shared = Counted<dyn Implementation>;

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

/// What encodes and decodes. Lengths are checked before.
pub(crate) trait Implementation {
    /// Tokens, added ones included.
    fn vocabulary_size(&self) -> usize;
    /// `(id, end)` of each token of `text`, in which special tokens are ordinary text.
    fn encode(&self, text: &str) -> Result<Vec<(u32, usize)>, String>;
    /// Cuts a text that is not empty at its added tokens, special and not.
    fn split_added(&self, text: &str) -> Result<Vec<Split>, String>;
    /// Ids outside the vocabulary are no text.
    fn decode(&self, ids: &[u32]) -> Result<String, String>;
    /// How `id` is spelt for the decoder.
    fn token(&self, id: u32) -> Option<String>;
    fn id(&self, token: &str) -> Option<u32>;
    fn is_special(&self, id: u32) -> bool;
    /// Whether the decoder makes bytes of the tokens and text of the bytes, and nothing else.
    fn is_byte_level(&self) -> bool;
}

/// A model's tokenizer. Nothing is ever prepended or appended to what it encodes.
#[derive(Clone)]
pub struct Tokenizer(Shared);

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocabulary", &self.vocabulary_size())
            .finish_non_exhaustive()
    }
}

/// Part of a text: an added token, or what stands between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    /// Bytes in the text.
    pub start: usize,
    pub end: usize,
    /// The id, for an added token.
    pub id: Option<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`. Truncation and padding that it may ask for are switched off.
    ///
    /// # Errors
    /// [`TokenizerError::Unusable`] for a file that the library cannot read; in the browser also for one with parts that
    /// only the program knows, which the sentence names.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        #[cfg(not(target_family = "wasm"))]
        use library::Library as Preferred;
        #[cfg(target_family = "wasm")]
        use pipeline::Pipeline as Preferred;
        check_file(json)?;
        let implementation =
            Preferred::from_json(json).map_err(|reason| TokenizerError::Unusable { reason })?;
        Ok(Self(Counted::new(implementation)))
    }

    /// As the browser reads it.
    #[cfg(all(test, not(target_family = "wasm")))]
    pub(crate) fn from_json_as_browser(json: &[u8]) -> Result<Self, TokenizerError> {
        check_file(json)?;
        let implementation = pipeline::Pipeline::from_json(json)
            .map_err(|reason| TokenizerError::Unusable { reason })?;
        Ok(Self(Counted::new(implementation)))
    }

    /// Tokens, special ones included. Ids are below this for every published tokenizer.
    pub fn vocabulary_size(&self) -> usize {
        self.0.vocabulary_size()
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
            match split.id {
                Some(special) => ids.push(special),
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
        self.0
            .encode(text)
            .map_err(|reason| TokenizerError::Encoding { reason })
    }

    /// Cuts `text` at its special tokens.
    pub(crate) fn split_specials(&self, text: &str) -> Result<Vec<Split>, TokenizerError> {
        check_length(text)?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut splits = self
            .0
            .split_added(text)
            .map_err(|reason| TokenizerError::Encoding { reason })?;
        // Added tokens that are not special are ordinary text.
        for split in &mut splits {
            split.id = split.id.filter(|&id| self.is_special(id));
        }
        Ok(splits)
    }

    /// The text of `ids`, special tokens left out. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let ordinary: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|&id| !self.is_special(id))
            .collect();
        // Decoding fails only in decoders that replace patterns; none of the known models has one.
        self.0.decode(&ordinary).unwrap_or_default()
    }

    /// What each token adds to the text, special tokens included: empty for a token that ends
    /// inside a character; the one that completes it carries it.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let mut pieces = self.piece_stream();
        ids.iter().map(|&id| pieces.push(id)).collect()
    }

    /// The same, token by token, for an answer while it is written.
    pub fn piece_stream(&self) -> Pieces<'_> {
        Pieces::new(&*self.0)
    }

    /// Whether `id` is a special token (`<|im_end|>`), which is no text.
    pub fn is_special(&self, id: u32) -> bool {
        self.0.is_special(id)
    }

    /// The id of the token that is spelt exactly so in the vocabulary, special tokens included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.0.id(token)
    }
}

fn check_file(json: &[u8]) -> Result<(), TokenizerError> {
    if json.len() > MAX_TOKENIZER_BYTES {
        return Err(TokenizerError::TooLong { bytes: json.len() });
    }
    Ok(())
}

fn check_length(text: &str) -> Result<(), TokenizerError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(TokenizerError::TextTooLong { bytes: text.len() });
    }
    Ok(())
}
