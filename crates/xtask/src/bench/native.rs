//! Answers without a browser: our CPU executor, and llama.cpp on the same file with as many threads.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::peer_files::PeerFiles;
use super::prompt::Prompt;
use super::row::{Row, Sample, median};
use crate::process;

/// What `crates/engine/examples/time_answer.rs` and `tests/bench/llama_cpp_answer.py` print.
#[derive(Debug, Deserialize)]
pub struct Timing {
    prompt_tokens: usize,
    pub tokens: usize,
    pub first_token_s: f64,
    pub decode_tok_s: Option<f64>,
    pub text: String,
}

struct Contestant {
    row: Row,
    command: Box<dyn Fn() -> Command>,
    request: Value,
    samples: Vec<Sample>,
}

/// One row for each runtime and number of threads, rounds interleaved, a process for each answer.
pub fn time(
    root: &Path,
    model: &Path,
    prompt: &Prompt,
    rounds: usize,
    peers: Option<&PeerFiles>,
) -> Result<Vec<Row>> {
    build(root)?;
    let cores = available_parallelism().map_or(1, usize::from);
    let counts = if cores > 1 { vec![1, cores] } else { vec![1] };
    let mut contestants = Vec::new();
    for threads in counts {
        for precision in ["exact", "fast"] {
            contestants.push(ours(root, model, prompt, threads, precision));
        }
        if let Some(peers) = peers {
            contestants.push(llama_cpp(root, peers, prompt, threads));
        }
    }
    for round in 1..=rounds {
        for contestant in &mut contestants {
            if contestant.row.failure.is_some() {
                continue;
            }
            let name = contestant.row.name();
            eprintln!(
                "round {round}: {name}, {} threads, native",
                contestant.row.threads
            );
            match process::ask::<Timing>(&mut (contestant.command)(), &contestant.request) {
                Ok(timing) if timing.prompt_tokens == prompt.ids.len() => {
                    contestant.samples.push(Sample {
                        first_token_s: timing.first_token_s,
                        decode_tok_s: timing.decode_tok_s,
                        tokens: timing.tokens,
                        text: timing.text,
                    });
                }
                Ok(timing) => bail!("{name} read {} prompt tokens", timing.prompt_tokens),
                Err(error) => {
                    eprintln!("{name}: {error:#}");
                    contestant.row.failure = Some(format!("{error:#}"));
                }
            }
        }
    }
    let finished = contestants.into_iter().map(|contestant| {
        let mut row = contestant.row;
        row.summarise(&contestant.samples);
        row
    });
    Ok(finished.collect())
}

/// Builds `crates/engine/examples/time_answer.rs`.
pub fn build(checkout: &Path) -> Result<()> {
    let mut build = process::cargo(checkout);
    process::run(build.args(["build", "--release", "--example", "time_answer"]))
}

fn ours(root: &Path, model: &Path, prompt: &Prompt, threads: usize, precision: &str) -> Contestant {
    let root = root.to_owned();
    Contestant {
        row: Row::new("trimtab", "native", Some(precision), threads, prompt),
        command: Box::new(move || {
            let mut program = process::example(&root, "time_answer");
            program.env("RAYON_NUM_THREADS", threads.to_string());
            program
        }),
        request: request(model, "cpu", precision, prompt, prompt.max_tokens, 1),
        samples: Vec::new(),
    }
}

pub fn request(
    model: &Path,
    backend: &str,
    precision: &str,
    prompt: &Prompt,
    max_tokens: usize,
    sequences: u32,
) -> Value {
    json!({
        "model": model,
        "backend": backend,
        "precision": precision,
        "prompt": prompt.ids,
        "max_tokens": max_tokens,
        "directions": 0,
        "sequences": sequences,
    })
}

fn llama_cpp(root: &Path, peers: &PeerFiles, prompt: &Prompt, threads: usize) -> Contestant {
    let (root, peers_files) = (root.to_owned(), peers.clone());
    Contestant {
        row: Row::new("llama.cpp", "native", None, threads, prompt),
        command: Box::new(move || peers_files.script(&root, "llama_cpp_answer.py")),
        request: json!({
            "model": peers.gguf,
            "prompt": prompt.ids,
            "max_tokens": prompt.max_tokens,
            "threads": threads,
        }),
        samples: Vec::new(),
    }
}

/// Sequences that answer side by side, as an extraction has them.
const SIDE_BY_SIDE: [u32; 2] = [1, 8];
const BATCH_TOKENS: usize = 16;

/// Prints how many tokens a second several sequences write together, beside one, medians of interleaved rounds. `time_answer` fails
/// where they do not all choose the same tokens; that one alone chooses these is tested (`crates/engine/tests/it/answers_agree.rs`).
pub fn batches(
    root: &Path,
    model: &Path,
    prompt: &Prompt,
    backend: &str,
    rounds: usize,
) -> Result<()> {
    println!(
        "| executor | precision | {} sequence, tokens/s | {} sequences, tokens/s of all | × |",
        SIDE_BY_SIDE[0], SIDE_BY_SIDE[1]
    );
    println!("| --- | --- | --- | --- | --- |");
    for precision in ["exact", "fast"] {
        let mut speeds = SIDE_BY_SIDE.map(|_| Vec::new());
        for _ in 0..rounds {
            for (sequences, speeds) in SIDE_BY_SIDE.into_iter().zip(&mut speeds) {
                let request = request(model, backend, precision, prompt, BATCH_TOKENS, sequences);
                let timing: Timing =
                    process::ask(&mut process::example(root, "time_answer"), &request)?;
                let speed = timing.decode_tok_s.context("an answer was too short")?;
                speeds.push(speed);
            }
        }
        let [alone, together] = speeds.map(|speeds| median(speeds.into_iter()));
        let (alone, together) = alone.zip(together).context("nothing was timed")?;
        println!(
            "| {backend} | {precision} | {alone:.1} | {together:.1} | {:.2} |",
            together / alone
        );
    }
    Ok(())
}
