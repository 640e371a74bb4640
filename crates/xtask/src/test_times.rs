//! What a runner of tests found, and how long each file of tests took, beside how long it took the last time.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::files::{read_json, write};

/// A file that is slower than the last time by this share and by so many seconds is marked.
const SLOWER: f64 = 1.25;
const SECONDS: f64 = 2.0;
/// Files that took less are one line together.
const SHORT: f64 = 1.0;

/// Seconds by file.
#[derive(Debug, Default)]
pub struct TestTimes(BTreeMap<String, f64>);

impl TestTimes {
    pub fn add(&mut self, file: &str, seconds: f64) {
        *self.0.entry(file.to_owned()).or_default() += seconds;
    }

    pub fn append(&mut self, other: Self) {
        for (file, seconds) in other.0 {
            self.add(&file, seconds);
        }
    }

    /// The table, longest first, and the new figures kept in `target/test-times.json`.
    pub fn report(&self, root: &Path) -> Result<String> {
        let path = root.join("target/test-times.json");
        let last: BTreeMap<String, f64> = read_json(&path).unwrap_or_default();
        let mut all = last.clone();
        all.extend(self.0.clone());
        write(&path, serde_json::to_string_pretty(&all)?.as_bytes())?;
        Ok(self.table(&last))
    }

    fn table(&self, last: &BTreeMap<String, f64>) -> String {
        let mut files: Vec<_> = self.0.iter().collect();
        files.sort_by(|a, b| b.1.total_cmp(a.1));
        let mut table = String::new();
        let (mut short, mut seconds_of_short) = (0, 0.0);
        for (file, &seconds) in files {
            let before = last.get(file).copied();
            let slower =
                before.is_some_and(|last| seconds > last * SLOWER && seconds > last + SECONDS);
            if seconds < SHORT && !slower {
                short += 1;
                seconds_of_short += seconds;
                continue;
            }
            let note = match before {
                Some(last) if slower => format!("  SLOWER: {last:.1} s the last time"),
                _ => String::new(),
            };
            table += &format!("{seconds:>8.1} s  {file}{note}\n");
        }
        if short > 0 {
            table += &format!("{seconds_of_short:>8.1} s  {short} files of less than a second\n");
        }
        table
    }
}

/// What one runner, or all of them, found.
#[derive(Debug, Default)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    pub ignored: u64,
    /// A line for each test that failed: its name, and how it failed where the runner says it shortly.
    pub failures: Vec<String>,
    pub times: TestTimes,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            ignored,
            ..
        } = self;
        write!(f, "{passed} passed, {failed} failed, {ignored} ignored")
    }
}

impl Outcome {
    pub fn append(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.failures.extend(other.failures);
        self.times.append(other.times);
    }

    /// From the report that vitest's `json` reporter writes.
    pub fn of_vitest(root: &Path, report: &Value) -> Result<Self> {
        let mut outcome = Self {
            passed: count(report, "numPassedTests")?,
            failed: count(report, "numFailedTests")?,
            ignored: count(report, "numPendingTests")?,
            ..Self::default()
        };
        for file in list(report, "testResults")? {
            let name = file["name"].as_str().context("a file has no name")?;
            let end = file["endTime"].as_f64().context("a file has no end")?;
            let start = file["startTime"].as_f64().context("a file has no start")?;
            let name = Path::new(name)
                .strip_prefix(root)
                .unwrap_or(Path::new(name));
            for test in file["assertionResults"].as_array().into_iter().flatten() {
                if test["status"] == "failed" {
                    let title = test["fullName"].as_str().unwrap_or_default();
                    outcome.failures.push(failure(
                        &name.to_string_lossy(),
                        title,
                        &test["failureMessages"][0],
                    ));
                }
            }
            outcome
                .times
                .add(&name.to_string_lossy(), (end - start) / 1000.0);
        }
        Ok(outcome)
    }

