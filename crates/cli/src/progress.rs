//! One line of progress on standard error, where that is a terminal.

use std::io::{IsTerminal, Write};

/// Shows `text` in place of the line before it. Nothing is written to a file or a pipe.
pub fn show(text: &str) {
    let mut error = std::io::stderr().lock();
    if error.is_terminal() {
        // Progress that cannot be shown is no reason to stop.
        let _ = write!(error, "\r\x1b[K{text}");
        let _ = error.flush();
    }
}

/// Clears the line.
pub fn finish() {
    show("");
}

/// Something the person should know although the work goes on.
pub fn warn(text: &str) {
    finish();
    eprintln!("trimtab: warning: {}", printable(text));
}

/// Somebody else's text without what a terminal would obey.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_has_nothing_to_obey() {
        assert_eq!(
            printable("a\u{1b}]0;title\u{7}b\u{9b}2J\rc"),
            "a\u{fffd}]0;title\u{fffd}b\u{fffd}2J\u{fffd}c"
        );
        assert_eq!(printable("two\n\tlines, é"), "two\n\tlines, é");
    }
}
