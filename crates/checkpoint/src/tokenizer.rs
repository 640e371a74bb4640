//! Text to token ids and back, by Hugging Face's `tokenizers` from the model's own `tokenizer.json`.
//!
//! The library is asked for three things: to encode a text in which special tokens are ordinary text, to say where special
//! tokens stand in a text in which they are meant, and to decode token by token.

use crate::published_file::plain_text;
use std::sync::Arc;
use tokenizers::{AddedVocabulary, DecoderWrapper, NormalizerWrapper};
use tokenizers::{OffsetReferential, OffsetType, step_decode_stream};

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
pub struct Tokenizer(Arc<Library>);

struct Library {
    /// Reads special tokens in a text as ordinary text.
    ordinary: tokenizers::Tokenizer,
    /// Finds special tokens in a text.
    specials: AddedVocabulary,
}

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
    /// [`TokenizerError::Unusable`] with the library's own sentence for a file that it cannot read.
    pub fn from_json(json: &[u8]) -> Result<Self, TokenizerError> {
        if json.len() > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLong { bytes: json.len() });
        }
        let unusable = |reason: String| TokenizerError::Unusable { reason };
        let json = plain_text(json).map_err(|pointer| unusable(pointer.to_string()))?;
        let mut ordinary = tokenizers::Tokenizer::from_bytes(&json)
            .map_err(|error| unusable(error.to_string()))?;
        ordinary
            .with_truncation(None)
            .map_err(|error| unusable(error.to_string()))?;
        ordinary.with_padding(None);
        let mut specials = ordinary.get_added_vocabulary().clone();
        specials.set_encode_special_tokens(false);
        ordinary.set_encode_special_tokens(true);
        Ok(Self(Arc::new(Library { ordinary, specials })))
    }

    /// The number of tokens, special ones included. Ids are below it for every published tokenizer.
    pub fn vocabulary_size(&self) -> usize {
        self.0.ordinary.get_vocab_size(true)
    }

    /// Ids of `text` as ordinary text: what looks like a special token (`<|im_end|>`) becomes the
    /// tokens of its characters.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoded = self.encode_with_offsets(text)?;
        Ok(encoded.into_iter().map(|(id, _)| id).collect())
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
        let encoding =
            self.0
                .ordinary
                .encode(text, false)
                .map_err(|error| TokenizerError::Encoding {
                    reason: error.to_string(),
                })?;
        let ends = encoding.get_offsets().iter().map(|offsets| offsets.1);
        Ok(encoding.get_ids().iter().copied().zip(ends).collect())
    }

    /// Cuts `text` at its special tokens. Added tokens that are not special are ordinary text.
    pub(crate) fn split_specials(&self, text: &str) -> Result<Vec<Split>, TokenizerError> {
        check_length(text)?;
        let mut splits = self.split_added(text);
        for split in &mut splits {
            split.id = split.id.filter(|&id| self.is_special(id));
        }
        Ok(splits)
    }

    /// The added token, special or not, that `text` begins with.
    pub(crate) fn leading_added_token(&self, text: &str) -> Option<u32> {
        self.split_added(text).first()?.id
    }

    fn split_added(&self, text: &str) -> Vec<Split> {
        if text.is_empty() {
            return Vec::new();
        }
        // Without a normalizer: the ordinary pieces are normalised when they are encoded.
        let pieces = self
            .0
            .specials
            .extract_and_normalize::<NormalizerWrapper>(None, text);
        let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::Byte);
        splits
            .into_iter()
            .map(|(_, (start, end), tokens)| Split {
                start,
                end,
                id: tokens.as_ref().and_then(|tokens| Some(tokens.first()?.id)),
            })
            .collect()
    }

    /// The text of `ids`, special tokens left out. Bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        // Decoding fails only in decoders that replace patterns; none of the known models has one.
        self.0.ordinary.decode(ids, true).unwrap_or_default()
    }

    /// The text that each token adds, special tokens included. It is empty for a token that ends inside a character; the
    /// one that completes the character carries it.
    pub fn pieces(&self, ids: &[u32]) -> Vec<String> {
        let mut pieces = self.piece_stream();
        ids.iter().map(|&id| pieces.push(id)).collect()
    }

    /// A stream that gives these texts token by token, for an answer while it is written.
    pub fn piece_stream(&self) -> Pieces<'_> {
        let library = &self.0.ordinary;
        let byte_level = matches!(library.get_decoder(), Some(DecoderWrapper::ByteLevel(_)));
        let state = if byte_level {
            PieceState::Bytes {
                waiting: Vec::new(),
            }
        } else {
            PieceState::Decoder {
                ids: Vec::new(),
                text: String::new(),
                known: 0,
            }
        };
        Pieces { library, state }
    }

    /// Whether `id` is a special token (`<|im_end|>`), which is no text.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.0.specials.get_added_tokens_decoder();
        added.get(&id).is_some_and(|token| token.special)
    }

    /// The special tokens that the file puts before every text, as they are spelt (its post-processor's; [`Self::encode`] leaves them out).
    pub fn opening(&self) -> String {
        let Ok(encoding) = self.0.ordinary.encode("", true) else {
            return String::new();
        };
        let ids = encoding.get_ids().iter();
        let specials = ids.take_while(|&&id| self.is_special(id));
        // An end of the text is put behind an empty one, too: only what stands before a letter opens it.
        let opened = self.0.ordinary.encode("a", true);
        let opened = opened.map(|opened| opened.get_ids().to_vec());
        let opened = opened.unwrap_or_default();
        let shared = specials
            .zip(&opened)
            .take_while(|(one, other)| one == other);
        shared
            .filter_map(|(&id, _)| self.0.ordinary.id_to_token(id))
            .collect()
    }

    /// The id of the token that is spelt exactly so in the vocabulary, special tokens included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        let Library { ordinary, specials } = &*self.0;
        specials.token_to_id(token, ordinary.get_model())
    }
}

