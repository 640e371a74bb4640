//! The model directory that a verb works with, and the engine loaded from it.

use crate::progress;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use trimtab_checkpoint::manifest::{self, Manifest};
use trimtab_checkpoint::text::as_utf8;
use trimtab_checkpoint::{ChatTemplate, FileSource, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::{Backend, Engine, EngineOptions, Precision, TokenId};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::trait_vector::sha256;
use trimtab_studio::session::Session;

/// Below the current directory, one of those above it, or those above the program.
const DEFAULT_MODEL: &str = "models/smollm2-135m-instruct";

/// Largest JSON file read.
const MAX_JSON_BYTES: u64 = 64 << 20;

#[derive(Clone, Debug, Args)]
pub struct ModelArguments {
    /// Model directory [default: models/smollm2-135m-instruct]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Executor that computes [default: cpu]
    #[arg(long)]
    pub backend: Option<BackendArgument>,
    /// How activations enter a weight matrix: as f32, or as 8-bit integers, which is faster where weights are
    /// quantised, and impossible where they are not [default: fast for generate, exact for all other verbs]
    #[arg(long)]
    pub precision: Option<PrecisionArgument>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum BackendArgument {
    Gpu,
    Cpu,
    /// The slow, readable executor that the others are checked against
    Reference,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum PrecisionArgument {
    Exact,
    Fast,
}

impl ModelArguments {
    /// The directory: the given one, or the default.
    pub fn directory(&self) -> Result<PathBuf> {
        let directory = match &self.model {
            Some(directory) => directory.clone(),
            None => find_up(DEFAULT_MODEL).with_context(|| {
                format!("there is no {DEFAULT_MODEL} here; get it with `cargo xtask model`, or name a model directory with --model")
            })?,
        };
        if !directory.join(manifest::CONFIG).is_file() {
            bail!(
                "{} is no model directory, it has no {}; make one with `trimtab convert`",
                directory.display(),
                manifest::CONFIG
            );
        }
        Ok(directory)
    }

    pub fn config(&self) -> Result<ModelConfig> {
        let path = self.directory()?.join(manifest::CONFIG);
        let bytes = read_bounded(&path, MAX_JSON_BYTES)?;
        ModelConfig::from_json(&bytes).with_context(|| path.display().to_string())
    }

    /// The directory's manifest, where it has one.
    pub fn manifest(&self) -> Result<Option<Manifest>> {
        let path = self.directory()?.join(manifest::MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let bytes = read_bounded(&path, manifest::MAX_MANIFEST_BYTES as u64)?;
        Ok(Some(
            Manifest::from_json(&bytes).with_context(|| path.display().to_string())?,
        ))
    }

    /// The sha256 of the weights as the manifest has it; without a manifest, of the file itself.
    pub fn weights_sha256(&self) -> Result<String> {
        let manifest = self.manifest()?;
        if let Some(weights) = manifest.as_ref().and_then(Manifest::weights) {
            return Ok(weights.sha256.clone());
        }
        let path = self.directory()?.join(manifest::WEIGHTS);
        Ok(sha256(
            &std::fs::read(&path).with_context(|| path.display().to_string())?,
        ))
    }

    /// The tokenizer and chat template.
    pub fn chat(&self) -> Result<ChatText> {
        let directory = self.directory()?;
        let read = |name: &str| {
            let path = directory.join(name);
            path.exists()
                .then(|| read_bounded(&path, MAX_JSON_BYTES))
                .transpose()
        };
        let Some(tokenizer) = read(manifest::TOKENIZER)? else {
            bail!(
                "{} has no {}; give token ids with --ids",
                directory.display(),
                manifest::TOKENIZER
            );
        };
        let (template, config) = (
            read(manifest::CHAT_TEMPLATE)?,
            read(manifest::TOKENIZER_CONFIG)?,
        );
        Ok(ChatText {
            tokenizer: Tokenizer::from_json(&tokenizer)?,
            template: ChatTemplate::from_files(template.as_deref(), config.as_deref())?,
        })
    }

    /// The tokenizer alone, where the directory has one.
    pub fn tokenizer(&self) -> Result<Option<Tokenizer>> {
        let path = self.directory()?.join(manifest::TOKENIZER);
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Tokenizer::from_json(&read_bounded(
            &path,
            MAX_JSON_BYTES,
        )?)?))
    }

    /// The same with fast activations unless the command line asks for others: for verbs whose result is read by somebody,
    /// not measured.
    pub fn fast_unless_told(&self) -> Self {
        Self {
            precision: self.precision.or(Some(PrecisionArgument::Fast)),
            ..self.clone()
        }
    }

    /// The session that every verb of the studio works with: the engine, as [`Self::engine`] loads it, and the model's text side.
    pub fn session(&self, context: Option<usize>, sequences: usize) -> Result<Session> {
        let chat = self.chat()?;
        let engine = self.engine(context, sequences)?;
        Ok(Session::new(engine, chat, self.weights_sha256()?))
    }

    /// Loads the engine with room for `sequences` conversations of `context` tokens.
    pub fn engine(&self, context: Option<usize>, sequences: usize) -> Result<Engine> {
        let mut config = self.config()?;
        if let Ok(chat) = self.chat() {
            config.end_answers_with(chat.template.end_tokens(&chat.tokenizer));
        }
        let path = self.directory()?.join(manifest::WEIGHTS);
        let options = EngineOptions {
            backend: match self.backend.unwrap_or(BackendArgument::Cpu) {
                BackendArgument::Gpu => Backend::Gpu,
                BackendArgument::Cpu => Backend::Cpu,
                BackendArgument::Reference => Backend::Reference,
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
    serde_json::from_slice(&as_utf8(&bytes))
        .with_context(|| format!("{} is not the JSON that is expected here", path.display()))
}
