//! The types that callers, executors and drivers share: what is asked of an engine and what it answers.

use crate::index::{SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::steering::SteeringPlan;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A monotonic clock in seconds; only differences mean anything.
pub type Clock = fn() -> f64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    Gpu,
    Cpu,
    /// The readable f32 executor that the others are checked against.
    Reference,
}

/// How activations enter a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As f32.
    Exact,
    /// As integers with a scale for every few of them.
    Fast,
}

#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    pub backend: Backend,
    pub precision: Precision,
    /// Tokens a sequence may hold; the model's own limit where that is shorter. `None`: the model's
    /// limit, or what memory allows.
    pub context: Option<usize>,
    /// Independent conversations.
    pub sequences: usize,
}

/// The engine as it was loaded with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    pub backend: Backend,
    pub precision: Precision,
    /// The adapter's own name, or the CPU's.
    pub adapter: String,
    /// Whether the adapter is a program on the CPU (SwiftShader, lavapipe, WARP).
    pub software: bool,
    pub context: usize,
    pub sequences: usize,
    /// Bytes that the engine allocated on its device when it was loaded; the cache grows with the text.
    pub device_bytes: u64,
}

/// Reported while weights are read and uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// The text that a sequence is made to hold, and the numbers wanted of it.
#[derive(Clone, Debug)]
pub struct ReadRequest<'a> {
    pub sequence: SequenceIndex,
    /// The whole sequence from its first token; what the cache already holds is not computed again.
    pub tokens: &'a [TokenId],
    /// Tokens in the prompt; the last of them already counts as response for steering.
    pub prompt_length: usize,
    pub plan: &'a SteeringPlan,
    pub score: Scoring,
    /// Also return the residual stream (computes everything again).
    pub capture: bool,
}

/// Which tokens of a sequence are scored: entry `i` of the records then predicts token `i + 1`. The first never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scoring {
    Nothing,
    /// The tokens after the prompt.
    Response,
    Everything,
}

impl Scoring {
    /// Whether the token after token `index` is scored, where there is one.
    pub(crate) fn wants(self, index: usize, prompt_length: usize) -> bool {
        match self {
            Self::Nothing => false,
            Self::Response => index + 1 >= prompt_length,
            Self::Everything => true,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct ReadOutcome {
    /// One for every token of the request, cached ones included.
    pub records: Vec<TokenRecord>,
    /// `[T, L+1, d]`, or empty. Each layer after its change.
    pub residual: Vec<f32>,
    /// How many tokens came from the cache.
    pub reused: usize,
}