fn check_length(text: &str) -> Result<(), TokenizerError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(TokenizerError::TextTooLong { bytes: text.len() });
    }
    Ok(())
}

/// Turns a sequence of tokens into text as it comes. The pieces together are the decoded text, but
/// for a character that was never finished.
pub struct Pieces<'a> {
    library: &'a tokenizers::Tokenizer,
    state: PieceState,
}

enum PieceState {
    /// Byte-level: tokens are bytes, and those that make no whole character yet wait here. The library's own stream would
    /// hold back all text behind a byte that can be no character.
    Bytes { waiting: Vec<u8> },
    /// Any other decoder: the library's stream, which decodes the last tokens together each time.
    Decoder {
        ids: Vec<u32>,
        /// The text of the first `known` ids, which has been given out.
        text: String,
        known: usize,
    },
}

impl std::fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces")
    }
}

impl Pieces<'_> {
    /// The text that `id` adds; empty while a character is unfinished, and for ids outside the vocabulary.
    pub fn push(&mut self, id: u32) -> String {
        match &mut self.state {
            PieceState::Bytes { waiting } => {
                if let Some(token) = self.library.id_to_token(id) {
                    waiting.extend(token_bytes(&token));
                }
                take_characters(waiting)
            }
            PieceState::Decoder { ids, text, known } => {
                let piece = step_decode_stream(self.library, vec![id], false, ids, text, known);
                piece.ok().flatten().unwrap_or_default()
            }
        }
    }
}

/// Bytes of a byte-level token; a token with other characters (a special one) is its own text.
fn token_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(spelt_byte).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

/// The byte that byte-level BPE spells as this character (`bytes_to_unicode` in OpenAI's encoder.py): printable bytes are
/// themselves; those up to the blank, those from 0x7f to the no-break space, and the soft hyphen are spelt from 0x100 on.
fn spelt_byte(character: char) -> Option<u8> {
    let code = u32::from(character);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// Takes all whole characters from the front of `bytes`; what can be no character becomes U+FFFD,
/// as in `String::from_utf8_lossy`.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        done += chunk.valid().len();
        let end = done + chunk.invalid().len();
        // An invalid end may be the beginning of a character.
        if end == bytes.len() && is_unfinished(chunk.invalid()) {
            break;
        }
        if !chunk.invalid().is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        done = end;
    }
    bytes.drain(..done);
    text
}

fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn every_character_of_the_librarys_alphabet_is_a_byte_of_its_own() {
        let alphabet = ByteLevel::alphabet();
        let bytes: BTreeSet<u8> = alphabet.iter().filter_map(|c| spelt_byte(*c)).collect();
        assert_eq!((alphabet.len(), bytes.len()), (256, 256));
        assert_eq!(token_bytes("Ġé"), b" \xe9");
        assert_eq!(token_bytes("é ."), "é .".as_bytes());
    }
}
