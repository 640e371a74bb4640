//! The browser's regular expressions and normal form: it has both, with the tables of Unicode that they need.

use js_sys::JsString;
use std::ops::Range;
use wasm_bindgen::prelude::{JsValue, wasm_bindgen};

#[wasm_bindgen]
extern "C" {
    // js-sys has both, but lets a refused pattern end the program, and hands the text over again for each match.
    type RegExp;
    #[wasm_bindgen(constructor, catch)]
    fn new(pattern: &str, flags: &str) -> Result<RegExp, JsValue>;
    #[wasm_bindgen(method)]
    fn exec(this: &RegExp, text: &JsString) -> Option<Match>;
    #[wasm_bindgen(method, getter = lastIndex)]
    fn last_index(this: &RegExp) -> u32;
    #[wasm_bindgen(method, setter = lastIndex)]
    fn set_last_index(this: &RegExp, index: u32);

    type Match;
    #[wasm_bindgen(method, getter)]
    fn index(this: &Match) -> u32;
}

pub(super) struct Expression(RegExp);

impl Expression {
    /// Of a pattern as `pattern` translates them.
    ///
    /// # Errors
    /// A pattern that the browser refuses.
    pub fn new(pattern: &str) -> Result<Self, String> {
        RegExp::new(pattern, "gu")
            .map(Self)
            .map_err(|_| format!("the browser refuses the regular expression {pattern}"))
    }

    /// Bytes of the matches, in order.
    pub fn matches(&self, text: &str) -> Vec<Range<usize>> {
        let string = JsString::from(text);
        let mut matches: Vec<Range<usize>> = Vec::new();
        let mut place = Place::default();
        self.0.set_last_index(0);
        while let Some(found) = self.0.exec(&string) {
            let start = place.forward(text, found.index());
            let end = place.forward(text, self.0.last_index());
            // An empty match does not move on by itself, and counts only where none has just ended.
            if start < end {
                matches.push(start..end);
                continue;
            }
            if matches.last().is_none_or(|last| last.end < start) {
                matches.push(start..end);
            }
            let Some(character) = text[end..].chars().next() else {
                break;
            };
            let next = place.units + u32::from(character.len_utf16() == 2) + 1;
            self.0.set_last_index(next);
        }
        matches
    }
}

/// The same place in the browser's text, by units of UTF-16, and in ours, by bytes.
#[derive(Default)]
struct Place {
    units: u32,
    bytes: usize,
}

impl Place {
    /// Goes on to `units`, and says where that is.
    fn forward(&mut self, text: &str, units: u32) -> usize {
        let mut characters = text[self.bytes..].chars();
        while self.units < units
            && let Some(character) = characters.next()
        {
            self.units += if character.len_utf16() == 2 { 2 } else { 1 };
            self.bytes += character.len_utf8();
        }
        self.bytes
    }
}

pub(super) fn nfc(text: &str) -> String {
    JsString::from(text).normalize("NFC").into()
}
