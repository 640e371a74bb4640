//! A message's tokens in addition to its text: where the text is cut, which ids the pieces have, and coarse readings.
//!
//! A model's tokenizer is not there when a link is opened, so cuts and ids are written down; what a
//! reader can guess is left out. Cuts: those that differ from [`usual_cut`]. Ids: a piece that occurred
//! before has the id that it had then. These rules are part of version 1 of the format and never change.

use crate::recipe::sextets::{character, pack_indices, sextet, unpack_indices};
use crate::recipe::{RecipeError, refuse};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use trimtab_engine::TokenId;
use ts_rs::TS;

/// No published vocabulary has a million tokens.
pub const MAX_TOKEN_ID: u32 = (1 << 24) - 1;
/// Characters of a [`prompts_mark`].
pub const MARK_CHARS: usize = 6;
/// Readings are kept in steps of half a deviation, up to three and a half either way.
pub const READING_STEP: f32 = 0.5;
const LARGEST_LEVEL: f32 = 7.0;
/// Level of a reading of 0; level 0 is no reading.
const MIDDLE: u8 = 8;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "SharedToken")]
pub struct RecipeToken {
    pub id: TokenId,
    /// Text that the token adds; empty for a token that ends inside a character.
    pub text: String,
    /// Reading of the trait and layer that the author looked at, in deviations, a multiple of
    /// [`READING_STEP`]; `None` where there is none.
    #[serde(default)]
    pub reading: Option<f32>,
}

/// A reading as a link carries it: the nearest step, `None` for NaN.
pub fn coarse(reading: f32) -> Option<f32> {
    (!reading.is_nan()).then(|| {
        let level = (reading / READING_STEP).round();
        // Adding zero makes −0 plain 0.
        level.clamp(-LARGEST_LEVEL, LARGEST_LEVEL) * READING_STEP + 0.0
    })
}

/// Tells prompts apart: [`MARK_CHARS`] characters of the SHA-256 over every prompt's length and ids.
pub fn prompts_mark<'a>(prompts: impl IntoIterator<Item = &'a [TokenId]>) -> String {
    let mut digest = Sha256::new();
    for prompt in prompts {
        digest.update((prompt.len() as u32).to_le_bytes());
        for token in prompt {
            digest.update(token.0.to_le_bytes());
        }
    }
    let mut mark = URL_SAFE_NO_PAD.encode(digest.finalize());
    mark.truncate(MARK_CHARS);
    mark
}

/// One message's tokens as a link carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackedTokens {
    /// Indices of tokens without text.
    pub empty: String,
    /// Places between two characters whose cut differs from the usual.
    pub cuts: String,
    /// Indices of tokens whose piece occurred before with another id.
    pub again: String,
    /// Ids of new pieces, of tokens without text, and of those in `again`; first the sextets of each.
    pub ids: String,
    /// Two readings a byte, base64url; empty where no token has one.
    pub readings: String,
}

/// The id that each piece had last, across the messages of a recipe.
#[derive(Debug, Default)]
pub(crate) struct KnownPieces(HashMap<String, u32>);

/// True if tokenizers usually cut between two characters.
fn usual_cut(before: char, after: char) -> bool {
    let apostrophe = |c: char| matches!(c, '\'' | '’');
    let mark = |c: char| !c.is_alphanumeric() && !c.is_whitespace();
    if after.is_whitespace() {
        return before != after;
    }
    if before == ' ' {
        return after.is_numeric();
    }
    if after.is_alphabetic() {
        return !(before.is_alphabetic() || apostrophe(before));
    }
    !(mark(before) && mark(after))
}

impl PackedTokens {
    pub fn pack(tokens: &[RecipeToken], known: &mut KnownPieces) -> Self {
        let empty = |(index, token): (usize, &RecipeToken)| token.text.is_empty().then_some(index);
        let mut again = Vec::new();
        let mut ids = Vec::new();
        for (index, token) in tokens.iter().enumerate() {
            let id = token.id.0;
            if token.text.is_empty() {
                ids.push(id);
                continue;
            }
            match known.0.insert(token.text.clone(), id) {
                Some(before) if before == id => {}
                Some(_) => {
                    again.push(index);
                    ids.push(id);
                }
                None => ids.push(id),
            }
        }
        Self {
            empty: pack_indices(tokens.iter().enumerate().filter_map(empty)),
            cuts: pack_cuts(tokens),
            again: pack_indices(again),
            ids: pack_ids(&ids),
            readings: pack_readings(tokens),
        }
    }

