//! A test runner's output passed on as it comes, its closing lines kept to be repeated at the very end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, bail};

use crate::process;

#[derive(Debug, Clone, Copy)]
pub enum Runner {
    Vitest,
    Playwright,
}

impl Runner {
    /// Whether `line`, without colours, is one of the runner's closing lines.
    fn closes(self, line: &str) -> bool {
        let line = line.trim_start();
        let mut words = line.split_whitespace();
        match self {
            Self::Vitest => line.starts_with("Test Files ") || line.starts_with("Tests "),
            Self::Playwright => {
                words.next().is_some_and(|word| word.parse::<u32>().is_ok())
                    && words.next().is_some_and(|word| {
                        ["passed", "failed", "flaky", "skipped", "interrupted", "did"]
                            .contains(&word)
                    })
            }
        }
    }
}

/// Runs `command`, showing both its streams, and adds the runner's closing lines to `summary`.
/// A runner that succeeds without a closing line ran no test, which is a failure.
pub fn run_collecting(
    command: &mut Command,
    runner: Runner,
    summary: &mut Vec<String>,
) -> Result<()> {
    let line = process::announce(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| {
        format!("`{line}` could not be started; is it installed and on the PATH?")
    })?;
    let found = Mutex::new(Vec::new());
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        if let Some(stream) = stdout {
            scope.spawn(|| pass_on(stream, runner, &found, |text| println!("{text}")));
        }
        if let Some(stream) = stderr {
            scope.spawn(|| pass_on(stream, runner, &found, |text| eprintln!("{text}")));
        }
    });
    let status = child.wait()?;
    let found = found
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    let ran = !found.is_empty();
    summary.extend(found);
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    if !ran {
        bail!("`{line}` succeeded but closed on no test executed");
    }
    Ok(())
}

fn pass_on(stream: impl Read, runner: Runner, found: &Mutex<Vec<String>>, show: impl Fn(&str)) {
    let mut reader = BufReader::new(stream);
    let mut bytes = Vec::new();
    while reader
        .read_until(b'\n', &mut bytes)
        .is_ok_and(|count| count > 0)
    {
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end();
        show(text);
        let plain = without_colours(text);
        if runner.closes(&plain) {
            let mut found = found
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            found.push(plain);
        }
        bytes.clear();
    }
}

/// `text` without its ANSI escape sequences (`ESC [ … letter`).
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut escaped = false;
    for character in text.chars() {
        match character {
            '\u{1b}' => escaped = true,
            letter if escaped => escaped = !letter.is_ascii_alphabetic(),
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_told_from_others() {
        let coloured = without_colours("\u{1b}[32m      Tests\u{1b}[0m  9 passed (9)");
        assert!(Runner::Vitest.closes(&coloured), "{coloured}");
        assert!(Runner::Vitest.closes(" Test Files  2 passed (2)"));
        assert!(Runner::Vitest.closes("      Tests  9 passed (9)"));
        assert!(Runner::Playwright.closes("  12 passed (1.2m)"));
        assert!(Runner::Playwright.closes("  1 did not run"));
        assert!(!Runner::Playwright.closes("Running 12 tests using 1 worker"));
    }
}
