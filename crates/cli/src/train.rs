//! `trimtab train`: an adapter of the model is trained on a dataset, with or without a push, and written as a PEFT directory.

use crate::files::{read_bounded, write};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{self, Terminal};
use crate::vectors::{SteeringArguments, load_vector, neutral_answers, ready_made};
use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use trimtab_checkpoint::adapter::{CONFIG_FILE, WEIGHTS_FILE};
use trimtab_engine::record::MAX_DIRECTIONS;
use trimtab_engine::train::Target;
use trimtab_persona::dataset;
use trimtab_persona::plan::parse_layers;
use trimtab_persona::trait_vector::sha256;
use trimtab_studio::generation::SEQUENCES;
use trimtab_studio::session::Session;
use trimtab_studio::training::{
    Arrival, HeldOut, TrainEvent, TrainHistory, TrainRequest, TrainSettings, TraitPenalty,
};
use trimtab_studio::verbs::{Bytes, Event};

/// Longest dataset that is trained on, in bytes: some hundred thousand rows, months of work on a processor.
const MAX_DATA_BYTES: u64 = 256 << 20;
/// Longest saved run that is read, in bytes.
const MAX_STATE_BYTES: u64 = 4 << 30;
/// What a run that is not finished leaves in the adapter's directory.
const STATE_FILE: &str = "training.state";
/// What happened, beside the adapter.
const REPORT_FILE: &str = "training.json";
/// Longest file of neutral answers that is read.
const MAX_NEUTRAL_BYTES: u64 = 1 << 20;
/// Tokens of the longest row.
const CONTEXT: usize = 4_096;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// JSON Lines, one conversation a line: {"messages": [{"role", "content"}, …]}
    data: PathBuf,
    /// The adapter's directory, as PEFT has it; a run that was stopped goes on from what it left there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Train on so many rows, the first ones [default: all]
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Rank of the adapter [default: 8]
    #[arg(long, value_name = "R")]
    rank: Option<usize>,
    /// α of the adapter's scale α/r [default: 16]
    #[arg(long, value_name = "α")]
    alpha: Option<f32>,
    /// Scale by α/√r instead (rsLoRA)
    #[arg(long)]
    rank_stabilised: bool,
    /// Zero-based blocks that get an adapter: A-B [default: from 27 % of the depth to the last]
    #[arg(long, value_name = "A-B")]
    blocks: Option<String>,
    /// Matrices that get an adapter, of query, key, value, output, gate, up, down [default: all]
    #[arg(long, value_name = "NAME[,NAME…]", value_delimiter = ',', value_parser = crate::model::named::<Target>(
        &["query", "key", "value", "output", "gate", "up", "down"]
    ))]
    targets: Vec<Target>,
    /// Passes over the rows [default: 4]
    #[arg(long, value_name = "N")]
    epochs: Option<u32>,
    /// Rows of one step [default: 6]
    #[arg(long, value_name = "N")]
    rows_a_step: Option<usize>,
    /// AdamW's learning rate, which falls to 0 linearly [default: 0.0005]
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f32>,
    /// Steps over which it rises first [default: 0]
    #[arg(long, value_name = "N")]
    warmup_steps: Option<u32>,
    /// Seed of the adapter and of the rows' order [default: 0]
    #[arg(long, value_name = "SEED")]
    seed: Option<u32>,
    /// Hold out a share of the rows and measure the loss on them [default: 0]
    #[arg(long, value_name = "SHARE")]
    held_out: Option<f64>,
    /// Read every eighth of the run how far the ready-made traits have come, over so many of the model's neutral answers; 0: do not
    #[arg(long, value_name = "N", default_value_t = 6)]
    watch: usize,
    #[command(flatten)]
    push: SteeringArguments,
    /// Penalise what training moves the state along a trait: NAME=λ@LAYER
    #[arg(long, value_name = "NAME=λ@LAYER")]
    penalty: Option<String>,
    /// Print what happened as JSON
    #[arg(long)]
    json: bool,
}

