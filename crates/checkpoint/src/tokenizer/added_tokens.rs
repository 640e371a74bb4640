//! Tokens that are found in a text before the model sees it, as the library's `AddedVocabulary` finds them.

use super::engine::Expression;
use super::normalizing::Normalizing;
use super::pattern::WORD;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizer::Range as Of;
use tokenizers::{AddedToken, Model, NormalizedString, PreTokenizedString, Token};

pub(super) struct AddedTokens {
    ids: BTreeMap<String, u32>,
    tokens: BTreeMap<u32, AddedToken>,
    /// Contents that were special once; the library leaves them so.
    specials: BTreeSet<String>,
    /// Where the normalizer changes a content that is to be found after it.
    normalised: BTreeMap<u32, String>,
    verbatim: Finder,
    after_normalizing: Finder,
    word: Option<Expression>,
}

/// Of a text, with its token where it is an added one.
type Part = (NormalizedString, Option<Vec<Token>>);

/// Special tokens in a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Specials {
    Found,
    OrdinaryText,
}

/// As it stands in the file; the order there gives the id, where the model does not.
#[derive(Deserialize)]
pub(super) struct Entry {
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

impl AddedTokens {
    /// # Errors
    /// Contents that the normalizer makes empty or equal, as in the library.
    pub fn new(
        entries: Vec<Entry>,
        model: &BPE,
        normalizing: &Normalizing,
    ) -> Result<Self, String> {
        let mut added = Self {
            ids: BTreeMap::new(),
            tokens: BTreeMap::new(),
            specials: BTreeSet::new(),
            normalised: BTreeMap::new(),
            verbatim: Finder::default(),
            after_normalizing: Finder::default(),
            word: None,
        };
        let size = u32::try_from(model.get_vocab_size())
            .map_err(|_| "its vocabulary is too large".to_owned())?;
        let mut next_id = size;
        for entry in entries {
            if entry.content.is_empty() {
                continue;
            }
            let token = AddedToken::from(entry.content, entry.special)
                .single_word(entry.single_word)
                .lstrip(entry.lstrip)
                .rstrip(entry.rstrip)
                .normalized(entry.normalized);
            let id = added.id(&token.content, model).unwrap_or_else(|| {
                next_id += 1;
                next_id - 1
            });
            if token.normalized {
                let mut content = NormalizedString::from(token.content.as_str());
                normalizing
                    .apply(&mut content)
                    .map_err(|error| error.to_string())?;
                if content.get() != token.content {
                    added.normalised.insert(id, content.get().to_owned());
                }
            }
            if token.single_word && added.word.is_none() {
                added.word = Some(Expression::new(&format!("[{WORD}]"))?);
            }
            if token.special {
                added.specials.insert(token.content.clone());
            }
            added.ids.insert(token.content.clone(), id);
            added.tokens.insert(id, token);
        }
        let of = |normalized: bool| {
            let tokens = added.tokens.iter();
            let tokens = tokens.filter(move |(_, token)| token.normalized == normalized);
            tokens.map(|(&id, token)| (added.spelling(id, token).to_owned(), id))
        };
        let finders = (Finder::new(of(false))?, Finder::new(of(true))?);
        (added.verbatim, added.after_normalizing) = finders;
        Ok(added)
    }

    fn spelling<'a>(&'a self, id: u32, token: &'a AddedToken) -> &'a str {
        let normalised = self.normalised.get(&id).filter(|_| token.normalized);
        normalised.map_or(token.content.as_str(), String::as_str)
    }

    /// The id of an added token or of one of the model's.
    pub fn id(&self, token: &str, model: &BPE) -> Option<u32> {
        let added = self.ids.get(token).copied();
        added.or_else(|| model.token_to_id(token))
    }

    /// How an added token is spelt for the decoder.
    pub fn token(&self, id: u32) -> Option<String> {
        let token = self.tokens.get(&id)?;
        let normalised = self.normalised.get(&id);
        Some(normalised.unwrap_or(&token.content).clone())
    }

    pub fn is_special(&self, id: u32) -> bool {
        self.tokens.get(&id).is_some_and(|token| token.special)
    }

    /// Those that are not the model's.
    pub fn beyond(&self, model: &BPE) -> usize {
        let contents = self.ids.keys();
        contents
            .filter(|content| model.token_to_id(content).is_none())
            .count()
    }

