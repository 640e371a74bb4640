//! The GPU executor on this machine's adapter: `--profile` (its time kernel by kernel), `--steering` (what readings and a plan cost) and
//! `--gpu` (how fast it is, by model and variant).

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::interval::Interval;
use super::prompt::{Prompt, Vocabulary};
use super::row::median;
use crate::process;

/// Lengths of the context that a profile is taken at.
const CONTEXTS: [usize; 2] = [100, 2000];
const PROFILE_TOKENS: usize = 8;
const PROFILE_ROUNDS: usize = 5;
/// Traits that are read at every layer.
const DIRECTIONS: usize = 4;
const STEERED_TOKENS: usize = 16;

#[derive(Debug, Deserialize)]
struct Measured<T> {
    adapter: String,
    /// Which way the executor goes about its work there.
    variant: String,
    device_bytes: u64,
    measured: T,
}

#[derive(Debug, Deserialize)]
struct Profile {
    context: usize,
    seconds: f64,
    bytes_per_second: f64,
    products_per_second: f64,
    kernels: Vec<Kernel>,
}

#[derive(Debug, Deserialize)]
struct Kernel {
    kernel: String,
    dispatches: usize,
    seconds: f64,
    bytes: f64,
    products: f64,
    roofline: f64,
}

/// Time by kernel of a decoded token on this machine's adapter.
pub fn profile(root: &Path, model: &Path, precision: &str) -> Result<()> {
    let measured: Measured<Vec<Profile>> = ask(
        root,
        &json!({
            "model": { "directory": model },
            "precision": precision,
            "measure": "profile",
            "contexts": CONTEXTS,
            "tokens": PROFILE_TOKENS,
            "rounds": PROFILE_ROUNDS,
        }),
    )?;
    print!(
        "{} ({}), native, {precision}; medians of {PROFILE_ROUNDS} × {PROFILE_TOKENS} tokens\n{}",
        measured.adapter,
        measured.variant,
        profile_table(&measured.measured)
    );
    Ok(())
}

fn profile_table(profiles: &[Profile]) -> String {
    let mut table = String::new();
    let middle = |numbers: Vec<f64>| median(numbers.into_iter()).unwrap_or(f64::NAN);
    let peaks = |of: fn(&Profile) -> f64| middle(profiles.iter().map(of).collect()) / 1e9;
    let _ = writeln!(
        table,
        "measured peak: {:.1} GB/s read, {:.1} billion multiply-adds a second",
        peaks(|profile| profile.bytes_per_second),
        peaks(|profile| profile.products_per_second)
    );
    for context in CONTEXTS {
        let rounds: Vec<&Profile> = profiles
            .iter()
            .filter(|profile| profile.context == context)
            .collect();
        let Some(first) = rounds.first() else {
            continue;
        };
        let seconds = middle(rounds.iter().map(|profile| profile.seconds).collect());
        let dispatches: usize = first.kernels.iter().map(|kernel| kernel.dispatches).sum();
        let _ = writeln!(
            table,
            "\nafter {context} tokens: {:.2} ms a token in {dispatches} dispatches\n\
             kernel                  dispatches       ms   of all       MB  M mult-adds  of roofline",
            seconds * 1e3
        );
        for (place, kernel) in first.kernels.iter().enumerate() {
            let over = |of: fn(&Kernel) -> f64| {
                middle(
                    rounds
                        .iter()
                        .map(|profile| of(&profile.kernels[place]))
                        .collect(),
                )
            };
            let own = over(|kernel| kernel.seconds);
            let _ = writeln!(
                table,
                "{:<24}{:>10}{:>9.2}{:>8.1} %{:>9.2}{:>13.2}{:>11.1} %",
                kernel.kernel,
                kernel.dispatches,
                own * 1e3,
                100.0 * own / seconds,
                kernel.bytes / 1e6,
                kernel.products / 1e6,
                100.0 * over(|kernel| kernel.roofline),
            );
        }
    }
    table
}