/// What happened, as `training.json` has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    sha256: String,
    rows: usize,
    seconds: f64,
    tokens_a_second: f64,
    #[serde(flatten)]
    history: TrainHistory,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let data = read_bounded(&arguments.data, MAX_DATA_BYTES)?;
    let mut rows = dataset::parse(&data).with_context(|| arguments.data.display().to_string())?;
    rows.truncate(arguments.rows.unwrap_or(usize::MAX));
    std::fs::create_dir_all(&arguments.out).with_context(|| arguments.out.display().to_string())?;
    let state_file = arguments.out.join(STATE_FILE);
    let state = match state_file.exists() {
        true => Some(Bytes(read_bounded(&state_file, MAX_STATE_BYTES)?)),
        false => None,
    };
    ensure!(
        state.is_some() || !arguments.out.join(WEIGHTS_FILE).exists(),
        "{} holds an adapter already; name another directory with --out",
        arguments.out.display()
    );
    let mut session = arguments.model.session(Some(CONTEXT), SEQUENCES)?;
    let plan = arguments.push.load(&mut session, &[])?;
    let penalty = arguments.penalty.as_deref().map(penalty).transpose()?;
    if let Some(penalty) = &penalty {
        let mut vectors = session.vectors().to_vec();
        if vectors.iter().all(|known| known.name != penalty.vector) {
            vectors.push(load_vector(&penalty.vector, &session)?);
            session.set_vectors(vectors)?;
        }
    }
    let watched = watch_traits(arguments, &mut session)?;
    let request = TrainRequest {
        watched: Some(watched),
        rows,
        settings: settings(arguments)?,
        plan,
        penalty,
        state,
        data_sha256: Some(sha256(&data)),
    };
    let began = std::time::Instant::now();
    let mut tokens = 0;
    let mut watch = Terminal::new(|event| {
        let Event::Train(event) = event else { return };
        match event {
            TrainEvent::Step {
                step,
                steps,
                seconds_left,
            } => {
                tokens += step.tokens;
                let left = progress::left(seconds_left);
                progress::show(&format!(
                    "training: step {} of {steps}, loss {:.3}{left}",
                    step.step, step.loss
                ));
            }
            TrainEvent::State { state, .. } => {
                if let Err(error) = write(&state_file, &state) {
                    // The run goes on, and tries again with the next state.
                    progress::warn(&format!("{error:#}"));
                }
            }
            TrainEvent::HeldOut(found) if !arguments.json => {
                progress::finish();
                println!("{}", held_out(&found));
            }
            TrainEvent::Arrival(found) if !arguments.json => {
                progress::finish();
                println!("{}", arrival(&found));
            }
            TrainEvent::HeldOut(_) | TrainEvent::Arrival(_) => {}
        }
    });
    let trained = progress::wait(session.train(request, &mut watch));
    drop(watch);
    let trained = match state_file.exists() {
        true => trained.with_context(|| {
            format!(
                "with {} (remove it, or name another directory with --out, to begin again)",
                state_file.display()
            )
        })?,
        false => trained?,
    };
    let seconds = began.elapsed().as_secs_f64();
    let report = Report {
        sha256: trained.sha256,
        rows: trained.rows,
        seconds,
        tokens_a_second: tokens as f64 / seconds,
        history: trained.history,
    };
    let put = |name: &str, bytes: &[u8]| write(&arguments.out.join(name), bytes);
    put(WEIGHTS_FILE, &trained.weights)?;
    put(CONFIG_FILE, &trained.config)?;
    put(REPORT_FILE, &serde_json::to_vec(&report)?)?;
    if state_file.exists() {
        std::fs::remove_file(&state_file).with_context(|| state_file.display().to_string())?;
    }
    match arguments.json {
        true => print_json(&report),
        false => {
            print(&report, &arguments.out);
            Ok(())
        }
    }
}

