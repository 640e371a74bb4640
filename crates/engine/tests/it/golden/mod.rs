//! Shared parts of the golden tests of every executor: the reference data of `tests/golden`, and the demands.

pub mod behaviour;
pub mod predictions;
pub mod residual;

use pollster::block_on;
use safetensors::SafeTensors;
use serde::Deserialize;
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::generate::{Answer, GenerateRequest, Generation};
use trimtab_engine::{Backend, Engine, Precision, SequenceIndex, SteeringPlan, TokenId};
use trimtab_testing::default_model::SharedEngine;
use trimtab_testing::files::{floats, golden};

/// Two logits closer than this may change places.
pub const NEAR_TIE: f32 = 0.01;
/// Sequences of the engines under test.
pub const SEQUENCES: usize = 4;

/// An executor under test, with room for the longest golden sequence.
pub const fn shared(backend: Backend, precision: Precision) -> SharedEngine {
    SharedEngine::new(backend, precision, 768, SEQUENCES)
}

/// The tensors of a file of `tests/golden`.
pub struct Tensors(Vec<u8>);

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self(golden(name))
    }

    /// Shape and f32 values.
    pub fn get(&self, name: &str) -> (Vec<usize>, Vec<f32>) {
        floats(&SafeTensors::deserialize(&self.0).unwrap(), name)
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

/// Differences that the reference allows. `None`: measured and printed only.
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
pub struct Extent {
    /// Texts whose likelihood is compared, and how many tokens of each.
    pub texts: usize,
    pub tokens: usize,
    /// Chats that are answered.
    pub chats: usize,
    /// Samplers that choose.
    pub samplers: usize,
}

impl Extent {
    pub const WHOLE: Self = Self {
        texts: usize::MAX,
        tokens: usize::MAX,
        chats: usize::MAX,
        samplers: usize::MAX,
    };
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
    let request = ReadRequest {
        sequence: SequenceIndex(0),
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

/// Makes the engine forget all sequences, so that nothing is taken from what one of them holds.
pub fn forget(engine: &mut Engine) {
    for sequence in 0..SEQUENCES as u32 {
        engine
            .clear(SequenceIndex(sequence))
            .expect("the sequence exists");
    }
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
