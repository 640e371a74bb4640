//! Everything that has to hold before a change is good: formats, lints, tests natively and in a browser.

use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::summary::{self, Runner};
use crate::{bundle, model, node, page, process, server, system, wasm};

/// Every check and test, the quick ones first.
pub fn test(root: &Path, full: bool) -> Result<()> {
    let mut report = Report::default();
    let outcome = run_all(root, full, &mut report);
    report.print();
    outcome
}

/// The checks that need no model and no browser.
pub fn lint(root: &Path) -> Result<()> {
    let mut report = Report::default();
    let outcome = side_by_side(
        &mut report,
        |report| native_lints(root, report),
        |report| page_lints(root, report),
    );
    report.print();
    outcome
}

fn run_all(root: &Path, full: bool, report: &mut Report) -> Result<()> {
    let browser = system::ensure_browser()?;
    system::ensure_vulkan()?;
    report.step("model", || model::ensure_model(root))?;
    side_by_side(
        report,
        |report| {
            native_lints(root, report)?;
            report.tests("Rust tests", Runner::Rust, &mut rust_tests(root, full))
        },
        |report| {
            page_lints(root, report)?;
            page_itself(root, report)
        },
    )?;
    // A browser that computes has both cores to itself: what is waited for there should not depend on what runs besides.
    end_to_end_tests(root, full, &browser, report)
}

/// What is native and what is the page's share nothing but sources, and each has long stretches with work for one core: linking,
/// optimising a module, a test that waits. Each stops at its first failure; both are run to that or to their end.
fn side_by_side(
    report: &mut Report,
    native: impl FnOnce(&mut Report) -> Result<()>,
    page: impl FnOnce(&mut Report) -> Result<()> + Send,
) -> Result<()> {
    let mut of_page = Report::default();
    let (native, page) = thread::scope(|scope| {
        let page = scope.spawn(|| page(&mut of_page));
        let native = native(report);
        let page = page.join().unwrap_or_else(|panic| resume_unwind(panic));
        (native, page)
    });
    report.steps.append(&mut of_page.steps);
    report.summaries.append(&mut of_page.summaries);
    match (native, page) {
        (Err(native), Err(page)) => Err(native.context(format!("{page:#}; and besides"))),
        (native, page) => native.and(page),
    }
}

fn native_lints(root: &Path, report: &mut Report) -> Result<()> {
    report.step("rustfmt", || {
        process::run(process::cargo(root).args(["fmt", "--all", "--check"]))
    })?;
    report.step("clippy", || {
        let mut clippy = process::cargo(root);
        clippy.args([
            "clippy",
            "--release",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]);
        process::run(&mut clippy)
    })
}

fn page_lints(root: &Path, report: &mut Report) -> Result<()> {
    let web = root.join("web");
    let tests = root.join("tests");
    report.step("node packages", || {
        node::ensure_packages(&web)?;
        node::ensure_packages(&tests)
    })?;
    // The page's types come from the module's glue, so the module is built before they are checked.
    report.step("wasm module", || wasm::build(root))?;
    report.step("clippy for wasm", || wasm::lint(root))?;
    report.step("TypeScript compiler", || {
        process::run(&mut node::script(&web, "check"))
    })?;
    report.step("TypeScript linter", || {
        process::run(&mut node::script(&web, "lint"))
    })?;
    report.step("the same of the end-to-end tests", || {
        process::run(&mut node::script(&tests, "check"))
    })
}

fn page_itself(root: &Path, report: &mut Report) -> Result<()> {
    report.tests(
        "page tests",
        Runner::Vitest,
        &mut node::script(&root.join("web"), "test"),
    )?;
    report.step("page", || {
        page::build(root, &page::PublicAddress::default())
    })?;
    report.step("page in one file, and as a folder for any host", || {
        bundle::one_file::make(root, &page::PublicAddress::default())?;
        bundle::site::make(root)
    })
}

fn end_to_end_tests(root: &Path, full: bool, browser: &Path, report: &mut Report) -> Result<()> {
    let address = server::serve_in_background(root)?;
    let mut end_to_end = node::script(&root.join("tests"), "test");
    end_to_end.env("TRIMTAB_URL", format!("http://{address}"));
    end_to_end.env("CHROMIUM", browser);
    if full {
        end_to_end.env("TRIMTAB_FULL", "1");
    }
    report.tests("end-to-end tests", Runner::Playwright, &mut end_to_end)
}

/// cargo-nextest where it is installed, else cargo's own runner.
fn rust_tests(root: &Path, full: bool) -> Command {
    let mut command = process::cargo(root);
    if full {
        command.env("TRIMTAB_FULL", "1");
    }
    if process::find("cargo-nextest").is_some() {
        command.args([
            "nextest",
            "run",
            "--release",
            "--workspace",
            "--no-fail-fast",
        ]);
    } else {
        command.args(["test", "--release", "--workspace", "--no-fail-fast"]);
    }
    command
}

/// What was run, how long it took, and what the test runners said last.
#[derive(Debug, Default)]
struct Report {
    steps: Vec<(String, Duration, bool)>,
    summaries: Vec<String>,
}

impl Report {
    fn step(&mut self, name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
        let start = Instant::now();
        let outcome = run();
        self.steps
            .push((name.to_owned(), start.elapsed(), outcome.is_ok()));
        outcome.with_context(|| format!("the step \"{name}\" failed"))
    }

    fn tests(&mut self, name: &str, runner: Runner, command: &mut Command) -> Result<()> {
        let mut lines = Vec::new();
        let outcome = self.step(name, || {
            summary::run_collecting(command, runner, &mut lines)
        });
        self.summaries.push(format!("{name}:"));
        self.summaries.extend(lines);
        outcome
    }

    fn print(&self) {
        println!();
        for (name, time, good) in &self.steps {
            let mark = if *good { "ok    " } else { "FAILED" };
            println!("{mark} {:>7.1} s  {name}", time.as_secs_f64());
        }
        println!();
        for line in &self.summaries {
            println!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn a_failure_beside_does_not_stop_the_other_and_both_are_told() {
        let mut report = Report::default();
        let outcome = side_by_side(
            &mut report,
            |report| {
                report.step("native", || Ok(()))?;
                report.step("native tests", || Err(anyhow!("one failed")))
            },
            |report| {
                report.step("page lints", || Err(anyhow!("a type is wrong")))?;
                report.step("page tests", || Ok(()))
            },
        );
        let names: Vec<_> = report
            .steps
            .iter()
            .map(|(name, _, good)| (name.as_str(), *good))
            .collect();
        assert_eq!(
            names,
            [
                ("native", true),
                ("native tests", false),
                ("page lints", false)
            ]
        );
        let told = format!("{:#}", outcome.expect_err("both failed"));
        assert!(told.contains("one failed"), "{told}");
        assert!(told.contains("a type is wrong"), "{told}");
    }

    #[test]
    fn one_failure_is_enough() {
        let fails = |report: &mut Report| report.step("tests", || Err(anyhow!("one failed")));
        let holds = |report: &mut Report| report.step("tests", || Ok(()));
        assert!(side_by_side(&mut Report::default(), fails, holds).is_err());
        assert!(side_by_side(&mut Report::default(), holds, fails).is_err());
        assert!(side_by_side(&mut Report::default(), holds, holds).is_ok());
    }
}
