//! Marks that say which special tokens in a rendered conversation were spelt by a message.

use super::{ChatError, MAX_MESSAGES, Message};
use crate::tokenizer::Tokenizer;
use std::ops::Range;

/// A conversation as rendered.
pub(super) struct Rendered {
    pub text: String,
    /// The ranges of `text` in which messages spell special tokens, in order. They are ordinary text.
    pub lookalikes: Vec<Range<usize>>,
}

/// Special tokens that messages spell.
pub(super) struct Lookalikes {
    /// The ranges in each message.
    ranges: Vec<Vec<Range<usize>>>,
    /// Each spelling once, longer ones first.
    spellings: Vec<String>,
}

impl Lookalikes {
    pub fn find(tokenizer: &Tokenizer, messages: &[Message]) -> Result<Self, ChatError> {
        let mut ranges = Vec::with_capacity(messages.len());
        let mut spellings = Vec::new();
        for Message { content, .. } in messages {
            let splits = tokenizer.split_specials(content)?.into_iter();
            let found: Vec<Range<usize>> = splits
                .filter(|split| split.id.is_some())
                .map(|split| split.start..split.end)
                .collect();
            spellings.extend(found.iter().map(|range| content[range.clone()].to_owned()));
            ranges.push(found);
        }
        spellings.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        spellings.dedup();
        Ok(Self { ranges, spellings })
    }

    pub fn is_empty(&self) -> bool {
        self.spellings.is_empty()
    }

    /// The messages with a mark behind every character of what looks like a special token, so that no shorter one is left
    /// inside.
    pub fn broken(&self, messages: &[Message], marks: Marks) -> Vec<Message> {
        self.respelt(messages, |spelling, content| {
            for character in spelling.chars() {
                content.push(character);
                content.push(marks.lookalike());
            }
        })
    }

    /// The messages with each special token twice and a mark between: a template that asks what a content contains, begins
    /// or ends with, or that cuts it there, does the same as without.
    pub fn doubled(&self, messages: &[Message], marks: Marks) -> Vec<Message> {
        self.respelt(messages, |spelling, content| {
            content.push_str(spelling);
            content.push(marks.lookalike());
            content.push_str(spelling);
        })
    }

    fn respelt(&self, messages: &[Message], respell: impl Fn(&str, &mut String)) -> Vec<Message> {
        let respelt = messages.iter().zip(&self.ranges).map(|(message, ranges)| {
            let mut content = String::with_capacity(message.content.len());
            let mut at = 0;
            for range in ranges {
                content.push_str(&message.content[at..range.start]);
                respell(&message.content[range.clone()], &mut content);
                at = range.end;
            }
            content.push_str(&message.content[at..]);
            Message {
                role: message.role.clone(),
                content,
            }
        });
        respelt.collect()
    }

    /// Undoes [`Self::doubled`] in a rendered text. A mark without its token is what a template leaves that cuts contents
    /// there. Nothing, where half of a doubled token may be left: it could not be told from the template's own.
    pub fn doubled_tokens(&self, rendered: &str, marks: Marks) -> Option<Rendered> {
        let mark = marks.lookalike();
        let mut text = String::with_capacity(rendered.len());
        let mut lookalikes: Vec<Range<usize>> = Vec::new();
        let mut rest = rendered;
        while let Some((before, behind)) = rest.split_once(mark) {
            text.push_str(before);
            rest = behind;
            let done = lookalikes.last().is_some_and(|last| last.end == text.len());
            let ends = self
                .spellings
                .iter()
                .find(|s| !done && text.ends_with(s.as_str()));
            let begins = self.spellings.iter().find(|s| rest.starts_with(s.as_str()));
            match (ends, begins) {
                (None, None) => {}
                (Some(one), Some(other)) if one == other => {
                    lookalikes.push(text.len() - one.len()..text.len());
                    rest = &rest[one.len()..];
                }
                (None, Some(next)) => {
                    let doubled = rest[next.len()..].strip_prefix(mark);
                    doubled.filter(|behind| behind.starts_with(next.as_str()))?;
                }
                _ => return None,
            }
        }
        text.push_str(rest);
        Some(Rendered { text, lookalikes })
    }
}

/// Undoes [`Lookalikes::broken`] in a rendered text.
pub(super) fn broken_tokens(rendered: &str, marks: Marks) -> Rendered {
    let mut text = String::with_capacity(rendered.len());
    let mut lookalikes: Vec<Range<usize>> = Vec::new();
    for character in rendered.chars() {
        if character != marks.lookalike() {
            text.push(character);
            continue;
        }
        let start = text.char_indices().next_back().map_or(0, |(at, _)| at);
        match lookalikes.last_mut() {
            Some(last) if last.end >= start => last.end = text.len(),
            _ => lookalikes.push(start..text.len()),
        }
    }
    Rendered { text, lookalikes }
}

/// Private-use characters that stand in no message.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    first: u32,
}

impl Marks {
    pub fn unused_in(messages: &[Message]) -> Result<Self, ChatError> {
        // The two private-use planes and the beginning of the basic one.
        [0xf_0000_u32, 0x10_0000, 0xe000]
            .into_iter()
            .map(|first| Self { first })
            .find(|marks| {
                messages.iter().all(|message| {
                    message
                        .content
                        .chars()
                        .all(|character| marks.index_of(character).is_none())
                })
            })
            .ok_or_else(|| {
                ChatError::Conversation(
                    "the messages use private characters of all three Unicode ranges; remove some"
                        .into(),
                )
            })
    }

    /// The mark of a special token that a message spells.
    fn lookalike(self) -> char {
        self.message(MAX_MESSAGES)
    }

    /// The mark of the message of that index.
    pub fn message(self, index: usize) -> char {
        u32::try_from(index)
            .ok()
            .and_then(|index| char::from_u32(self.first + index))
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// The index of the message that `character` is the mark of.
    pub fn index_of(self, character: char) -> Option<usize> {
        let index = u32::from(character).checked_sub(self.first)? as usize;
        (index <= MAX_MESSAGES).then_some(index)
    }
}
