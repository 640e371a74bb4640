//! What the golden tests share: the model, an engine for each test binary, and the reference data of `tests/golden`.

pub mod behaviour;
pub mod predictions;
pub mod residual;

use pollster::block_on;
use safetensors::SafeTensors;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use trimtab_checkpoint::{FileSource, ModelConfig, WeightFile};
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::generate::{Answer, GenerateRequest, Generation};
use trimtab_engine::{
    Backend, Engine, EngineError, EngineOptions, Precision, SequenceIndex, SteeringPlan, TokenId,
};

/// Two logits closer than this may change places.
pub const NEAR_TIE: f32 = 0.01;
/// Sequences of the engines under test.
pub const SEQUENCES: usize = 4;

/// One engine of a test binary; tests take turns.
pub struct SharedEngine(OnceLock<Result<Mutex<Engine>, String>>);

impl SharedEngine {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// Loads the engine the first time. Every sequence is forgotten, no direction is read.
    pub fn take(&self, backend: Backend, precision: Precision) -> MutexGuard<'_, Engine> {
        let loaded = self
            .0
            .get_or_init(|| load(backend, precision).map(Mutex::new));
        let mut engine = match loaded {
            // A failed check leaves nothing behind that setting the directions does not clear.
            Ok(engine) => engine.lock().unwrap_or_else(PoisonError::into_inner),
            Err(sentence) => panic!("{sentence}"),
        };
        engine
            .set_directions(&[])
            .expect("no directions are always allowed");
        engine
    }
}

/// The default checkpoint in an engine with room for the longest golden sequence, or a sentence that
/// says what to do.
fn load(backend: Backend, precision: Precision) -> Result<Engine, String> {
    let directory = std::env::var_os("TRIMTAB_MODEL").map_or_else(
        || repository().join("models/smollm2-135m-instruct"),
        PathBuf::from,
    );
    let fetch = |error: String| {
        format!(
            "the golden tests need the default checkpoint in {}: {error}; run `cargo xtask model`",
            directory.display()
        )
    };
    let json = std::fs::read(directory.join("config.json")).map_err(|e| fetch(e.to_string()))?;
    let config = ModelConfig::from_json(&json).map_err(|e| fetch(e.to_string()))?;
    let source = FileSource::open(&directory.join("model.safetensors"))
        .map_err(|error| fetch(error.to_string()))?;
    let options = EngineOptions {
        backend,
        precision,
        context: Some(768),
        sequences: SEQUENCES,
    };
    let engine = block_on(async {
        let weights = WeightFile::open(source)
            .await
            .map_err(|error| fetch(error.to_string()))?;
        Engine::load(&config, &weights, options, &mut |_| ())
            .await
            .map_err(|error| match error {
                EngineError::NoAdapter { .. } => format!(
                    "the GPU tests need a Vulkan adapter: {error}; on Debian, `apt-get install mesa-vulkan-drivers` brings one that runs on any CPU"
                ),
                other => other.to_string(),
            })
    })?;
    let info = engine.info();
    assert_eq!(
        (info.backend, info.precision),
        (backend, precision),
        "another executor than the one under test was loaded: {info:?}"
    );
    println!("adapter: {}", info.adapter);
    Ok(engine)
}

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn golden(name: &str) -> Vec<u8> {
    let path = repository().join("tests/golden").join(name);
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; it belongs to the repository, and tests/golden/README.md says how to make it",
            path.display()
        )
    })
}

/// A JSON file of `tests/golden`.
pub fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The tensors of a file of `tests/golden`.
pub struct Tensors(Vec<u8>);

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self(golden(name))
    }

    /// Shape and f32 values.
    pub fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let file = SafeTensors::deserialize(&self.0).expect("golden file is safetensors");
        let tensor = file.tensor(name).expect("golden tensor exists");
        assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
        let (values, rest) = tensor.data().as_chunks::<4>();
        assert!(rest.is_empty());
        let values = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (tensor.shape().to_vec(), values)
    }
}

/// Token ids as the reference writes them.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Ids(Vec<u32>);

impl Ids {
    pub fn tokens(&self) -> Vec<TokenId> {
        self.0.iter().copied().map(TokenId).collect()
    }
}

/// Euclidean norm.
pub fn norm(values: impl IntoIterator<Item = f32>) -> f64 {
    values
        .into_iter()
        .map(|value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// What the reference allows. `None`: measured and printed only.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// Largest relative difference of the mean negative log-likelihood.
    pub mean_nll: f64,
    /// Smallest share of positions with the reference's most likely token.
    pub top1: f64,
    /// Largest `‖Δh‖/‖h‖`.
    pub residual: Option<f64>,
    /// How many greedy tokens must agree, on how many of the prompts.
    pub greedy: (usize, usize),
}

impl Demands {
    pub const fn of(precision: Precision) -> Self {
        match precision {
            Precision::Exact => Self {
                mean_nll: 2e-4,
                top1: 0.99,
                residual: Some(1e-3),
                greedy: (48, 10),
            },
            Precision::Fast => Self {
                mean_nll: 5e-3,
                top1: 0.97,
                residual: None,
                greedy: (16, 6),
            },
        }
    }
}

/// How much of the golden data an executor is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Whole,
    Part,
}

impl Extent {
    /// All of it takes a software adapter a quarter of an hour, so that `cargo xtask test` asks for a part and `--full`, which sets
    /// `TRIMTAB_FULL`, for the whole.
    #[allow(dead_code, reason = "the CPU is always asked for the whole")]
    pub fn on_the_gpu() -> Self {
        match std::env::var_os("TRIMTAB_FULL") {
            Some(_) => Self::Whole,
            None => Self::Part,
        }
    }
}

/// Reads `tokens` into the first sequence.
pub fn read(
    engine: &mut Engine,
    tokens: &[TokenId],
    prompt_length: usize,
    plan: &SteeringPlan,
    score: bool,
    capture: bool,
) -> ReadOutcome {
    read_into(engine, 0, tokens, prompt_length, plan, score, capture)
}

pub fn read_into(
    engine: &mut Engine,
    sequence: u32,
    tokens: &[TokenId],
    prompt_length: usize,
    plan: &SteeringPlan,
    score: bool,
    capture: bool,
) -> ReadOutcome {
    let request = ReadRequest {
        sequence: SequenceIndex(sequence),
        tokens,
        prompt_length,
        plan,
        score: match score {
            true => Scoring::Everything,
            false => Scoring::Nothing,
        },
        capture,
    };
    block_on(engine.read(&request, &mut |_, _| ())).expect("golden tokens are read")
}

/// Runs `requests` to their ends.
pub fn answers(engine: &mut Engine, requests: Vec<GenerateRequest>) -> Vec<Answer> {
    block_on(async {
        let mut run = Generation::start(engine, requests).await?;
        while run.next(engine).await?.is_some() {}
        run.finish(engine).await
    })
    .expect("golden prompts are answered")
}
