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

/// What was thought of a token before it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub logprob: f32,
    /// The most likely tokens, best first, with their log-probabilities.
    pub alternatives: Vec<(TokenId, f32)>,
}

/// What the record before a token says about it; `None` where it did not score that token.
pub fn expectation(before: &TokenRecord, token: TokenId) -> Option<Expected> {
    let prediction = before.prediction.as_ref()?;
    let logprob = if prediction.chosen == token {
        prediction.chosen_logprob
    } else {
        prediction.target_logprob
    };
    (!logprob.is_nan()).then(|| Expected {
        logprob,
        alternatives: prediction.alternatives.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trimtab_engine::{Position, Prediction, Readings};

    fn record(prediction: Option<Prediction>) -> TokenRecord {
        TokenRecord {
            sequence: SequenceIndex(0),
            position: Position(1),
            token: TokenId(5),
            readings: Readings {
                values: vec![1.0; 2],
                layer_rows: 2,
            },
            prediction,
        }
    }

    fn prediction(chosen: u32, target_logprob: f32) -> Prediction {
        Prediction {
            chosen: TokenId(chosen),
            chosen_logprob: -0.5,
            target_logprob,
            divergence: None,
            alternatives: [(TokenId(chosen), -0.5); trimtab_engine::record::ALTERNATIVES],
        }
    }

    #[test]
    fn only_a_token_that_was_scored_has_an_expectation() {
        let logprob = |record: &TokenRecord, token| {
            expectation(record, TokenId(token)).map(|expected| expected.logprob)
        };
        assert_eq!(logprob(&record(None), 7), None);
        assert_eq!(
            logprob(&record(Some(prediction(7, f32::NAN))), 7),
            Some(-0.5)
        );
        assert_eq!(logprob(&record(Some(prediction(7, f32::NAN))), 8), None);
        assert_eq!(logprob(&record(Some(prediction(7, -3.0))), 8), Some(-3.0));
    }
}
