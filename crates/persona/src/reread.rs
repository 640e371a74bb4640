//! Re-reading: what the unsteered model makes of an answer that was written under a plan.

use trimtab_engine::{TokenId, TokenRecord};

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

/// The model's expectation of a token before it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub logprob: f32,
    /// The most likely tokens, best first, with their log-probabilities.
    pub alternatives: Vec<(TokenId, f32)>,
}

/// The expectation in the record before a token; `None` where that did not score the token.
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
    use trimtab_engine::{Position, Prediction, Readings, SequenceIndex};

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