fn settings(arguments: &Arguments) -> Result<TrainSettings> {
    let blocks = match &arguments.blocks {
        None => None,
        Some(text) => {
            let blocks = parse_layers(text).map_err(|reason| anyhow!("--blocks: {reason}"))?;
            match (blocks.first(), blocks.last()) {
                (Some(first), Some(last)) if last.index() - first.index() + 1 == blocks.len() => {
                    Some([first.index(), last.index()])
                }
                _ => bail!("--blocks: name neighbouring blocks, as in 8-29"),
            }
        }
    };
    Ok(TrainSettings {
        rank: arguments.rank,
        alpha: arguments.alpha,
        rank_stabilised: arguments.rank_stabilised.then_some(true),
        blocks,
        targets: (!arguments.targets.is_empty()).then(|| arguments.targets.clone()),
        epochs: arguments.epochs,
        rows_a_step: arguments.rows_a_step,
        learning_rate: arguments.learning_rate,
        warmup_steps: arguments.warmup_steps,
        seed: arguments.seed,
        held_out: arguments.held_out,
    })
}

/// `NAME=λ@LAYER`
fn penalty(text: &str) -> Result<TraitPenalty> {
    let parts = text
        .rsplit_once('=')
        .and_then(|(name, rest)| Some((name, rest.split_once('@')?)));
    let Some((name, (weight, layer))) = parts else {
        bail!("--penalty: {text:?} is not NAME=λ@LAYER, as in villainous=0.1@14");
    };
    let number = |what: &str| anyhow!("--penalty: {what:?} is no number that fits there");
    Ok(TraitPenalty {
        vector: name.to_owned(),
        weight: weight.parse().map_err(|_| number(weight))?,
        layer: layer.parse().map_err(|_| number(layer))?,
    })
}

/// Makes the ready-made traits that fit the model ones to watch; gives the number of answers to watch them over.
fn watch_traits(arguments: &Arguments, session: &mut Session) -> Result<usize> {
    let Some(path) = neutral_answers().filter(|_| arguments.watch > 0) else {
        return Ok(0);
    };
    let neutral = read_bounded(&path, MAX_NEUTRAL_BYTES)?;
    if session.take_neutral_answers(&neutral).is_err() {
        // Another model's: to write this one's own would take longer than some runs.
        return Ok(0);
    }
    let mut vectors = session.vectors().to_vec();
    for name in ready_made() {
        if vectors.len() < MAX_DIRECTIONS
            && vectors.iter().all(|known| known.name != name)
            && let Ok(vector) = load_vector(&name, session)
        {
            vectors.push(vector);
        }
    }
    session.set_vectors(vectors)?;
    Ok(arguments.watch)
}

/// The traits that came furthest.
fn arrival(found: &Arrival) -> String {
    let mut all: Vec<(&String, f64)> = found
        .traits
        .iter()
        .zip(found.shifts.iter().copied())
        .collect();
    all.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let far = all
        .iter()
        .take(3)
        .map(|(name, shift)| format!("{name} {shift:+.2}"));
    let far: Vec<String> = far.collect();
    format!("after step {}: shift along {}", found.step, far.join(", "))
}

fn held_out(found: &HeldOut) -> String {
    let pushed = found
        .pushed
        .map_or(String::new(), |loss| format!(", under the push {loss:.3}"));
    format!(
        "after step {}: loss on held-out rows {:.3} nats a token{pushed}",
        found.step, found.loss
    )
}

fn print(report: &Report, out: &Path) {
    if let (Some(first), Some(last)) = (report.history.steps.first(), report.history.steps.last()) {
        println!(
            "{} rows, {} steps, loss {:.3} → {:.3}; {:.0} s, {:.0} tokens a second",
            report.rows, last.step, first.loss, last.loss, report.seconds, report.tokens_a_second
        );
    }
    println!("{} holds the adapter ({})", out.display(), report.sha256);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_penalty_names_trait_strength_and_layer() {
        let read = penalty("villainous=0.25@14").unwrap();
        assert_eq!(
            (read.vector.as_str(), read.weight, read.layer),
            ("villainous", 0.25, 14)
        );
        for wrong in [
            "villainous",
            "villainous=1",
            "villainous=x@14",
            "a=1@b",
            "a=1@-2",
        ] {
            assert!(penalty(wrong).is_err(), "{wrong}");
        }
    }
}
