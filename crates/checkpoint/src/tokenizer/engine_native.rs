//! The regular expressions and the normal form of the tests: those of the library, so that what is compared with it is
//! the translation of its patterns and the pipeline around them.

use std::ops::Range;
use tokenizers::NormalizedString;
use tokenizers::utils::SysRegex;

pub(super) struct Expression(SysRegex);

impl Expression {
    /// Of a pattern as `pattern` translates them.
    ///
    /// # Errors
    /// What the engine says to a pattern that it refuses.
    pub fn new(pattern: &str) -> Result<Self, String> {
        SysRegex::new(pattern)
            .map(Self)
            .map_err(|error| format!("the regular expression {pattern} is refused: {error}"))
    }

    /// Bytes of the matches, in order.
    pub fn matches(&self, text: &str) -> Vec<Range<usize>> {
        self.0
            .find_iter(text)
            .map(|(start, end)| start..end)
            .collect()
    }
}

pub(super) fn nfc(text: &str) -> String {
    let mut text = NormalizedString::from(text);
    text.nfc();
    text.get().to_owned()
}
