//! `cargo xtask bench`: what the page costs and how fast it answers, beside other runtimes in the same run.

mod against;
mod browser;
mod gpu;
mod growth;
mod interval;
mod long_conversation;
mod native;
mod peer_files;
mod prompt;
mod report;
mod row;
mod weight;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::{node, page, system};
use prompt::{Prompt, Vocabulary};
use report::Report;

/// Longest answer that is timed.
const ANSWER_TOKENS: usize = 64;

#[derive(Debug, Args)]
pub struct Arguments {
    /// Also time other runtimes: wllama and ONNX Runtime in the browser, llama.cpp natively.
    #[arg(long)]
    peers: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Answers of each runtime; the medians are reported.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only weigh the built page; nothing is timed.
    #[arg(long)]
    weight: bool,
    /// Only measure how the time of a token grows with context, traits and model, on the CPU executor.
    #[arg(long)]
    growth: bool,
    /// Only measure what eight sequences write side by side, beside one: on the `cpu`, or on this machine's adapter (`gpu`).
    #[arg(long, value_name = "EXECUTOR", value_parser = ["cpu", "gpu"])]
    batch: Option<String>,
    /// Only look for long tasks of the page's main thread with a long conversation on the screen.
    #[arg(long)]
    long_conversation: bool,
    /// Only profile the GPU executor on this machine's adapter, kernel by kernel.
    #[arg(long)]
    profile: bool,
    /// Only measure what readings and a steering plan cost on this machine's adapter.
    #[arg(long)]
    steering: bool,
    /// Only time the GPU executor on this machine's adapter, by model and variant.
    #[arg(long)]
    gpu: bool,
    /// Only compare with another built checkout, in turns: the CPU executor natively and in Chromium, and on a software adapter what a
    /// token asks of the GPU.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// Pairs of answers that `--steering` and `--against` compare.
    #[arg(long, default_value_t = 30)]
    pairs: usize,
    /// Those of `--against` in Chromium, where fewer are wanted there; 0 leaves Chromium out.
    #[arg(long)]
    browser_pairs: Option<usize>,
    /// Of `--profile` and `--steering`.
    #[arg(long, default_value = "fast")]
    precision: String,
}

pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let model = root.join("models/smollm2-135m-instruct");
    let vocabulary = Vocabulary {
        root,
        model: &model,
    };
    if arguments.profile {
        return gpu::profile(root, &model, &arguments.precision);
    }
    if arguments.growth {
        return growth::measure(root, &model, arguments.rounds);
    }
    if let Some(backend) = &arguments.batch {
        let prompt = Prompt::short(&vocabulary)?;
        return native::batches(root, &model, &prompt, backend, arguments.rounds);
    }
    if arguments.gpu {
        return gpu::speed(root, &model, arguments.rounds);
    }
    if arguments.steering {
        return gpu::steering(root, &model, &arguments.precision, arguments.pairs);
    }
    if let Some(other) = &arguments.against {
        let browser_pairs = arguments.browser_pairs.unwrap_or(arguments.pairs);
        return against::compare(root, other, &vocabulary, arguments.pairs, browser_pairs);
    }
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    page::build(root, &page::PublicAddress::default())?;
    let weight = weight::weigh(root)?;
    if arguments.weight {
        print!("{weight}");
        return Ok(());
    }

    let browser = system::ensure_browser()?;
    node::ensure_packages(&root.join("tests"))?;
    node::ensure_packages(&root.join("tests/bench"))?;
    if arguments.long_conversation {
        print!("{}", long_conversation::measure(root, &browser)?);
        return Ok(());
    }
    let long = Prompt::long(&vocabulary)?;
    let short = Prompt::short(&vocabulary)?;
    let peers = arguments
        .peers
        .then(|| peer_files::ensure(root, &folder))
        .transpose()?;

    let mut rows = native::time(root, &model, &long, arguments.rounds, peers.as_ref())?;
    let measured = browser::measure(root, &folder, &browser, &long, &short, arguments)?;
    rows.extend(measured.rows(&long, vocabulary)?);
    row::compare_texts(&mut rows);
    let weights = fs::metadata(model.join("model.safetensors"))?.len();
    let report = Report::new(rows, measured, weight, weights);
    let path = folder.join("peers.json");
    fs::write(&path, report.rows_json()?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
