//! What a run of checks did: steps with their times, how many tests passed, and how long each file of tests took.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::files::read_json;
use crate::process;
use crate::test_times::{Outcome, TestTimes};

#[derive(Debug, Default)]
pub struct Report {
    steps: Vec<(String, Duration, bool)>,
    summaries: Vec<String>,
    times: TestTimes,
}

impl Report {
    pub fn step<T>(&mut self, name: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let outcome = run();
        self.steps
            .push((name.to_owned(), start.elapsed(), outcome.is_ok()));
        outcome.with_context(|| format!("the step \"{name}\" failed"))
    }

    /// A step that is a test runner, whose report at `path` is read, also where a test failed. One that ran no test has failed.
    pub fn tests(
        &mut self,
        name: &str,
        runner: &mut Command,
        path: &Path,
        read: impl FnOnce(&Value) -> Result<Outcome>,
    ) -> Result<()> {
        // Where the runner does not get so far, none is there rather than an earlier one.
        let _ = fs::remove_file(path);
        let ended = self.step(name, || process::run(runner));
        let told = read_json(path).and_then(|report| read(&report));
        match told.with_context(|| format!("the report of the step \"{name}\" cannot be read")) {
            Ok(outcome) => self.add(name, outcome, ended),
            Err(error) => ended.and(Err(error)),
        }
    }

    pub fn add(&mut self, name: &str, outcome: Outcome, ended: Result<()>) -> Result<()> {
        self.summaries.push(format!("{name}: {outcome}"));
        let failures = outcome.failures.iter();
        self.summaries
            .extend(failures.map(|failure| format!("FAILED  {failure}")));
        let none = outcome.passed == 0;
        self.times.append(outcome.times);
        ended?;
        ensure!(!none, "the step \"{name}\" ran no test");
        Ok(())
    }

    pub fn append(&mut self, other: Self) {
        self.steps.extend(other.steps);
        self.summaries.extend(other.summaries);
        self.times.append(other.times);
    }

    pub fn summaries(&self) -> &[String] {
        &self.summaries
    }

    #[cfg(test)]
    pub fn names(&self) -> Vec<(&str, bool)> {
        let steps = self.steps.iter();
        steps
            .map(|(name, _, good)| (name.as_str(), *good))
            .collect()
    }

    pub fn print(&self, root: &Path) {
        println!();
        match self.times.report(root) {
            Ok(table) => print!("{table}"),
            Err(error) => eprintln!("the tests' times are not kept: {error:#}"),
        }
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
