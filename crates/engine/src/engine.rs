//! The engine: an executor, and the conversations whose caches it holds.

use crate::error::EngineError;
use crate::index::{Layer, SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::steering::{LayerTable, SteeringPlan};
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Gpu,
    Cpu,
}

/// How activations enter a weight matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As f32.
    Exact,
    /// In 8-bit blocks of 32 with integer dot products.
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

/// What was made of the options.
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
    /// Bytes that the engine allocated on its device.
    pub device_bytes: u64,
}

/// Reported while weights are read and uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// What a sequence is to be made to hold, and what is wanted of it.
#[derive(Clone, Debug)]
pub struct ReadRequest<'a> {
    pub sequence: SequenceIndex,
    /// The whole sequence from its first token; what the cache already holds is not computed again.
    pub tokens: &'a [TokenId],
    /// Tokens in the prompt; the last of them already counts as response for steering.
    pub prompt_length: usize,
    pub plan: &'a SteeringPlan,
    /// Score every token but the first: entry `i` of the records then predicts token `i + 1`.
    pub score: bool,
    /// Also return the residual stream (computes everything again).
    pub capture: bool,
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

#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Builds an executor and loads the weights into it, tensor by tensor.
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, EngineError> {
        todo!()
    }

    pub fn info(&self) -> &EngineInfo {
        todo!()
    }

    pub fn config(&self) -> &ModelConfig {
        todo!()
    }

    /// `L + 1`.
    pub fn layer_rows(&self) -> usize {
        self.config().layers + 1
    }

    pub fn last_layer(&self) -> Layer {
        Layer(self.config().layers as u32)
    }

    /// Sets the directions to read (normalised here), in the order in which readings report them.
    pub fn set_directions(&mut self, vectors: &[LayerTable]) -> Result<(), EngineError> {
        todo!()
    }

    /// Reads a whole sequence; see [`ReadRequest`]. `progress` hears (tokens done, tokens to do).
    pub async fn read(
        &mut self,
        request: &ReadRequest<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ReadOutcome, EngineError> {
        todo!()
    }

    /// Forgets a sequence.
    pub fn clear(&mut self, sequence: SequenceIndex) -> Result<(), EngineError> {
        todo!()
    }
}