    /// From the report that Playwright's `json` reporter writes of tests in `folder`.
    pub fn of_playwright(folder: &str, report: &Value) -> Result<Self> {
        let stats = &report["stats"];
        let mut outcome = Self {
            passed: count(stats, "expected")?,
            failed: count(stats, "unexpected")? + count(stats, "flaky")?,
            ignored: count(stats, "skipped")?,
            ..Self::default()
        };
        for file in list(report, "suites")? {
            let name = file["file"].as_str().context("a suite has no file")?;
            let seconds = milliseconds(file) / 1000.0;
            let name = format!("{folder}/{name}");
            failures_below(file, &name, &mut outcome.failures);
            outcome.times.add(&name, seconds);
        }
        Ok(outcome)
    }
}

fn count(value: &Value, key: &str) -> Result<u64> {
    value[key]
        .as_u64()
        .with_context(|| format!("the report has no number of {key}"))
}

fn list<'a>(value: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    value[key]
        .as_array()
        .with_context(|| format!("the report has no list of {key}"))
}

/// Most characters that are repeated of what a failed test said.
const SAID: usize = 300;

fn failure(file: &str, title: &str, message: &Value) -> String {
    let message = anstream::adapter::strip_str(message.as_str().unwrap_or_default()).to_string();
    let words: Vec<&str> = message.split_whitespace().collect();
    let said: String = words.join(" ").chars().take(SAID).collect();
    format!("{file}: {title}: {said}")
}

/// The specifications below a suite that did not end as they should.
fn failures_below(suite: &Value, file: &str, failures: &mut Vec<String>) {
    let parts = |key: &str| suite[key].as_array().into_iter().flatten();
    for spec in parts("specs").filter(|spec| spec["ok"] == false) {
        let title = spec["title"].as_str().unwrap_or_default();
        let message = &spec["tests"][0]["results"][0]["error"]["message"];
        failures.push(failure(file, title, message));
    }
    for inner in parts("suites") {
        failures_below(inner, file, failures);
    }
}

/// All results below a suite.
fn milliseconds(suite: &Value) -> f64 {
    let parts = |key: &str| suite[key].as_array().into_iter().flatten();
    let below: f64 = ["suites", "specs", "tests"]
        .into_iter()
        .flat_map(parts)
        .map(milliseconds)
        .sum();
    let own: f64 = parts("results")
        .filter_map(|result| result["duration"].as_f64())
        .sum();
    below + own
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_slower_than_the_last_time_is_marked() {
        let mut times = TestTimes::default();
        for (file, seconds) in [("slow", 10.0), ("slow", 5.0), ("same", 9.0), ("tiny", 0.1)] {
            times.add(file, seconds);
        }
        let last = [("slow".to_owned(), 11.0), ("same".to_owned(), 8.5)].into();
        let table = times.table(&last);
        assert_eq!(
            table,
            "    15.0 s  slow  SLOWER: 11.0 s the last time\n     9.0 s  same\n     0.1 s  1 files of less than a second\n"
        );
    }

    #[test]
    fn a_browser_reports_nested_suites() {
        let suite = json!({"file": "a.spec.ts",
            "specs": [{"title": "it answers", "ok": false, "tests": [{"results": [{"duration": 1000,
                "error": {"message": "\u{1b}[31mTest timeout\u{1b}[39m of 600000ms\n  exceeded."}}]}]}],
            "suites": [{"specs": [{"tests": [{"results": [{"duration": 500}, {"duration": 250}]}]}]}]});
        let stats = json!({"expected": 3, "unexpected": 1, "flaky": 0, "skipped": 2});
        let report = json!({"suites": [suite], "stats": stats});
        let outcome = Outcome::of_playwright("tests/e2e", &report).unwrap();
        assert_eq!(outcome.to_string(), "3 passed, 1 failed, 2 ignored");
        assert_eq!(
            outcome.failures,
            ["tests/e2e/a.spec.ts: it answers: Test timeout of 600000ms exceeded."]
        );
        assert_eq!(
            outcome.times.0,
            [("tests/e2e/a.spec.ts".to_owned(), 1.75)].into()
        );
    }
}
