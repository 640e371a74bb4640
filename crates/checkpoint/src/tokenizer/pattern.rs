//! The regular expressions of a `tokenizer.json`, in the part of the language that Rust and the browser read alike.

use super::component::Component;
use super::engine::Expression;
use serde_json::Value;
use std::iter::Peekable;
use std::ops::Range;
use std::str::Chars;
use tokenizers::Offsets;

/// GPT-2's, which `ByteLevel` means by `use_regex`.
pub(super) const GPT_2: &str =
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// What the regular expressions of Rust call `\w`, inside a class.
pub(super) const WORD: &str = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}";

/// What a text is searched for.
pub(super) enum Pattern {
    Text(String),
    Expression(Expression),
}

impl Pattern {
    /// # Errors
    /// Parts of a regular expression that are not known here, and what the engine refuses.
    pub fn expression(source: &str) -> Result<Self, String> {
        Ok(Self::Expression(Expression::new(&translate(source)?)?))
    }

    /// `{"String": …}` or `{"Regex": …}` under `pattern`.
    ///
    /// # Errors
    /// Neither of the two; an empty text; the same as [`Pattern::expression`].
    pub fn of(component: Component) -> Result<Self, String> {
        let pattern = component.get("pattern");
        let part = |name: &str| {
            pattern
                .and_then(|pattern| pattern.get(name))
                .and_then(Value::as_str)
        };
        match (part("String"), part("Regex")) {
            (Some(""), _) => Err(component.wrong("looks for an empty text")),
            (Some(text), _) => Ok(Self::Text(text.to_owned())),
            (None, Some(source)) => Self::expression(source).map_err(|reason| {
                component.wrong(&format!("has a pattern that cannot be used: {reason}"))
            }),
            (None, None) => Err(component.wrong("has no pattern")),
        }
    }

    fn matches(&self, text: &str) -> Vec<Range<usize>> {
        match self {
            Self::Text(part) => text
                .match_indices(part.as_str())
                .map(|(start, part)| start..start + part.len())
                .collect(),
            Self::Expression(expression) => expression.matches(text),
        }
    }
}

impl tokenizers::pattern::Pattern for &Pattern {
    fn find_matches(&self, inside: &str) -> tokenizers::Result<Vec<(Offsets, bool)>> {
        if inside.is_empty() {
            return Ok(vec![((0, 0), false)]);
        }
        let mut parts = Vec::new();
        let mut done = 0;
        for found in self.matches(inside) {
            if done < found.start {
                parts.push(((done, found.start), false));
            }
            parts.push(((found.start, found.end), true));
            done = found.end;
        }
        if done < inside.len() {
            parts.push(((done, inside.len()), false));
        }
        Ok(parts)
    }
}

/// `source`, as Rust's `fancy-regex` reads it, with nothing left that the browser reads differently: shorthands of
/// classes stand for Unicode there too, and letters in either case are written out.
///
/// # Errors
/// Names what is not known here.
fn translate(source: &str) -> Result<String, String> {
    let mut translation = String::with_capacity(source.len());
    let mut rest = source.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\\' => escape(&mut rest, Place::Outside, &mut translation)?,
            '[' => class(&mut rest, &mut translation)?,
            '(' => group(&mut rest, &mut translation)?,
            // The browser stops at more ends of lines.
            '.' => translation.push_str(r"[^\n]"),
            '*' | '+' | '?' | '}' => {
                translation.push(character);
                if rest.peek() == Some(&'+') {
                    return Err(format!("`{character}+` is not known in the browser"));
                }
            }
            other => translation.push(other),
        }
    }
    Ok(translation)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Outside,
    InClass,
}

/// Behind a backslash.
fn escape(
    rest: &mut Peekable<Chars>,
    place: Place,
    translation: &mut String,
) -> Result<(), String> {
    let escaped = rest.next().ok_or("it ends in a backslash")?;
    match escaped {
        's' => translation.push_str(r"\p{White_Space}"),
        'S' => translation.push_str(r"\P{White_Space}"),
        'd' => translation.push_str(r"\p{Nd}"),
        'D' => translation.push_str(r"\P{Nd}"),
        'w' if place == Place::InClass => translation.push_str(WORD),
        'w' => translation.push_str(&format!("[{WORD}]")),
        'W' if place == Place::Outside => translation.push_str(&format!("[^{WORD}]")),
        'r' | 'n' | 't' | 'f' | 'v' => translation.extend(['\\', escaped]),
        'p' | 'P' => property(escaped, rest, translation)?,
        'x' | 'u' => {
            let digits = if rest.next_if_eq(&'{').is_some() {
                until(rest, '}')?
            } else {
                let digits = if escaped == 'x' { 2 } else { 4 };
                rest.take(digits).collect()
            };
            let code = u32::from_str_radix(&digits, 16)
                .ok()
                .and_then(char::from_u32);
            let code = code.ok_or_else(|| format!("`\\{escaped}{digits}` is no character"))?;
            // `\u{…}` is the one form that both read.
            translation.push_str(&format!("\\u{{{:x}}}", u32::from(code)));
        }
        '^' | '$' | '\\' | '.' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => {
            translation.extend(['\\', escaped]);
        }
        '-' if place == Place::InClass => translation.push_str(r"\-"),
        other if other.is_ascii_alphanumeric() => {
            return Err(format!("`\\{other}` is not known in the browser"));
        }
        other => translation.push(other),
    }
    Ok(())
}

