//! Everything that has to hold before a change is good: formats, lints, tests natively and in a browser.

use std::panic::resume_unwind;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::program::Programs;
use crate::report::Report;
use crate::small_model::SmallModel;
use crate::test_times::Outcome;
use crate::toolchain::WasmToolchain;
use crate::wasm::Build;
use crate::{model, node, page, process, record, rust_tests, system, wasm};

/// A clean clone should take no longer on two cores.
const MINUTES: f64 = 35.0;

/// Every check and test but those of [`crate::full`].
pub fn test(root: &Path) -> Result<()> {
    let start = Instant::now();
    let mut report = Report::default();
    let outcome = run_all(root, &mut report);
    report.print(root);
    let minutes = start.elapsed().as_secs_f64() / 60.0;
    println!("{minutes:.1} minutes in all");
    if minutes > MINUTES {
        println!(
            "warning: that is more than {MINUTES:.0} minutes; what is slow stands above, and what is not needed on each change belongs to --full"
        );
    }
    outcome
}

/// The checks that need no model and no browser.
pub fn lint(root: &Path) -> Result<()> {
    let mut report = Report::default();
    let outcome = side_by_side(
        &mut report,
        |report| {
            rustfmt(root, report)?;
            clippy(root, report)
        },
        |report| {
            page_module(root, report)?;
            page_lints(root, report)?;
            report.step("clippy for wasm", || wasm::lint(root))
        },
    );
    report.print(root);
    outcome
}

fn run_all(root: &Path, report: &mut Report) -> Result<()> {
    // What apt installs comes first: it takes one order at a time.
    let browser = system::ensure_browser()?;
    system::ensure_vulkan()?;
    WasmToolchain::ensure(root)?;
    let (compiled, has_compiled) = mpsc::channel();
    let (recorded, has_recorded) = mpsc::channel();
    side_by_side(
        report,
        |report| native(root, report, compiled, recorded),
        |report| page(root, report, &browser, has_compiled, has_recorded),
    )?;
    // A browser that computes has both cores to itself: what is waited for there should not depend on what runs besides.
    let server = Programs::AsBuilt.serve(root)?;
    let mut browsing = browser_tests(root, &browser, "computing");
    browsing.env("TRIMTAB_URL", server.url());
    run_browser_tests(root, report, "computing", &mut browsing)
}

/// The native half. Tells when everything is compiled, and when the recorded run is there.
fn native(
    root: &Path,
    report: &mut Report,
    compiled: Sender<()>,
    recorded: Sender<()>,
) -> Result<()> {
    rustfmt(root, report)?;
    let programs = report.step("compiling the Rust tests", || rust_tests::compile(root))?;
    // Nobody listens where the other half has failed.
    let _ = compiled.send(());
    report.step("model", || model::ensure_model(root, Programs::AsBuilt))?;
    report.step("recorded run", || record::ensure(root, Programs::AsBuilt))?;
    let _ = recorded.send(());
    run_rust_tests(root, report, &programs, false)
}

/// The page's half. It waits for the other's compiled programs and recorded run, and says so where they do not come.
fn page(
    root: &Path,
    report: &mut Report,
    browser: &Path,
    compiled: Receiver<()>,
    recorded: Receiver<()>,
) -> Result<()> {
    report.step("model's package", || model::fetch(root))?;
    page_module(root, report)?;
    page_lints(root, report)?;
    page_tests(root, report)?;
    wait(report, &compiled)?;
    clippy(root, report)?;
    wait(report, &recorded)?;
    report.step("page", || page::bundle(root))?;
    let small = report.step("page in one file, and as a folder", || {
        SmallModel::make(root)?.bundle(root)
    })?;
    let server = Programs::AsBuilt.serve(root)?;
    let mut still = browser_tests(root, browser, "still");
    small.name_for(&mut still);
    still.env("TRIMTAB_URL", server.url());
    run_browser_tests(root, report, "still", &mut still)
}

