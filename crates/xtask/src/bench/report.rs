//! Everything that was measured, as one table after the other.

use std::env::consts;
use std::fmt;
use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result};
use serde::Serialize;

use super::browser::{Cost, LongestTask, Measured, Memory};
use super::long_conversation::LongConversation;
use super::row::{Row, median};
use super::weight::Weight;

#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    browser: String,
    pub rows: Vec<Row>,
    /// Seconds from navigation to the first token of an answer to 30 tokens, everything cached; the median.
    warm_start_s: Option<f64>,
    warm_starts: usize,
    longest_main_thread_task_ms: LongestTask,
    long_conversation: LongConversation,
    costs: Vec<Cost>,
    memory: Vec<MemoryUse>,
    weight: Weight,
}

#[derive(Debug, Serialize)]
struct MemoryUse {
    #[serde(flatten)]
    bytes: Memory,
    /// Of WebAssembly and device together.
    times_the_weights: f64,
}

impl Report {
    /// `weights`: the bytes of the weight file.
    pub fn new(rows: Vec<Row>, measured: Measured, weight: Weight, weights: u64) -> Self {
        let memory = measured.memory.into_iter().map(|bytes| MemoryUse {
            times_the_weights: (bytes.wasm_bytes + bytes.device_bytes) as f64 / weights as f64,
            bytes,
        });
        Self {
            machine: machine(),
            browser: measured.browser,
            rows,
            warm_start_s: median(measured.warm_start_seconds.iter().copied()),
            warm_starts: measured.warm_start_seconds.len(),
            longest_main_thread_task_ms: measured.longest_task,
            long_conversation: measured.long_conversation,
            costs: measured.costs,
            memory: memory.collect(),
            weight,
        }
    }

    /// The table of runtimes for other programs.
    pub fn rows_json(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(&self.rows).context("the rows are no JSON")
    }
}

/// The processor's own name where the system tells it.
fn machine() -> String {
    let threads = available_parallelism().map_or(1, usize::from);
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or(consts::ARCH, |(_, name)| name.trim());
    format!("{name}, {threads} hardware threads, {}", consts::OS)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}; {}\n", self.machine, self.browser)?;
        writeln!(
            f,
            "| runtime | where | backend | weights | threads | decode, tokens/s | prompt, tokens/s | first token, s | runs × tokens | text |"
        )?;
        writeln!(
            f,
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} × {} | {} |",
                row.name(),
                row.environment,
                row.backend,
                row.weights,
                row.threads,
                number(row.decode_tok_s),
                number(row.prefill_tok_s),
                number(row.first_token_s),
                row.runs,
                row.tokens,
                comparison(row),
            )?;
        }
        writeln!(f, "\n| the page | |\n| --- | --- |")?;
        writeln!(
            f,
            "| warm start to the first token, 30-token prompt, CPU ({} runs) | {} s |",
            self.warm_starts,
            number(self.warm_start_s)
        )?;
        let task = &self.longest_main_thread_task_ms;
        for (what, milliseconds) in [
            ("opening the page", task.opening),
            ("loading the model", task.loading),
            ("generating", task.generating),
            ("dragging a slider", task.dragging),
        ] {
            let time = match milliseconds {
                none if none <= 50.0 => "none over 50 ms".to_owned(),
                long => format!("{long:.0} ms"),
            };
            writeln!(f, "| longest main-thread task while {what} | {time} |")?;
        }
        for memory in &self.memory {
            writeln!(
                f,
                "| memory at {} tokens, {} {} | {:.1} MB WebAssembly + {:.1} MB device = {:.2} × the weights |",
                memory.bytes.context_tokens,
                memory.bytes.backend,
                memory.bytes.precision,
                memory.bytes.wasm_bytes as f64 / 1e6,
                memory.bytes.device_bytes as f64 / 1e6,
                memory.times_the_weights,
            )?;
        }
        write!(f, "{}", self.long_conversation)?;
        writeln!(
            f,
            "\n| backend | context, tokens | traits read | decode, tokens/s (one answer of 12) |\n| --- | --- | --- | --- |"
        )?;
        for cost in &self.costs {
            writeln!(
                f,
                "| {} {} | {} | {} | {} |",
                cost.backend,
                cost.precision,
                cost.context_tokens,
                cost.traits,
                number(cost.decode_tokens_per_second),
            )?;
        }
        write!(f, "\n{}", self.weight)
    }
}

fn comparison(row: &Row) -> String {
    match (&row.failure, row.same_characters) {
        (Some(failure), _) => format!("failed: {}", failure.replace(['|', '\n'], " ")),
        (None, None) => "what the others are compared with".into(),
        (None, Some(same)) if same == row.text.chars().count() => "the same".into(),
        (None, Some(same)) => format!("the first {same} characters are the same"),
    }
}

/// Three significant digits.
fn number(value: Option<f64>) -> String {
    match value {
        None => "–".into(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}
