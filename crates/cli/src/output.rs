//! Output of the program. Standard output may be a pipe that nobody reads on, or a full disk.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};

/// Writes to standard output at once. Where a pipe was closed the program has done its work and ends quietly; where
/// nothing can be written it ends with a sentence.
pub fn print(text: Arguments) {
    let mut output = std::io::stdout().lock();
    if let Err(error) = output.write_fmt(text).and_then(|()| output.flush()) {
        if error.kind() == ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        print_error(format_args!(
            "trimtab: standard output cannot be written: {error}\n"
        ));
        std::process::exit(1);
    }
}

/// Prints a verb's answer as one line of JSON.
pub fn print_json(answer: &impl serde::Serialize) -> anyhow::Result<()> {
    print(format_args!("{}\n", serde_json::to_string(answer)?));
    Ok(())
}

/// Writes to standard error, where that can be written.
pub fn print_error(text: Arguments) {
    let _ = std::io::stderr().lock().write_fmt(text);
}

// These replace the standard library's macros, which panic where nothing can be written.
macro_rules! print {
    ($($text:tt)*) => { crate::output::print(format_args!($($text)*)) };
}
macro_rules! println {
    () => { print!("\n") };
    ($($text:tt)*) => { print!("{}\n", format_args!($($text)*)) };
}
macro_rules! eprintln {
    ($($text:tt)*) => { crate::output::print_error(format_args!("{}\n", format_args!($($text)*))) };
}
