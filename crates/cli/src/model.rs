//! The model directory that a verb works with, and the engine loaded from it.

use crate::progress;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use trimtab_checkpoint::source::FileSource;
use trimtab_checkpoint::{ModelConfig, WeightFile};
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::{Backend, Engine, EngineOptions, Precision, TokenId};

/// Below the current directory, one of those above it, or those above the program.
const DEFAULT_MODEL: &str = "models/smollm2-135m-instruct";

/// Largest JSON file read.
const MAX_JSON_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, Args)]
pub struct ModelArguments {
    /// Model directory [default: models/smollm2-135m-instruct]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// What computes [default: cpu]
    #[arg(long)]
    pub backend: Option<BackendArgument>,
    /// How activations enter a weight matrix: as f32, or in 8-bit blocks [default: exact]
    #[arg(long)]
    pub precision: Option<PrecisionArgument>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackendArgument {
    Gpu,
    Cpu,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrecisionArgument {
    Exact,
    Fast,
}

impl ModelArguments {
    /// The directory: the given one, or the default.
    pub fn directory(&self) -> Result<PathBuf> {
        match &self.model {
            Some(directory) => Ok(directory.clone()),
            None => find_up(DEFAULT_MODEL)
                .with_context(|| format!("there is no {DEFAULT_MODEL} here; get it with `cargo xtask model`, or name a model directory with --model")),
        }
    }

    pub fn config(&self) -> Result<ModelConfig> {
        let path = self.directory()?.join("config.json");
        let bytes = read_bounded(&path, MAX_JSON_BYTES)?;
        ModelConfig::from_json(&bytes).with_context(|| path.display().to_string())
    }

    /// Loads the engine with room for `sequences` conversations of `context` tokens.
    pub fn engine(&self, context: Option<usize>, sequences: usize) -> Result<Engine> {
        let config = self.config()?;
        let path = self.directory()?.join("model.safetensors");
        let options = EngineOptions {
            backend: match self.backend.unwrap_or(BackendArgument::Cpu) {
                BackendArgument::Gpu => Backend::Gpu,
                BackendArgument::Cpu => Backend::Cpu,
            },
            precision: match self.precision.unwrap_or(PrecisionArgument::Exact) {
                PrecisionArgument::Exact => Precision::Exact,
                PrecisionArgument::Fast => Precision::Fast,
            },
            context,
            sequences,
        };
        let load = async {
            let weights = WeightFile::open(FileSource::open(&path)?)
                .await
                .with_context(|| path.display().to_string())?;
            let mut report = |load: LoadProgress| {
                let share = load.bytes_done as f64 / load.bytes_total.max(1) as f64;
                progress::show(&format!("loading the model: {:.0} %", 100.0 * share));
            };
            anyhow::Ok(Engine::load(&config, &weights, options, &mut report).await?)
        };
        let engine = pollster::block_on(load)?;
        progress::finish();
        Ok(engine)
    }
}

/// The tokens that end an answer of this model.
pub fn end_tokens(config: &ModelConfig) -> Vec<TokenId> {
    config.end_tokens.iter().copied().map(TokenId).collect()
}

/// `relative` below the current directory or one above it, or above the program's own file.
pub fn find_up(relative: &str) -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    starts
        .iter()
        .flatten()
        .flat_map(|start| start.ancestors())
        .map(|directory| directory.join(relative))
        .find(|path| path.exists())
}

/// A whole file of at most `limit` bytes.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let named = || path.display().to_string();
    let length = std::fs::metadata(path).with_context(named)?.len();
    if length > limit {
        bail!(
            "{} is {length} bytes long, more than the {limit} that are read",
            path.display()
        );
    }
    std::fs::read(path).with_context(named)
}

/// A JSON file of at most 64 MiB.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_bounded(path, MAX_JSON_BYTES)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not the JSON that is expected here", path.display()))
}
