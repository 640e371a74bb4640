//! The code of a link in text that went through mail and chat programs.

use crate::recipe::link::MARKER;
use percent_encoding::percent_decode_str;

/// An address may be escaped once by each program that it went through.
const MOST_ESCAPES: usize = 3;

/// Codes that the text may mean, the likeliest first; empty where there is none in it.
///
/// Blanks and line breaks are taken for those of a program that wraps lines, with its marks of quotation, which a field of
/// one line has in the middle; else only line breaks are, else none, and the code ends before the first character that no
/// code has.
pub fn codes(text: &str) -> Vec<String> {
    let text = unwrapped(&unescaped(text));
    let without_blanks = text.replace(|c: char| c.is_whitespace() || c == '>', "");
    let Some(whole) = after_marker(&without_blanks) else {
        return Vec::new();
    };
    let whole = whole.trim_end_matches(|c| !is_of_code(c));
    let mut codes = vec![whole.replace('=', "")];
    for text in [text.replace('\n', ""), text] {
        let rest = after_marker(&text).unwrap_or_default().chars();
        codes.push(rest.take_while(|c| is_of_code(*c)).collect());
    }
    // Quoted-printable writes the marker's own equals sign so.
    codes.extend(codes[0].strip_prefix("3D").map(str::to_owned));
    codes.retain(|code| !code.is_empty());
    codes.dedup();
    codes
}

/// The text without percent escapes and without characters that take no room.
fn unescaped(text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..MOST_ESCAPES {
        if text.contains('%') {
            text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        }
    }
    text.retain(|c| !is_invisible(c));
    text
}

/// The text without the marks that replies put before lines, and quoted-printable after them.
fn unwrapped(text: &str) -> String {
    let line = |line: &str| {
        let line = line.trim_start_matches(|c: char| c == '>' || c.is_whitespace());
        let line = line.trim_end();
        match line.strip_suffix('=') {
            Some(rest) if rest != "r" && !rest.ends_with("#r") => rest.to_owned(),
            _ => line.to_owned(),
        }
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The text after the marker; without a marker, the text itself where that may be a code.
fn after_marker(text: &str) -> Option<&str> {
    if let Some((_, code)) = text.rsplit_once(MARKER) {
        // A line that was wrapped inside the marker has its mark there.
        return Some(code.trim_start_matches('='));
    }
    let bare = text.trim_start_matches(|c| !is_of_code(c));
    let bare = bare.strip_prefix(&MARKER[1..]).unwrap_or(bare);
    (!bare.contains("://")).then_some(bare)
}

/// True if base64url has the character.
pub fn is_of_code(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Soft hyphens, zero-width characters, marks of writing direction, and the byte order mark.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str =
        "jVLNbtQwEH6VkS9cspXdJC0g9QAHDlyQuFVVFXmdSWLhjC3b2d2w2ndn7GxBFVLhNPbMeL6fsV-F";

    fn wrapped(text: &str, before: &str, after: &str) -> String {
        let lines = text.as_bytes().chunks(30);
        let line = |line| format!("{before}{}{after}\r\n", std::str::from_utf8(line).unwrap());
        lines.map(line).collect()
    }

    #[test]
    fn a_code_is_found_in_what_programs_make_of_it() {
        let link = format!("https://example.org/trimtab/#r={CODE}");
        for text in [CODE, &link] {
            for text in [
                text.to_owned(),
                format!("  {text}\n"),
                format!("<{text}>"),
                format!("\"{text}\""),
                format!("«{text}»"),
                format!("({text})."),
                format!("{text},"),
                format!("{text}…"),
                format!("\u{feff}{}\u{200b}{}\u{ad}", &text[..40], &text[40..]),
                wrapped(text, "", ""),
                wrapped(text, "> ", ""),
                wrapped(text, "> ", "=").replace("\r\n", ""),
                wrapped(text, ">> >", ""),
                wrapped(text, "", "="),
                format!("{text} is what I mean"),
                format!("{text}\n\nRegards"),
                format!("{} and so on", wrapped(text, "> ", "=").trim_end()),
            ] {
                assert!(codes(&text).iter().any(|code| code == CODE), "{text}");
            }
        }
        for text in [
            format!("look: {link}"),
            format!("[a run]({link}) that I made"),
            format!("<a href=\"{link}\">a run</a>"),
            format!("https%3A%2F%2Fexample.org%2Ftrimtab%2F%23r%3D{CODE}"),
            format!("https%253A%252F%252Fexample.org%252F%2523r%253D{CODE}"),
            format!("https://example.com/url?q=https%3A%2F%2Fexample.org%2F%23r%3D{CODE}&sa=D"),
            format!("https://example.org/#r=3D{CODE}"),
            format!("https://example.org/#r=\n{CODE}"),
            format!("https://example.org/#r==\n{CODE}="),
            format!("#r={CODE}"),
            format!("r={CODE}"),
        ] {
            assert!(codes(&text).iter().any(|code| code == CODE), "{text}");
        }
    }

    #[test]
    fn a_text_without_a_link_has_no_code() {
        for text in ["", "  \n", "…", "https://example.org/trimtab/", "#r=", "r="] {
            assert_eq!(codes(text), Vec::<String>::new(), "{text}");
        }
    }
}
