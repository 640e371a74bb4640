//! Generation: several answers at once, step by step, so that the caller can watch and steer.
//!
//! ```ignore
//! let mut run = Generation::start(&mut engine, requests)?;
//! while let Some(event) = run.next(&mut engine).await? {
//!     // show it; run.set_plan(..) when a slider moved; run.stop(..) to end early
//! }
//! let answers = run.finish(&mut engine).await?;
//! ```

use crate::engine::Engine;
use crate::error::EngineError;
use crate::index::{Position, SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::sampling::Sampler;
use crate::steering::SteeringPlan;

#[derive(Clone, Debug)]
pub struct GenerateRequest {
    pub sequence: SequenceIndex,
    pub prompt: Vec<TokenId>,
    pub plan: SteeringPlan,
    pub sampler: Sampler,
    pub max_tokens: usize,
    /// Tokens that end the answer; the one that did is not part of it.
    pub end_tokens: Vec<TokenId>,
}

/// Part of a run made under one plan.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: Position,
    pub plan: SteeringPlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    EndToken,
    MaxTokens,
    ContextFull,
    Stopped,
}

/// What happened. `request` is the index into the requests.
#[derive(Clone, Debug)]
pub enum Event {
    /// Prompt tokens of all requests consumed so far.
    Prompt { done: usize, total: usize },
    /// A token was chosen. `logprob` is the steered model's own. Its readings come with the event
    /// of the token after it ([`Answer::records`] has them all).
    Token { request: usize, position: Position, token: TokenId, logprob: f32 },
    End { request: usize, reason: EndReason },
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub sequence: SequenceIndex,
    pub prompt_length: usize,
    /// The new tokens, without the end token.
    pub tokens: Vec<TokenId>,
    /// One for every token of prompt and answer that the model consumed (in a run that ended by
    /// length or was stopped, the last token too).
    pub records: Vec<TokenRecord>,
    pub segments: Vec<Segment>,
    pub reason: EndReason,
}

#[derive(Debug)]
pub struct Generation {}

impl Generation {
    /// Checks the requests. Each has a sequence of its own.
    pub fn start(engine: &mut Engine, requests: Vec<GenerateRequest>) -> Result<Self, EngineError> {
        todo!()
    }

    /// Advances until something happened; `None` when every answer has ended.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<Event>, EngineError> {
        todo!()
    }

    /// From the next token that is not yet queued on, `request` runs under `plan`: a new segment.
    pub fn set_plan(&mut self, request: usize, plan: SteeringPlan) {
        todo!()
    }

    /// Ends `request` after the tokens already reported.
    pub fn stop(&mut self, request: usize) {
        todo!()
    }

    /// Waits for what is queued and returns the answers, in the order of the requests.
    pub async fn finish(self, engine: &mut Engine) -> Result<Vec<Answer>, EngineError> {
        todo!()
    }
}
