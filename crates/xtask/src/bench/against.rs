//! `--against DIR`: this build beside another checkout's. The two answer in turns, so that what else the machine does falls on both.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use super::browser;
use super::interval::Interval;
use super::native::{self, Timing};
use super::prompt::{Prompt, Vocabulary};
use super::row::median;
use crate::program::Programs;
use crate::{node, process, system};

/// This build is no slower where the interval of the ratio of times ends below this.
const LIMIT: f64 = 1.05;
/// Tokens that the GPU executor decodes to be counted.
const COUNTED_TOKENS: usize = 8;

/// Seconds: of this build, and of the other.
type Pair = [f64; 2];

/// Pairs of one measurement.
#[derive(Debug, Default, Deserialize)]
struct Pairs {
    /// A token written.
    written: Vec<Pair>,
    /// The prompt read, up to the first token.
    read: Vec<Pair>,
    /// From the start of the program, or navigation of the page, until it can answer.
    start: Vec<Pair>,
}

/// What one decoded token asks of the GPU.
#[derive(Debug, Deserialize)]
struct TokenCost {
    dispatches: f64,
    submissions: f64,
}

#[derive(Debug, Deserialize)]
struct InBrowser {
    browser: String,
    cpu: Pairs,
    gpu: [TokenCost; 2],
}

/// Prints the comparison as tables. Fails only where something could not be measured.
pub fn compare(
    root: &Path,
    other: &Path,
    vocabulary: &Vocabulary<'_>,
    pairs: usize,
    browser_pairs: usize,
) -> Result<()> {
    let other = other
        .canonicalize()
        .with_context(|| format!("there is no checkout at {}", other.display()))?;
    let prompt = Prompt::long(vocabulary)?;
    ensure!(pairs >= 2, "an interval needs at least two pairs");
    let mut table = format!(
        "{} beside {}; times of this build over times of the other, one thread, a {}-token prompt and {} tokens\n\n\
         | where | what | this, median | other, median | ratio, median | 95 % interval of the ratio | below {LIMIT} |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
        commit(root)?,
        commit(&other)?,
        prompt.ids.len(),
        prompt.max_tokens,
    );
    let builds = [root, &other];
    for checkout in builds {
        native::build(checkout)?;
    }
    for precision in ["fast", "exact"] {
        let measured = natively(builds, vocabulary.model, &prompt, precision, pairs)?;
        table += &measured.rows(&format!("native, {precision}"));
    }
    if browser_pairs == 0 {
        table += "\nChromium was left out.\n";
    } else if let Some(without) = builds
        .iter()
        .find(|checkout| !checkout.join("web/dist/index.html").is_file())
    {
        table += &format!(
            "\nChromium was left out: {} has no page (`cargo xtask build`).\n",
            without.display()
        );
    } else {
        table += &in_browser(root, &other, vocabulary, &prompt, browser_pairs)?;
    }
    print!("{table}");
    Ok(())
}

fn commit(checkout: &Path) -> Result<String> {
    let mut git = process::command("git", checkout);
    process::answer(git.args(["describe", "--always", "--dirty", "--abbrev=10"]))
        .with_context(|| format!("git names no commit of {}", checkout.display()))
}

/// A process for each answer; a pair before those that count warms up.
fn natively(
    builds: [&Path; 2],
    model: &Path,
    prompt: &Prompt,
    precision: &str,
    pairs: usize,
) -> Result<Pairs> {
    let request = native::request(model, "cpu", precision, prompt, prompt.max_tokens, 1);
    let mut measured = Pairs::default();
    let mut texts = [String::new(), String::new()];
    for pair in 0..=pairs {
        let mut times = [[0.0; 2]; 3];
        for build in [pair % 2, 1 - pair % 2] {
            let program = Path::new("target/release/examples/time_answer");
            let program = builds[build]
                .join(program)
                .with_extension(std::env::consts::EXE_EXTENSION);
            let mut program = process::command(program, builds[build]);
            program.env("RAYON_NUM_THREADS", "1");
            let start = Instant::now();
            let timing: Timing = process::ask(&mut program, &request)?;
            let whole = start.elapsed().as_secs_f64();
            let speed = timing.decode_tok_s.context("an answer was too short")?;
            let written = 1.0 / speed;
            let answering = timing.first_token_s + written * (timing.tokens - 1) as f64;
            let seconds = [written, timing.first_token_s, whole - answering];
            for (times, seconds) in times.iter_mut().zip(seconds) {
                times[build] = seconds;
            }
            texts[build] = timing.text;
        }
        if pair == 0 {
            continue;
        }
        eprintln!(
            "native, {precision}, pair {pair} of {pairs}: {:.4} and {:.4} s a token",
            times[0][0], times[0][1]
        );
        let [written, read, start] = times;
        measured.written.push(written);
        measured.read.push(read);
        measured.start.push(start);
    }
    if texts[0] != texts[1] {
        bail!(
            "the builds answer differently, {precision}:\n{}\n{}",
            texts[0],
            texts[1]
        );
    }
    Ok(measured)
}

