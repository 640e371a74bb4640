//! What each token adds to a text, one token at a time.

use std::collections::HashMap;
use std::sync::LazyLock;
use tokenizers::{
    DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
};

type Stream<'a> = tokenizers::DecodeStream<
    'a,
    ModelWrapper,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// Turns a sequence of tokens into text as it comes. The pieces together are the decoded text, but
/// for a character that was never finished.
pub struct Pieces<'a>(Kind<'a>);

enum Kind<'a> {
    /// Byte-level: tokens are bytes, and those that make no whole character yet wait here.
    Bytes {
        tokenizer: &'a tokenizers::Tokenizer,
        waiting: Vec<u8>,
    },
    /// Any other decoder, by the library's own stream.
    Decoder(Box<Stream<'a>>),
}

impl std::fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces")
    }
}

impl<'a> Pieces<'a> {
    pub(crate) fn of_bytes(tokenizer: &'a tokenizers::Tokenizer) -> Self {
        Self(Kind::Bytes {
            tokenizer,
            waiting: Vec::new(),
        })
    }

    pub(crate) fn of_decoder(tokenizer: &'a tokenizers::Tokenizer) -> Self {
        Self(Kind::Decoder(Box::new(tokenizer.decode_stream(false))))
    }

    /// What `id` adds; empty while a character is unfinished, and for ids outside the vocabulary.
    pub fn push(&mut self, id: u32) -> String {
        match &mut self.0 {
            Kind::Decoder(stream) => stream.step(id).ok().flatten().unwrap_or_default(),
            Kind::Bytes { tokenizer, waiting } => {
                if let Some(token) = tokenizer.id_to_token(id) {
                    waiting.extend(token_bytes(&token));
                }
                take_characters(waiting)
            }
        }
    }
}

/// Bytes of a byte-level token; a token with other characters (a special one) is its own text.
fn token_bytes(token: &str) -> Vec<u8> {
    token
        .chars()
        .map(|character| BYTE_OF.get(&character).copied())
        .collect::<Option<Vec<u8>>>()
        .unwrap_or_else(|| token.as_bytes().to_vec())
}

/// Takes all whole characters from the front of `bytes`; what can be no character becomes U+FFFD,
/// as in `String::from_utf8_lossy`.
fn take_characters(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut done = 0;
    while done < bytes.len() {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(rest) => {
                text.push_str(rest);
                done = bytes.len();
            }
            Err(error) => {
                let valid = done + error.valid_up_to();
                text.push_str(&String::from_utf8_lossy(&bytes[done..valid]));
                done = valid;
                match error.error_len() {
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        done += length;
                    }
                    None => break,
                }
            }
        }
    }
    bytes.drain(..done);
    text
}

/// GPT-2's spelling of bytes as printable characters (`bytes_to_unicode` in OpenAI's encoder.py).
static BYTE_OF: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let mut next = 256;
    let mut spelling = HashMap::new();
    for byte in 0..=u8::MAX {
        let character = if printable(byte) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        };
        spelling.insert(character, byte);
    }
    spelling
});
