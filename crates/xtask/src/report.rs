//! What a run of checks did: steps with their times, what the test runners said last, and how long each file of tests took.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::summary::{self, Runner};
use crate::test_times::TestTimes;

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

    /// A step that is a test runner, whose closing lines are kept; `times` reads its report, also where a test failed.
    pub fn tests(
        &mut self,
        name: &str,
        runner: Runner,
        command: &mut Command,
        times: impl FnOnce(&mut TestTimes) -> Result<()>,
    ) -> Result<()> {
        let mut lines = Vec::new();
        let outcome = self.step(name, || {
            summary::run_collecting(command, runner, &mut lines)
        });
        self.summary(name, lines);
        let read = times(&mut self.times);
        outcome?;
        read.with_context(|| format!("the report of the step \"{name}\" cannot be read"))
    }

    pub fn summary(&mut self, name: &str, lines: Vec<String>) {
        self.summaries.push(format!("{name}:"));
        self.summaries.extend(lines);
    }

    pub fn add_times(&mut self, times: TestTimes) {
        self.times.append(times);
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
