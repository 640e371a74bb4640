//! What a text becomes before it is cut: `normalizer` of a `tokenizer.json`.

use super::component::Component;
use super::engine::{self, Expression};
use super::pattern::Pattern;
use serde_json::Value;
use tokenizers::{NormalizedString, Offsets};

/// A character with those behind it that may be composed with it: marks, and the vowels and final consonants of Hangul.
const COMPOSED: &str = r"\P{M}?[\p{M}\u{1160}-\u{11ff}]+";

#[derive(Default)]
pub(super) struct Normalizing(Vec<Step>);

enum Step {
    Prepend(String),
    Replace {
        pattern: Pattern,
        content: String,
    },
    /// Characters and their marks in one, as far as Unicode has them; Qwen's.
    Compose {
        composed: Expression,
    },
}

impl Normalizing {
    /// # Errors
    /// Names what only the program knows.
    pub fn new(normalizer: &Value) -> Result<Self, String> {
        Component::list("normalizer", normalizer, "normalizers")?
            .into_iter()
            .map(|component| {
                Ok(match component.kind {
                    "Prepend" => Step::Prepend(component.text("prepend")?.to_owned()),
                    "Replace" => Step::Replace {
                        pattern: Pattern::of(component)?,
                        content: component.text("content")?.to_owned(),
                    },
                    "NFC" => Step::Compose {
                        composed: Expression::new(COMPOSED)?,
                    },
                    _ => return Err(component.unknown()),
                })
            })
            .collect::<Result<_, String>>()
            .map(Self)
    }

    /// # Errors
    /// None that are known; the library's patterns may have some.
    pub fn apply(&self, text: &mut NormalizedString) -> Result<(), tokenizers::Error> {
        for step in &self.0 {
            match step {
                Step::Prepend(prefix) => {
                    text.prepend(prefix);
                }
                Step::Replace { pattern, content } => {
                    text.replace(SomethingOf(pattern), content)?;
                }
                Step::Compose { composed } => compose(text, composed),
            }
        }
        Ok(())
    }
}

/// A pattern without its empty matches: the library cannot put something where nothing was at the end of a text.
struct SomethingOf<'a>(&'a Pattern);

impl tokenizers::pattern::Pattern for SomethingOf<'_> {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        let mut matches = self.0.find_matches(inside)?;
        matches.retain(|((start, end), found)| !found || start < end);
        Ok(matches)
    }
}

/// Composes what can be, and tells `text` which characters came of which. The browser says what a text becomes, not
/// where; so it is asked about as little at a time as belongs together.
fn compose(text: &mut NormalizedString, composed: &Expression) {
    let whole = text.get();
    if whole.is_ascii() {
        return;
    }
    let expected = engine::nfc(whole);
    if expected == whole {
        return;
    }
    let mut changes = Vec::with_capacity(expected.len());
    let mut done = 0;
    let each = |part: &str, changes: &mut Vec<(char, isize)>| {
        for character in part.chars() {
            change(character.encode_utf8(&mut [0; 4]), changes);
        }
    };
    for found in composed.matches(whole) {
        each(&whole[done..found.start], &mut changes);
        change(&whole[found.clone()], &mut changes);
        done = found.end;
    }
    each(&whole[done..], &mut changes);
    // Characters of a later Unicode may be composed though they are no marks.
    if !changes
        .iter()
        .map(|(character, _)| *character)
        .eq(expected.chars())
    {
        changes.clear();
        change(whole, &mut changes);
    }
    text.transform(changes, 0);
}

/// What `part` becomes, each character with what the library calls its change: how many follow it that are gone, as a
/// negative number, or 1 for one that is new.
fn change(part: &str, changes: &mut Vec<(char, isize)>) {
    let composed = if part.is_ascii() {
        part.to_owned()
    } else {
        engine::nfc(part)
    };
    if composed == part {
        changes.extend(part.chars().map(|character| (character, 0)));
        return;
    }
    let before = part.chars().count();
    let after = composed.chars().count();
    for (index, character) in composed.chars().enumerate() {
        // What is composed becomes the first character.
        let change = if index >= before {
            1
        } else if index == 0 {
            -isize::try_from(before.saturating_sub(after)).unwrap_or(0)
        } else {
            0
        };
        changes.push((character, change));
    }
}
