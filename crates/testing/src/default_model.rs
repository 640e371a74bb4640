//! The default checkpoint: its files, and engines that hold it.

use crate::files::repository;
use pollster::block_on;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use trimtab_checkpoint::{ChatTemplate, FileSource, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::{Backend, Engine, EngineError, EngineOptions, Precision};

/// Its directory: `TRIMTAB_MODEL`, or where `cargo xtask model` puts it.
pub fn directory() -> PathBuf {
    let default = || repository().join("models/smollm2-135m-instruct");
    std::env::var_os("TRIMTAB_MODEL").map_or_else(default, PathBuf::from)
}

/// One of its files.
pub fn file(name: &str) -> Vec<u8> {
    let path = directory().join(name);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "this test needs the default checkpoint: {}: {error}; run `cargo xtask model`",
            path.display()
        )
    })
}

pub fn config() -> ModelConfig {
    ModelConfig::from_json(&file("config.json")).unwrap()
}

pub fn tokenizer() -> Tokenizer {
    Tokenizer::from_json(&file("tokenizer.json")).unwrap()
}

pub fn chat_template() -> ChatTemplate {
    let config = file("tokenizer_config.json");
    ChatTemplate::from_files(Some(&file("chat_template.jinja")), Some(&config)).unwrap()
}

/// An engine that the tests of one process take in turns, loaded when the first one asks.
#[derive(Debug)]
pub struct SharedEngine {
    options: EngineOptions,
    engine: OnceLock<Mutex<Engine>>,
}

impl SharedEngine {
    pub const fn new(
        backend: Backend,
        precision: Precision,
        context: usize,
        sequences: usize,
    ) -> Self {
        Self {
            options: EngineOptions {
                backend,
                precision,
                context: Some(context),
                sequences,
            },
            engine: OnceLock::new(),
        }
    }

    /// The engine, with every sequence forgotten and no direction read.
    pub fn take(&self) -> MutexGuard<'_, Engine> {
        let engine = self.engine.get_or_init(|| Mutex::new(load(self.options)));
        // A failed check leaves nothing behind that setting the directions does not clear.
        let mut engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.set_directions(&[]).unwrap();
        engine
    }
}

fn load(options: EngineOptions) -> Engine {
    let path = directory().join("model.safetensors");
    let source = FileSource::open(&path).unwrap_or_else(|error| {
        panic!("this test needs the default checkpoint: {error}; run `cargo xtask model`")
    });
    let engine = block_on(async {
        let weights = WeightFile::open(source).await.unwrap();
        Engine::load(&config(), &weights, options, &mut |_| ()).await
    });
    let engine = engine.unwrap_or_else(|error| match error {
        EngineError::NoAdapter { .. } => panic!(
            "this test needs a Vulkan adapter: {error}; on Debian, `apt-get install mesa-vulkan-drivers` brings one that runs on any CPU"
        ),
        error => panic!("{error}"),
    });
    let info = engine.info();
    assert_eq!(
        (info.backend, info.precision),
        (options.backend, options.precision),
        "another executor than the one under test was loaded: {info:?}"
    );
    println!("adapter: {}", info.adapter);
    engine
}