    /// The tokens of `text`.
    pub fn unpack(
        &self,
        text: &str,
        known: &mut KnownPieces,
    ) -> Result<Vec<RecipeToken>, RecipeError> {
        let mut pieces = unpack_cuts(text, &self.cuts)?.into_iter();
        // Empty tokens may only stand before or between as many others, or after the last.
        let bound = text.len() + self.empty.len();
        let mut empty = unpack_indices(&self.empty, bound)?.into_iter().peekable();
        let again = unpack_indices(&self.again, bound)?;
        let mut ids = unpack_ids(&self.ids)?.into_iter();
        let mut next_id = || ids.next().ok_or_else(|| refuse("token ids", "are too few"));
        let mut tokens: Vec<RecipeToken> = Vec::new();
        loop {
            let index = tokens.len();
            let (text, id) = if empty.next_if_eq(&index).is_some() {
                (String::new(), next_id()?)
            } else {
                let Some(piece) = pieces.next() else { break };
                let id = match known.0.get(piece) {
                    Some(&id) if again.binary_search(&index).is_err() => id,
                    _ => next_id()?,
                };
                known.0.insert(piece.to_owned(), id);
                (piece.to_owned(), id)
            };
            tokens.push(RecipeToken {
                id: TokenId(id),
                text,
                reading: None,
            });
        }
        if empty.next().is_some() || ids.next().is_some() {
            return Err(refuse("tokens", "do not fit its text"));
        }
        unpack_readings(&self.readings, &mut tokens)?;
        Ok(tokens)
    }
}

fn pack_cuts(tokens: &[RecipeToken]) -> String {
    let mut unusual = Vec::new();
    let mut before: Option<char> = None;
    let mut place = 0;
    for token in tokens {
        for (index, after) in token.text.chars().enumerate() {
            if let Some(before) = before {
                if usual_cut(before, after) != (index == 0) {
                    unusual.push(place);
                }
                place += 1;
            }
            before = Some(after);
        }
    }
    pack_indices(unusual)
}

fn unpack_cuts<'a>(text: &'a str, cuts: &str) -> Result<Vec<&'a str>, RecipeError> {
    let mut unusual = unpack_indices(cuts, text.chars().count().saturating_sub(1))?
        .into_iter()
        .peekable();
    let mut pieces = Vec::new();
    let mut start = 0;
    let ends = text.char_indices().zip(text.char_indices().skip(1));
    for (place, ((_, before), (at, after))) in ends.enumerate() {
        if usual_cut(before, after) != unusual.next_if_eq(&place).is_some() {
            pieces.push(&text[start..at]);
            start = at;
        }
    }
    if start < text.len() {
        pieces.push(&text[start..]);
    }
    Ok(pieces)
}

/// One character for the sextets of an id, then the ids, highest sextet first.
fn pack_ids(ids: &[u32]) -> String {
    let Some(largest) = ids.iter().max() else {
        return String::new();
    };
    let width = (32 - largest.leading_zeros()).div_ceil(6).max(1) as usize;
    let mut text = String::with_capacity(1 + ids.len() * width);
    text.push(character(width));
    for id in ids {
        for place in (0..width).rev() {
            text.push(character((id >> (6 * place)) as usize));
        }
    }
    text
}

fn unpack_ids(text: &str) -> Result<Vec<u32>, RecipeError> {
    let Some((&width, digits)) = text.as_bytes().split_first() else {
        return Ok(Vec::new());
    };
    let width = sextet(width)?;
    if !(1..=4).contains(&width) || !digits.len().is_multiple_of(width) {
        return Err(refuse("token ids", "have another length than they say"));
    }
    digits
        .chunks(width)
        .map(|digits| {
            digits
                .iter()
                .try_fold(0, |id, &digit| Ok(id << 6 | sextet(digit)? as u32))
        })
        .collect()
}

