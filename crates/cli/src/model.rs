//! The model directory that a verb works with, and the engine loaded from it.

use crate::adapters::{AdapterFiles, directory_and_scale};
use crate::files::{MAX_JSON_BYTES, find_up, read_bounded};
use crate::gguf_cache;
use crate::progress;
use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use trimtab_checkpoint::convert::directory::hash_file;
use trimtab_checkpoint::manifest::{self, Manifest};
use trimtab_checkpoint::{ChatTemplate, FileSource, ModelConfig, Tokenizer, WeightFile, adapter};
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::memory::{MemoryNeeds, MemoryThere, Shortage};
use trimtab_engine::{AdapterTerm, Backend, Engine, EngineOptions, Precision};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::trait_vector::sha256;
use trimtab_studio::generation::SEQUENCES;
use trimtab_studio::session::{ModelNames, Session};

/// Below the current directory, one of those above it, or those above the program.
const DEFAULT_MODEL: &str = "models/smollm2-135m-instruct";

/// One of the names that values of `T` have in JSON.
pub fn named<T>(names: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(names)
        .try_map(|name| serde_json::from_value(serde_json::Value::String(name)))
}

#[derive(Clone, Debug, Args)]
pub struct ModelArguments {
    /// Model directory, or a GGUF file, which is converted once and kept (`trimtab cache`) [default: models/smollm2-135m-instruct]
    #[arg(long, value_name = "DIR|FILE.gguf")]
    pub model: Option<PathBuf>,
    /// Executor that computes; the reference is the slow, readable one that the others are checked against [default: cpu]
    #[arg(long, value_parser = named::<Backend>(&["gpu", "cpu", "reference"]))]
    pub backend: Option<Backend>,
    /// How activations enter a weight matrix: as f32, or as 8-bit integers, which is faster where weights are
    /// quantised, and impossible where they are not [default: fast for generate, exact for all other verbs]
    #[arg(long, value_parser = named::<Precision>(&["exact", "fast"]))]
    pub precision: Option<Precision>,
    /// Tune the model by an adapter, a PEFT directory (`trimtab train` makes one), at this much of it; as often as wished [default
    /// scale: 1]
    #[arg(long, value_name = "DIR[=SCALE]")]
    pub adapter: Vec<String>,
}

