//! What each token adds to a text, one token at a time.

use crate::tokenizer::{Implementation, token_bytes};

/// Turns a sequence of tokens into text as it comes. The pieces together are the decoded text, but
/// for a character that was never finished.
pub struct Pieces<'a> {
    tokenizer: &'a dyn Implementation,
    kind: Kind,
}

enum Kind {
    /// Byte-level: tokens are bytes, and those that make no whole character yet wait here.
    Bytes { waiting: Vec<u8> },
    /// Any other decoder.
    Decoder(Window),
}

impl std::fmt::Debug for Pieces<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces")
    }
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(tokenizer: &'a dyn Implementation) -> Self {
        let kind = if tokenizer.is_byte_level() {
            Kind::Bytes {
                waiting: Vec::new(),
            }
        } else {
            Kind::Decoder(Window::default())
        };
        Self { tokenizer, kind }
    }

    /// What `id` adds; empty while a character is unfinished, and for ids outside the vocabulary.
    pub fn push(&mut self, id: u32) -> String {
        match &mut self.kind {
            Kind::Decoder(window) => window.push(id, self.tokenizer).unwrap_or_default(),
            Kind::Bytes { waiting } => {
                if let Some(token) = self.tokenizer.token(id) {
                    waiting.extend(token_bytes(&token));
                }
                take_characters(waiting)
            }
        }
    }
}

/// The last tokens, which are decoded together each time: what a decoder makes of a token depends on those before. It is
/// the library's own `DecodeStream`.
#[derive(Default)]
struct Window {
    ids: Vec<u32>,
    /// What the first `known` of them are, and was said.
    text: String,
    known: usize,
}

impl Window {
    /// Nothing while the text ends in an unfinished character, or where the decoder changes what it said.
    fn push(&mut self, id: u32, tokenizer: &dyn Implementation) -> Option<String> {
        if self.text.is_empty() && !self.ids.is_empty() {
            let text = tokenizer.decode(&self.ids).ok()?;
            if !text.ends_with(char::REPLACEMENT_CHARACTER) {
                self.text = text;
                self.known = self.ids.len();
            }
        }
        self.ids.push(id);
        let whole = tokenizer.decode(&self.ids).ok()?;
        if whole.len() <= self.text.len() || whole.ends_with(char::REPLACEMENT_CHARACTER) {
            return None;
        }
        let piece = whole.strip_prefix(&self.text)?.to_owned();
        let known = self.ids.len() - self.known;
        self.ids.drain(..self.known);
        self.text = tokenizer.decode(&self.ids).ok()?;
        self.known = known;
        Some(piece)
    }
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