fn pack_readings(tokens: &[RecipeToken]) -> String {
    if tokens.iter().all(|token| token.reading.is_none()) {
        return String::new();
    }
    let level = |token: &RecipeToken| {
        token.reading.and_then(coarse).map_or(0, |reading| {
            (f32::from(MIDDLE) + reading / READING_STEP) as u8
        })
    };
    let bytes: Vec<u8> = tokens
        .chunks(2)
        .map(|pair| level(&pair[0]) << 4 | pair.get(1).map_or(0, level))
        .collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unpack_readings(text: &str, tokens: &mut [RecipeToken]) -> Result<(), RecipeError> {
    if text.is_empty() {
        return Ok(());
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| refuse("readings", "are not base64url"))?;
    if bytes.len() != tokens.len().div_ceil(2) {
        return Err(refuse("readings", "are not one a token"));
    }
    for (index, token) in tokens.iter_mut().enumerate() {
        let level = match index % 2 {
            0 => bytes[index / 2] >> 4,
            _ => bytes[index / 2] & 15,
        };
        let reading = (f32::from(level) - f32::from(MIDDLE)) * READING_STEP;
        token.reading = (level > 0).then_some(reading);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: u32, text: &str) -> RecipeToken {
        RecipeToken {
            id: TokenId(id),
            text: text.into(),
            reading: None,
        }
    }

    fn there_and_back(tokens: &[RecipeToken]) -> PackedTokens {
        let packed = PackedTokens::pack(tokens, &mut KnownPieces::default());
        let text: String = tokens.iter().map(|token| token.text.as_str()).collect();
        let back = packed.unpack(&text, &mut KnownPieces::default()).unwrap();
        assert_eq!(back, tokens);
        packed
    }

    #[test]
    fn ordinary_words_cost_nothing_but_their_ids() {
        let packed = there_and_back(&[
            token(1, "It"),
            token(2, "'s"),
            token(3, " a"),
            token(4, " day"),
            token(5, "."),
            token(3, " a"),
        ]);
        assert_eq!(packed.cuts, "");
        // Five new pieces, one sextet each.
        assert_eq!(packed.ids, "BBCDEF");
    }

    #[test]
    fn unusual_cuts_empty_tokens_and_a_piece_with_two_ids_come_back() {
        let packed = there_and_back(&[
            token(7, ""),
            token(70_000, "un"),
            token(2, "usual"),
            token(2, ""),
            token(9, ""),
            token(11, "🌊"),
            token(3, "un"),
            token(3, "un"),
            token(70_000, "un"),
            token(0, ""),
        ]);
        assert_eq!(packed.empty.len(), 4);
        assert_eq!(packed.again.len(), 2);
    }

    #[test]
    fn ids_are_remembered_across_messages() {
        let mut known = KnownPieces::default();
        let one = [token(5, "Yes"), token(6, ".")];
        PackedTokens::pack(&one, &mut known);
        assert_eq!(PackedTokens::pack(&one, &mut known).ids, "");
    }

    #[test]
    fn readings_are_kept_in_half_deviations() {
        let mut tokens = [token(1, "a"), token(2, " b"), token(3, " c")];
        tokens[0].reading = coarse(0.74);
        tokens[2].reading = coarse(-90.0);
        assert_eq!(
            (tokens[0].reading, tokens[2].reading),
            (Some(0.5), Some(-3.5))
        );
        assert_eq!(coarse(f32::NAN), None);
        there_and_back(&tokens);
    }

    #[test]
    fn what_does_not_fit_the_text_is_refused() {
        let unpack = |packed: &PackedTokens| {
            packed
                .unpack("a b", &mut KnownPieces::default())
                .map(|tokens| tokens.len())
                .map_err(|error| error.to_string())
        };
        let good = PackedTokens {
            ids: "BBC".into(),
            ..PackedTokens::default()
        };
        assert_eq!(unpack(&good), Ok(2));
        let with = |change: fn(&mut PackedTokens)| {
            let mut packed = good.clone();
            change(&mut packed);
            unpack(&packed).unwrap_err()
        };
        assert!(with(|packed| packed.ids = "BB".into()).contains("too few"));
        assert!(with(|packed| packed.ids = "BBCD".into()).contains("do not fit"));
        assert!(with(|packed| packed.ids = "CBC".into()).contains("too few"));
        assert!(with(|packed| packed.ids = "BB?".into()).contains("base64url"));
        assert!(with(|packed| packed.ids = "9BB".into()).contains("another length"));
        assert!(with(|packed| packed.cuts = "C".into()).contains("outside"));
        assert!(with(|packed| packed.empty = "D".into()).contains("do not fit"));
        assert!(with(|packed| packed.readings = "AAAA".into()).contains("one a token"));
    }

    proptest::proptest! {
        #[test]
        fn any_pieces_come_back(pieces in proptest::collection::vec(("[ a-c'.é0-2\n🌊]{0,4}", 0_u32..100_000), 0..40)) {
            let tokens: Vec<RecipeToken> = pieces
                .iter()
                .enumerate()
                .map(|(index, (text, id))| RecipeToken {
                    reading: coarse(index as f32 - 20.0).filter(|_| index % 3 > 0),
                    ..token(*id, text)
                })
                .collect();
            there_and_back(&tokens);
        }
    }
}