impl ModelArguments {
    /// The directory: the given one, that of the given file, or the default.
    pub fn directory(&self) -> Result<PathBuf> {
        let directory = match &self.model {
            Some(file) if file.is_file() => return gguf_cache::directory_of(file),
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

    /// The sha256 of the weights as the manifest has it (without a manifest, of the file itself), and that of the file that they
    /// were made of. Of a GGUF file that was named, its own comes first: it stays the same whatever the weights are stored as.
    pub fn names(&self) -> Result<ModelNames> {
        let manifest = self.manifest()?;
        let source = manifest.as_ref().and_then(|one| one.source_sha256.clone());
        let weights = match manifest.as_ref().and_then(Manifest::weights) {
            Some(weights) => weights.sha256.clone(),
            None => {
                let path = self.directory()?.join(manifest::WEIGHTS);
                let hash = hash_file(&path).with_context(|| path.display().to_string())?;
                hash.1
            }
        };
        Ok(match source {
            Some(source) if self.model.as_ref().is_some_and(|path| path.is_file()) => ModelNames {
                sha256: source,
                other: Some(weights),
            },
            other => ModelNames {
                sha256: weights,
                other,
            },
        })
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
        let tokenizer = Tokenizer::from_json(&tokenizer)?;
        let template = ChatTemplate::of_model(template.as_deref(), config.as_deref(), &tokenizer)?;
        Ok(ChatText {
            tokenizer,
            template,
        })
    }

    /// The same with fast activations unless the command line asks for others: for verbs whose result is read by somebody,
    /// not measured.
    pub fn fast_unless_told(&self) -> Self {
        Self {
            precision: self.precision.or(Some(Precision::Fast)),
            ..self.clone()
        }
    }

    /// The session that every verb of the studio works with: an engine with room for `sequences` conversations of `context`
    /// tokens, and the model's text side.
    pub fn session(&self, context: Option<usize>, sequences: usize) -> Result<Session> {
        self.load(self.chat()?, context, sequences)
    }

    /// The same for verbs that may be given token ids alone: where the directory has no usable text side, messages are
    /// refused with the reason.
    pub fn session_for_ids(&self, context: Option<usize>) -> Result<Session> {
        let chat = self.chat().or_else(|reason| {
            let path = self.directory()?.join(manifest::TOKENIZER);
            let tokenizer = read_bounded(&path, MAX_JSON_BYTES).ok();
            let tokenizer = tokenizer.and_then(|json| Tokenizer::from_json(&json).ok());
            anyhow::Ok(ChatText::refusing(tokenizer, &format!("{reason:#}"))?)
        })?;
        self.load(chat, context, SEQUENCES)
    }

    fn load(&self, chat: ChatText, context: Option<usize>, sequences: usize) -> Result<Session> {
        let mut config = self.config()?;
        config.end_answers_with(chat.template.end_tokens(&chat.tokenizer));
        let path = self.directory()?.join(manifest::WEIGHTS);
        let options = EngineOptions {
            backend: self.backend.unwrap_or(Backend::Cpu),
            precision: self.precision.unwrap_or(Precision::Exact),
            context,
            sequences,
        };
        let load = async {
            let weights = WeightFile::open(FileSource::open(&path)?)
                .await
                .with_context(|| path.display().to_string())?;
            if let Some(shortage) = shortage(&config, options, &weights)? {
                progress::warn(&format!("this machine may be short of memory: {shortage}"));
            }
            let mut report = |load: LoadProgress| {
                let share = load.bytes_done as f64 / load.bytes_total.max(1) as f64;
                progress::show(&format!("loading the model: {:.0} %", 100.0 * share));
            };
            anyhow::Ok(Engine::load(&config, &weights, options, &mut report).await?)
        };
        let engine = pollster::block_on(load)?;
        progress::finish();
        if let Some(notice) = chat.template.notice() {
            progress::warn(notice);
        }
        let mut session = Session::new(engine, chat, self.names()?);
        let mut terms = Vec::new();
        let mut tuned = session.sha256.clone();
        for text in &self.adapter {
            let (term, hash) = applied(text, &session)?;
            if term.scale != 0.0 {
                tuned = sha256(format!("{tuned} {hash}={}", term.scale).as_bytes());
            }
            terms.push(term);
        }
        session.engine.set_adapters(terms)?;
        // What is kept of a tuned model is not the base model's.
        if tuned != session.sha256 {
            session.is_tuned_to(tuned);
        }
        Ok(session)
    }
}

/// The adapter of `DIR[=SCALE]`, and the sha256 of its weights.
fn applied(text: &str, session: &Session) -> Result<(AdapterTerm, String)> {
    let (directory, scale) = directory_and_scale(text)?;
    let files = AdapterFiles::read(directory)?;
    let AdapterFiles {
        config, weights, ..
    } = &files;
    let named = || directory.display().to_string();
    let file =
        adapter::Adapter::parse(config, weights, session.engine.config()).with_context(named)?;
    let made_on = file.about.model_sha256.as_deref();
    files.warn(made_on.map(|own| session.is_model(own)));
    let adapter = session.engine.adapter(&file).with_context(named)?;
    Ok((AdapterTerm { adapter, scale }, sha256(weights)))
}

/// What the system has too little of for the model, as far as it says; a graphics device's own limits are looked at when it is opened.
fn shortage(
    config: &ModelConfig,
    options: EngineOptions,
    weights: &WeightFile<FileSource>,
) -> Result<Option<Shortage>> {
    if options.backend == Backend::Gpu {
        return Ok(None);
    }
    let needs = MemoryNeeds::of_file(config, options.backend, options.precision, weights)?;
    let only_memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let there = MemoryThere {
        total: Some(System::new_with_specifics(only_memory).available_memory()),
        largest_buffer: None,
    };
    Ok(needs.shortage(there))
}