/// The rows of the page on the CPU executor, and a line about the GPU's.
fn in_browser(
    root: &Path,
    other: &Path,
    vocabulary: &Vocabulary<'_>,
    prompt: &Prompt,
    pairs: usize,
) -> Result<String> {
    let browser = system::ensure_browser()?;
    node::ensure_packages(&root.join("tests"))?;
    node::ensure_packages(&root.join("tests/bench"))?;
    let ours = Programs::Fresh.serve_for_timing(root, root, &[])?;
    let theirs = Programs::AsBuilt.serve_for_timing(root, other, &[])?;
    let job = json!({
        "question": prompt,
        "shortQuestion": Prompt::short(vocabulary)?,
        "pairs": pairs,
        "addresses": [ours.url(), theirs.url()],
        "countedTokens": COUNTED_TOKENS,
    });
    let measured: InBrowser =
        process::ask(&mut browser::driver(root, &browser, "against.ts"), &job)?;
    let rows = measured.cpu.rows(&format!("{}, fast", measured.browser));
    let [this, other] = &measured.gpu;
    let rise = this.dispatches > other.dispatches || this.submissions > other.submissions;
    Ok(format!(
        "{rows}\nA token on the software adapter, fast: {} dispatches in {} submissions, the other's {} in {}: {}.\n",
        this.dispatches,
        this.submissions,
        other.dispatches,
        other.submissions,
        if rise { "MORE" } else { "no more" },
    ))
}

impl Pairs {
    fn rows(&self, place: &str) -> String {
        let named = [
            ("a token written", &self.written),
            ("the prompt read", &self.read),
            ("a warm start", &self.start),
        ];
        named.map(|(what, pairs)| row(place, what, pairs)).concat()
    }
}

fn row(place: &str, what: &str, pairs: &[Pair]) -> String {
    let milliseconds = |build: usize| median(pairs.iter().map(|pair| 1e3 * pair[build]));
    let ratios: Vec<f64> = pairs.iter().map(|[this, other]| this / other).collect();
    let Interval { low, high, .. } = Interval::of_ratios(&ratios);
    format!(
        "| {place} | {what} | {:.1} ms | {:.1} ms | {:.3} | {low:.3} to {high:.3} ({} pairs) | {} |\n",
        milliseconds(0).unwrap_or(f64::NAN),
        milliseconds(1).unwrap_or(f64::NAN),
        median(ratios.iter().copied()).unwrap_or(f64::NAN),
        ratios.len(),
        if high < LIMIT { "yes" } else { "NO" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_is_no_slower_where_the_whole_interval_is_below_the_limit() {
        // Logarithms with mean 0 and deviation 0.02: 2.262 × 0.02 / √10 is 0.0143, by Student's t with 9 degrees of freedom.
        let spread = (0.02 * (0.9_f64).sqrt()).exp();
        let pairs = |factor: f64| [[factor * spread, 1.0], [factor / spread, 1.0]].repeat(5);
        let even = row("here", "a token", &pairs(1.0));
        assert!(
            even.contains("| 1000.2 ms | 1000.0 ms | 1.000 | 0.986 to 1.014 (10 pairs) | yes |"),
            "{even}"
        );
        assert!(
            row("here", "a token", &pairs(1.03)).ends_with("1.015 to 1.045 (10 pairs) | yes |\n")
        );
        assert!(
            row("here", "a token", &pairs(1.04)).ends_with("1.025 to 1.055 (10 pairs) | NO |\n")
        );
    }
}