/// Behind `\p` or `\P`.
fn property(
    escaped: char,
    rest: &mut Peekable<Chars>,
    translation: &mut String,
) -> Result<(), String> {
    let name = match rest.next() {
        Some('{') => until(rest, '}')?,
        Some(category) => category.to_string(),
        None => return Err("it ends in the name of a property".into()),
    };
    let known = |name: &str| {
        matches!(
            name,
            "Alphabetic" | "White_Space" | "Uppercase" | "Lowercase"
        )
    };
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'='))
    {
        return Err(format!(
            "`\\{escaped}{{{name}}}` is not known in the browser"
        ));
    }
    // Categories are known by their initials; other names are of scripts, which the browser wants said.
    let script = name.len() > 2 && !name.contains('=') && !known(&name);
    let script = if script { "Script=" } else { "" };
    translation.push_str(&format!("\\{escaped}{{{script}{name}}}"));
    Ok(())
}

/// Behind `[`.
fn class(rest: &mut Peekable<Chars>, translation: &mut String) -> Result<(), String> {
    translation.push('[');
    if rest.next_if_eq(&'^').is_some() {
        translation.push('^');
    }
    if rest.peek() == Some(&']') {
        return Err("a class that begins with `]` is not known in the browser".into());
    }
    loop {
        match rest.next().ok_or("a class does not end")? {
            ']' => break,
            '\\' => escape(rest, Place::InClass, translation)?,
            '[' => return Err("a class inside a class is not known in the browser".into()),
            twice @ ('&' | '-' | '~') if rest.peek() == Some(&twice) => {
                return Err(format!(
                    "`{twice}{twice}` in a class is not known in the browser"
                ));
            }
            other => translation.push(other),
        }
    }
    translation.push(']');
    Ok(())
}

/// Behind `(`.
fn group(rest: &mut Peekable<Chars>, translation: &mut String) -> Result<(), String> {
    translation.push('(');
    if rest.next_if_eq(&'?').is_none() {
        return Ok(());
    }
    translation.push('?');
    let kind = rest.next().ok_or("a group does not end")?;
    match kind {
        ':' | '=' | '!' => translation.push(kind),
        '<' if matches!(rest.peek(), Some('=' | '!')) => translation.push('<'),
        'i' if rest.next_if_eq(&':').is_some() => {
            translation.push(':');
            either_case(&until(rest, ')')?, translation)?;
            translation.push(')');
        }
        other => return Err(format!("`(?{other}` is not known in the browser")),
    }
    Ok(())
}

/// Letters of `words` in both cases; Unicode has two that are written like an S or a K in lower case only.
fn either_case(words: &str, translation: &mut String) -> Result<(), String> {
    for character in words.chars() {
        match character.to_ascii_lowercase() {
            's' => translation.push_str("[sS\u{17f}]"),
            'k' => translation.push_str("[kK\u{212a}]"),
            letter @ 'a'..='z' => {
                translation.extend(['[', letter, letter.to_ascii_uppercase(), ']']);
            }
            '\'' | '’' | '|' => translation.push(character),
            other => {
                return Err(format!(
                    "`{other}` in `(?i:{words})` is not known in the browser"
                ));
            }
        }
    }
    Ok(())
}

fn until(rest: &mut Peekable<Chars>, end: char) -> Result<String, String> {
    let mut part = String::new();
    for character in rest {
        if character == end {
            return Ok(part);
        }
        part.push(character);
    }
    Err(format!("`{end}` is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_translated_to_what_both_engines_read() {
        let cases = [
            (r"[^\s\p{L}]+", r"[^\p{White_Space}\p{L}]+"),
            (r"(?i:'s|'Ll)", "(?:'[sS\u{17f}]|'[lL][lL])"),
            (r"\p{Han}\pL\d.", r"\p{Script=Han}\p{L}\p{Nd}[^\n]"),
            (r"\'\-[\-\x{41}]\u0041", r"'-[\-\u{41}]\u{41}"),
        ];
        for (source, expected) in cases {
            assert_eq!(translate(source).as_deref(), Ok(expected), "{source}");
        }
    }

    #[test]
    fn what_the_engines_read_differently_is_refused_by_name() {
        let cases = [
            ("a++", "`++`"),
            ("a{1,3}+", "`}+`"),
            ("[a[b]]", "a class inside a class"),
            ("[a&&b]", "`&&`"),
            ("[]a]", "begins with `]`"),
            ("(?i)a", "`(?i`"),
            ("(?>a)", "`(?>`"),
            ("(?i:a+)", "`+`"),
            (r"\ba", r"`\b`"),
            (r"\p{^L}", r"`\p{^L}`"),
            (r"(a)\1", r"`\1`"),
            ("[a", "does not end"),
            ("a\\", "backslash"),
        ];
        for (source, part) in cases {
            let reason = translate(source).unwrap_err();
            assert!(reason.contains(part), "{source}: {reason}");
        }
    }
}