fn wait(report: &mut Report, for_what: &Receiver<()>) -> Result<()> {
    report.step("waiting for the native half", || {
        for_what
            .recv()
            .context("the native half failed before the page could be made")
    })
}

/// What is native and what is the page's share nothing but sources, and each has long stretches with work for one core: linking,
/// optimising a module, a test that waits. Each stops at its first failure; both are run to that or to their end.
pub fn side_by_side(
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
    report.append(of_page);
    match (native, page) {
        (Err(native), Err(page)) => Err(native.context(format!("{page:#}; and also"))),
        (native, page) => native.and(page),
    }
}

fn rustfmt(root: &Path, report: &mut Report) -> Result<()> {
    report.step("rustfmt", || {
        process::run(process::cargo(root).args(["fmt", "--all", "--check"]))
    })
}

fn clippy(root: &Path, report: &mut Report) -> Result<()> {
    report.step("clippy", || {
        let mut clippy = process::cargo(root);
        clippy.args(["clippy", "--release", "--workspace", "--all-targets"]);
        process::run(clippy.args(["--", "--deny", "warnings"]))
    })
}

/// The page's packages, and one module for tests: its glue has the page's types, so that it comes before they are checked.
fn page_module(root: &Path, report: &mut Report) -> Result<()> {
    report.step("node packages", || {
        node::ensure_packages(&root.join("web"))?;
        node::ensure_packages(&root.join("tests"))
    })?;
    report.step("WebAssembly module", || wasm::build(root, Build::Test))
}

fn page_lints(root: &Path, report: &mut Report) -> Result<()> {
    let web = root.join("web");
    report.step("TypeScript compiler", || {
        process::run(&mut node::script(&web, "check"))
    })?;
    report.step("TypeScript linter", || {
        process::run(&mut node::script(&web, "lint"))
    })?;
    report.step("the same of the end-to-end tests", || {
        process::run(&mut node::script(&root.join("tests"), "check"))
    })
}

pub fn page_tests(root: &Path, report: &mut Report) -> Result<()> {
    let out = root.join("target/vitest.json");
    let mut vitest = node::script(&root.join("web"), "test");
    vitest
        .args(["--", "--reporter=default", "--reporter=json"])
        .arg(format!("--outputFile.json={}", out.display()));
    report.tests("page tests", &mut vitest, &out, |told| {
        Outcome::of_vitest(root, told)
    })
}

pub fn run_rust_tests(
    root: &Path,
    report: &mut Report,
    programs: &[rust_tests::TestProgram],
    full: bool,
) -> Result<()> {
    let mut outcome = Outcome::default();
    let ended = report.step("Rust tests", || {
        let (found, ended) = rust_tests::run(root, programs, full);
        outcome = found;
        ended
    });
    report.add("Rust tests", outcome, ended)
}

/// The tests in a browser that `project` of `tests/playwright.config.ts` names.
pub fn browser_tests(root: &Path, browser: &Path, project: &str) -> Command {
    let mut tests = node::script(&root.join("tests"), "test");
    tests.args(["--", &format!("--project={project}")]);
    tests.env("CHROMIUM", browser);
    tests.env("TRIMTAB_REPORT", browser_report(root, project));
    tests
}

fn browser_report(root: &Path, project: &str) -> std::path::PathBuf {
    root.join(format!("target/playwright-{project}.json"))
}

pub fn run_browser_tests(
    root: &Path,
    report: &mut Report,
    project: &str,
    command: &mut Command,
) -> Result<()> {
    let name = format!("browser tests, {project}");
    report.tests(&name, command, &browser_report(root, project), |told| {
        Outcome::of_playwright("tests/e2e", told)
    })
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
        assert_eq!(
            report.names(),
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

    #[test]
    fn what_the_other_half_never_brings_is_not_waited_for() {
        let (sender, receiver) = mpsc::channel();
        drop(sender);
        assert!(wait(&mut Report::default(), &receiver).is_err());
    }
}
