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
    eprintln!("trimtab: warning: {text}");
}
