//! Re-reading: what the unsteered model makes of an answer that was written under a plan.

use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::{Engine, EngineError, SequenceIndex, SteeringPlan, TokenId, TokenRecord};

/// The unsteered model's view of a conversation.
#[derive(Clone, Debug)]
pub struct Reread {
    /// One a token: its readings, and what the model expected after it.
    pub records: Vec<TokenRecord>,
    /// Natural log-probability of each token; the first is NaN.
    pub logprobs: Vec<f32>,
}

/// Reads `tokens` without any plan, scoring each. `sequence` should be one that holds unsteered
/// text, so that its cache is of use. `progress` hears (tokens done, tokens to do).
pub async fn reread(
    engine: &mut Engine,
    sequence: SequenceIndex,
    tokens: &[TokenId],
    prompt_length: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Reread, EngineError> {
    let plan = SteeringPlan::default();
    let request = ReadRequest {
        sequence,
        tokens,
        prompt_length,
        plan: &plan,
        score: Scoring::Everything,
        capture: false,
    };
    let records = engine.read(&request, progress).await?.records;
    let logprobs = logprobs(&records);
    Ok(Reread { records, logprobs })
}

/// The log-probability of each scored token: that which the record before it gives its target.
pub fn logprobs(records: &[TokenRecord]) -> Vec<f32> {
    let before = records.iter().map(|record| {
        record
            .prediction
            .as_ref()
            .map_or(f32::NAN, |next| next.target_logprob)
    });
    std::iter::once(f32::NAN)
        .chain(before)
        .take(records.len())
        .collect()
}
