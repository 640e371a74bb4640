//! What `tests/bench/main.ts` measures in the browser.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Arguments;
use super::long_conversation::LongConversation;
use super::prompt::{Prompt, Vocabulary};
use super::row::{Row, Sample};
use crate::process;
use crate::program::Programs;

/// The driver's report.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    pub browser: String,
    outcomes: Vec<Outcome>,
    /// From navigation to the first token, everything cached.
    pub warm_start_seconds: Vec<f64>,
    pub longest_task: LongestTask,
    pub long_conversation: LongConversation,
    pub costs: Vec<Cost>,
    pub memory: Vec<Memory>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    runtime: String,
    backend: String,
    weights: String,
    precision: Option<String>,
    threads: usize,
    answers: Vec<Answer>,
    failure: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// Milliseconds from the call to each token.
    times: Vec<f64>,
    text: Option<String>,
    ids: Option<Vec<u32>>,
    decode_tokens_per_second: Option<f64>,
}

/// Milliseconds on the page's main thread; 0 where no task took over 50.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LongestTask {
    pub opening: f64,
    pub loading: f64,
    pub generating: f64,
    pub dragging: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    pub backend: String,
    pub precision: String,
    pub context_tokens: usize,
    pub traits: usize,
    pub decode_tokens_per_second: Option<f64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    pub backend: String,
    pub precision: String,
    pub context_tokens: usize,
    pub wasm_bytes: u64,
    pub device_bytes: u64,
}

pub fn measure(
    root: &Path,
    folder: &Path,
    browser: &Path,
    long: &Prompt,
    short: &Prompt,
    arguments: &Arguments,
) -> Result<Measured> {
    let bench = root.join("tests/bench");
    let timed = Programs::Fresh.serve_for_timing(
        root,
        root,
        &[
            ("/pages", bench.join("pages")),
            ("/packages", bench.join("node_modules")),
            ("/files", folder.join("files")),
        ],
    )?;
    let isolated = Programs::AsBuilt.serve(root)?;
    let job = json!({
        "question": long,
        "shortQuestion": short,
        "rounds": arguments.rounds,
        "peers": arguments.peers,
    });
    let mut driver = driver(root, browser, "main.ts");
    driver
        .env("TRIMTAB_URL", timed.url())
        .env("TRIMTAB_ISOLATED_URL", isolated.url());
    process::ask(&mut driver, &job)
}

/// A script of `tests/bench` that drives the browser.
pub fn driver(root: &Path, browser: &Path, script: &str) -> Command {
    let mut driver = process::command("node", &root.join("tests/bench"));
    driver.args(["--import", "tsx", script]);
    driver.env("CHROMIUM", browser);
    driver
}

impl Measured {
    pub fn rows(&self, prompt: &Prompt, vocabulary: Vocabulary<'_>) -> Result<Vec<Row>> {
        self.outcomes
            .iter()
            .map(|outcome| outcome.row(prompt, vocabulary))
            .collect()
    }
}

impl Outcome {
    fn row(&self, prompt: &Prompt, vocabulary: Vocabulary<'_>) -> Result<Row> {
        let precision = self.precision.as_deref();
        let mut row = Row::new(&self.runtime, "browser", precision, self.threads, prompt);
        row.backend.clone_from(&self.backend);
        row.weights.clone_from(&self.weights);
        row.failure.clone_from(&self.failure);
        let samples = self.answers.iter().map(|answer| answer.sample(vocabulary));
        row.summarise(&samples.collect::<Result<Vec<_>>>()?);
        Ok(row)
    }
}

impl Answer {
    fn sample(&self, vocabulary: Vocabulary<'_>) -> Result<Sample> {
        ensure!(
            !self.times.is_empty(),
            "an answer without a token was reported"
        );
        let (first, last) = (self.times[0], self.times[self.times.len() - 1]);
        let after = self.times.len() - 1;
        Ok(Sample {
            first_token_s: first / 1000.0,
            decode_tok_s: self
                .decode_tokens_per_second
                .or((after > 0).then(|| after as f64 * 1000.0 / (last - first))),
            tokens: self.times.len(),
            text: match (&self.text, &self.ids) {
                (Some(text), _) => text.clone(),
                (None, Some(ids)) => vocabulary.decode(ids)?,
                (None, None) => String::new(),
            },
        })
    }
}