/// What readings of [`DIRECTIONS`] traits at all layers and a plan of two vectors cost, over pairs of answers.
pub fn steering(root: &Path, model: &Path, precision: &str, pairs: usize) -> Result<()> {
    if pairs < 2 {
        bail!("an interval needs at least two pairs");
    }
    let prompt = Prompt::short(&Vocabulary { root, model })?;
    let measured: Measured<Vec<[f64; 2]>> = ask(
        root,
        &json!({
            "model": { "directory": model },
            "precision": precision,
            "measure": "steering",
            "prompt": prompt.ids,
            "tokens": STEERED_TOKENS,
            "pairs": pairs,
            "directions": DIRECTIONS,
        }),
    )?;
    let ratios = measured
        .measured
        .iter()
        .map(|[plain, steered]| steered / plain);
    let cost = Interval::of_ratios(&ratios.collect::<Vec<_>>());
    println!(
        "{} ({}), native, {precision}: {DIRECTIONS} traits read at every layer and a plan of two vectors on every layer cost {:+.1} % \
         of decode time (95 % interval {:+.1} % to {:+.1} %, {pairs} interleaved pairs of {STEERED_TOKENS} tokens)",
        measured.adapter,
        measured.variant,
        100.0 * (cost.middle - 1.0),
        100.0 * (cost.low - 1.0),
        100.0 * (cost.high - 1.0),
    );
    Ok(())
}

/// Models by their shapes; the first is the default one, with its own weights.
const MODELS: [&str; 4] = [
    "SmolLM2-135M",
    "SmolLM2-360M",
    "Qwen2.5-0.5B",
    "TinyLlama-1.1B",
];
/// As `crates/engine/src/gpu/variant.rs` names them.
const VARIANTS: [&str; 5] = [
    "merged wide packed, packed",
    "merged wide half, half",
    "merged wide packed, staged",
    "merged narrow float, shared",
    "apart wide packed, packed",
];
const SPEED_CONTEXTS: [usize; 3] = [100, 512, 2000];
const SPEED_TOKENS: usize = 64;

/// Tokens a second, reading and writing, by model, precision and, for the default model, variant.
pub fn speed(root: &Path, model: &Path, rounds: usize) -> Result<()> {
    println!(
        "Medians of {rounds} answers of {SPEED_TOKENS} tokens to prompts of {SPEED_CONTEXTS:?}; native; all but the default model with random weights"
    );
    for (index, name) in MODELS.into_iter().enumerate() {
        let model = match index {
            0 => json!({ "directory": model }),
            _ => json!({ "shape": name }),
        };
        let variants = match index {
            0 => VARIANTS.map(Some).to_vec(),
            _ => vec![None],
        };
        for variant in variants {
            // Exact activations are never made halves (`Variant::exists`).
            let in_halves = variant.is_some_and(|variant| variant.contains("half"));
            let precisions: &[_] = if in_halves {
                &["fast"]
            } else {
                &["fast", "exact"]
            };
            for &precision in precisions {
                let measured: Measured<Vec<Vec<[f64; 2]>>> = ask(
                    root,
                    &json!({
                        "model": model,
                        "precision": precision,
                        "variant": variant,
                        "measure": "speed",
                        "contexts": SPEED_CONTEXTS,
                        "tokens": SPEED_TOKENS,
                        "rounds": rounds,
                    }),
                )?;
                println!("\n{name}, {precision}, {}", speed_line(&measured));
            }
        }
    }
    Ok(())
}

fn speed_line(measured: &Measured<Vec<Vec<[f64; 2]>>>) -> String {
    let mut line = format!(
        "{} ({}), {:.0} MB on the device",
        measured.adapter,
        measured.variant,
        measured.device_bytes as f64 / 1e6
    );
    for (context, times) in SPEED_CONTEXTS.iter().zip(&measured.measured) {
        let middle =
            |which: usize| median(times.iter().map(|time| time[which])).unwrap_or(f64::NAN);
        let _ = write!(
            line,
            "\n{context:>8} tokens of prompt: read {:>8.0} a second ({:.1} ms to the first token), written {:>6.1} a second",
            *context as f64 / middle(0),
            1e3 * middle(0),
            SPEED_TOKENS as f64 / middle(1),
        );
    }
    line
}

/// Asks `crates/engine/examples/measure_gpu.rs`.
fn ask<T: DeserializeOwned>(root: &Path, request: &Value) -> Result<T> {
    process::ask(&mut process::example(root, "measure_gpu"), request)
}
