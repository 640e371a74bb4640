//! The long tests, by part, and the last result of each in `tests/bench/FULL.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::ValueEnum;
use time::OffsetDateTime;

use crate::checks::{browser_tests, page_tests, run_browser_tests, run_rust_tests};
use crate::page::{self, PublicAddress};
use crate::program::Programs;
use crate::report::Report;
use crate::test_times::Outcome;
use crate::{bundle, model, node, process, rust_tests, system, wasm};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// All Rust tests, with all of the golden data and every breakage on the software adapter.
    Native,
    /// The published page in Chromium: all modules, all of the golden data, every breakage, its time on a slow line.
    Browser,
    /// The published page in Firefox and WebKitGTK.
    Engines,
}

const RESULTS: &str = "tests/bench/FULL.md";

/// Runs the part to its end or its first failed step, and writes down what came of it.
pub fn test(root: &Path, part: Part) -> Result<()> {
    let start = Instant::now();
    let mut report = Report::default();
    let outcome = match part {
        Part::Native => native(root, &mut report),
        Part::Browser => browser(root, &mut report),
        Part::Engines => engines(root, &mut report),
    };
    report.print(root);
    let mut said = report.summaries().join(" ").replace('|', "/");
    if let Err(error) = &outcome {
        let _ = write!(said, " {error:#}");
    }
    let row = [
        format!("{part:?}").to_lowercase(),
        if outcome.is_ok() { "passed" } else { "FAILED" }.to_owned(),
        OffsetDateTime::now_utc().date().to_string(),
        commit(root, RESULTS)?,
        format!("{:.0}", start.elapsed().as_secs_f64() / 60.0),
        said,
    ];
    let path = root.join(RESULTS);
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, with_row(HEAD, &before, &row))
        .with_context(|| format!("{} cannot be written", path.display()))?;
    println!("{RESULTS} has the result; commit it");
    outcome
}

fn native(root: &Path, report: &mut Report) -> Result<()> {
    system::ensure_vulkan()?;
    let programs = report.step("compiling the Rust tests", || rust_tests::compile(root))?;
    report.step("model", || model::ensure_model(root, Programs::AsBuilt))?;
    run_rust_tests(root, report, &programs, true)
}

fn browser(root: &Path, report: &mut Report) -> Result<()> {
    let browser = system::ensure_browser()?;
    published_page(root, report)?;
    report.step("clippy for wasm", || wasm::lint(root))?;
    page_tests(root, report)?;
    report.step("page in one file, and as a folder", || {
        let address = PublicAddress::default();
        bundle::one_file::make(root, &address, &bundle::one_file::Contents::published(root))?;
        bundle::site::make(&bundle::site::Contents::published(root))
    })?;
    // As hosts send it: what a visitor waits for on a slow line is measured.
    bundle::add_twins(&root.join("web/dist"))?;
    let server = Programs::Fresh.serve(root)?;
    // One failed project leaves the others to be run.
    let mut outcomes = Vec::new();
    for project in ["still", "computing", "release"] {
        let mut tests = browser_tests(root, &browser, project);
        tests
            .env("TRIMTAB_URL", server.url())
            .env("TRIMTAB_FULL", "1");
        outcomes.push(run_browser_tests(root, report, project, &mut tests));
    }
    outcomes.into_iter().collect()
}

fn engines(root: &Path, report: &mut Report) -> Result<()> {
    published_page(root, report)?;
    let server = Programs::Fresh.serve(root)?;
    let mut engines = node::script(&root.join("tests"), "engines");
    let told = root.join("target/playwright-engines.json");
    engines.env("TRIMTAB_URL", server.url());
    engines.env("TRIMTAB_REPORT", &told);
    report.tests("Firefox and WebKitGTK", &mut engines, &told, |told| {
        Outcome::of_playwright("tests/engines", told)
    })
}

fn published_page(root: &Path, report: &mut Report) -> Result<()> {
    report.step("node packages of the tests", || {
        node::ensure_packages(&root.join("tests"))
    })?;
    report.step("the page as it is published", || {
        page::build(root, &PublicAddress::default())
    })
}

/// The commit that was tested, and whether anything but `results` was changed since.
pub fn commit(root: &Path, results: &str) -> Result<String> {
    let git = |arguments: &[&str]| process::answer(process::command("git", root).args(arguments));
    let commit = git(&["rev-parse", "--short=10", "HEAD"]).context("git names no commit here")?;
    let status = git(&["status", "--porcelain", "--untracked-files=no"]).unwrap_or_default();
    let changed = status.lines().any(|line| !line.ends_with(results));
    Ok(if changed {
        format!("{commit}, with changes")
    } else {
        commit
    })
}

const HEAD: &str = "# The long tests\n\n\
    The last result of each part of `cargo xtask test --full PART`, which writes it here.\n\n\
    | part | result | date | commit | minutes | what was run |\n\
    | --- | --- | --- | --- | --- | --- |\n";

/// The file that begins with `head`, with this row in place of the one before that begins with the same cell.
pub fn with_row(head: &str, before: &str, row: &[String]) -> String {
    // A table's cell is one line.
    let cell = |cell: &String| cell.split_whitespace().collect::<Vec<_>>().join(" ");
    let cells: Vec<String> = row
        .iter()
        .map(|text| cell(text).replace('|', "\\|"))
        .collect();
    let new = format!("| {} |", cells.join(" | "));
    let begins = format!("| {} |", cells[0]);
    let rows = before.lines().skip(head.lines().count());
    let mut rows: Vec<String> = rows
        .filter(|line| line.starts_with('|') && !line.starts_with(&begins))
        .map(str::to_owned)
        .collect();
    rows.push(new);
    rows.sort();
    format!("{head}{}\n", rows.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(part: &str, result: &str) -> [String; 6] {
        let said = "9 passed\n| 0 failed";
        [part, result, "2026-11-29", "0123456789", "61", said].map(str::to_owned)
    }

    #[test]
    fn a_part_has_one_row_the_last() {
        let once = with_row(HEAD, "", &row("native", "FAILED"));
        let twice = with_row(HEAD, &once, &row("browser", "passed"));
        let again = with_row(HEAD, &twice, &row("native", "passed"));
        assert!(!again.contains("FAILED"));
        assert_eq!(again.lines().count(), HEAD.lines().count() + 2);
        assert!(again.starts_with(HEAD));
        assert!(again.contains(
            "| browser | passed | 2026-11-29 | 0123456789 | 61 | 9 passed \\| 0 failed |"
        ));
    }
}