    /// `text` cut at its added tokens: first at those that stand in it, then, in what was normalised between them, at
    /// those that are looked for there.
    ///
    /// # Errors
    /// What the normalizer says.
    pub fn extract(
        &self,
        text: &str,
        specials: Specials,
        normalizing: Option<&Normalizing>,
    ) -> Result<PreTokenizedString, tokenizers::Error> {
        let mut pieces = PreTokenizedString::from(text);
        pieces.split(|_, piece| self.cut(&piece, &self.verbatim, specials))?;
        pieces.split(|_, mut piece| {
            if let Some(normalizing) = normalizing {
                normalizing.apply(&mut piece)?;
            }
            self.cut(&piece, &self.after_normalizing, specials)
        })?;
        Ok(pieces)
    }

    fn cut(
        &self,
        piece: &NormalizedString,
        finder: &Finder,
        specials: Specials,
    ) -> Result<Vec<Part>, tokenizers::Error> {
        self.places(piece.get(), finder, specials)
            .into_iter()
            .map(|(range, id)| {
                let part = piece
                    .slice(Of::Normalized(range))
                    .ok_or("an added token does not end with a character")?;
                let token = id.map(|id| {
                    let value = part.get().to_owned();
                    let length = value.len();
                    vec![Token::new(id, value, (0, length))]
                });
                Ok((part, token))
            })
            .collect()
    }

    fn places(
        &self,
        text: &str,
        finder: &Finder,
        specials: Specials,
    ) -> Vec<(Range<usize>, Option<u32>)> {
        let mut places = Vec::new();
        let mut done = 0;
        let mut from = 0;
        while let Some((found, id)) = finder.next(text, from) {
            // Also behind a token that is left alone: the library goes on there.
            from = found.end;
            let Some(token) = self.tokens.get(&id) else {
                continue;
            };
            let as_text =
                specials == Specials::OrdinaryText && self.specials.contains(&token.content);
            let (before, behind) = (&text[..found.start], &text[found.end..]);
            let inside_word =
                || self.is_word(before.chars().next_back()) || self.is_word(behind.chars().next());
            if as_text || (token.single_word && inside_word()) {
                continue;
            }
            let (mut start, mut end) = (found.start, found.end);
            if token.lstrip {
                // Blanks that the token before took are gone.
                start = before.trim_end().len().max(done);
            }
            if token.rstrip {
                end = text.len() - behind.trim_start().len();
            }
            if done < start {
                places.push((done..start, None));
            }
            places.push((start..end, Some(id)));
            done = end;
        }
        if done < text.len() {
            places.push((done..text.len(), None));
        }
        places
    }

    fn is_word(&self, character: Option<char>) -> bool {
        let (Some(character), Some(word)) = (character, &self.word) else {
            return false;
        };
        !word.matches(character.encode_utf8(&mut [0; 4])).is_empty()
    }
}

/// Finds the longest of several texts at the first place where any of them stands.
#[derive(Default)]
struct Finder {
    /// Sorted, so that those with a common beginning stand together, the shortest first.
    texts: Vec<(String, u32)>,
    begins: Vec<bool>,
}

impl Finder {
    fn new(texts: impl Iterator<Item = (String, u32)>) -> Result<Self, String> {
        let mut texts: Vec<_> = texts.collect();
        texts.sort();
        if texts.first().is_some_and(|(text, _)| text.is_empty()) {
            return Err("its normalizer leaves nothing of an added token".into());
        }
        if let Some(same) = texts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!(
                "its normalizer makes two added tokens the same, {:?}",
                same[0].0
            ));
        }
        let mut begins = vec![false; 256];
        for (text, _) in &texts {
            begins[usize::from(text.as_bytes()[0])] = true;
        }
        Ok(Self { texts, begins })
    }

    fn next(&self, text: &str, from: usize) -> Option<(Range<usize>, u32)> {
        if self.texts.is_empty() {
            return None;
        }
        let bytes = text.as_bytes();
        (from..bytes.len())
            .filter(|&at| self.begins[usize::from(bytes[at])])
            .find_map(|at| {
                let (length, id) = self.longest(&bytes[at..])?;
                Some((at..at + length, id))
            })
    }

    /// The longest that `bytes` begin with.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, u32)> {
        let mut candidates = &self.texts[..];
        let mut longest = None;
        for (depth, byte) in bytes.iter().enumerate() {
            let at = |(text, _): &(String, u32)| text.as_bytes().get(depth).copied();
            let start = candidates.partition_point(|text| at(text) < Some(*byte));
            let end = candidates.partition_point(|text| at(text) <= Some(*byte));
            candidates = &candidates[start..end];
            match candidates.first() {
                None => break,
                Some((text, id)) if text.len() == depth + 1 => longest = Some((depth + 1, *id)),
                Some(_) => {}
            }
        }
        longest
    }
}
