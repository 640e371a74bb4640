//! Trait vectors: mean differences of the residual stream between two sets of conversations
//! (persona vectors, arXiv 2507.21509, section 2.2).

use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::{Engine, EngineError, LayerTable, SequenceIndex, SteeringPlan, TokenId};

/// The side that an example leans to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// Shows the trait.
    Positive,
    /// Shows its opposite.
    Negative,
}

/// One conversation as tokens: a prompt, then a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    pub side: Side,
    /// Prompt and response.
    pub tokens: Vec<TokenId>,
    /// At least 1 and less than `tokens`.
    pub prompt_length: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    #[error("there is no conversation to extract from")]
    Empty,
    #[error("all {count} conversations are on the {side} side; a direction needs both")]
    OneSided { count: usize, side: &'static str },
    #[error("conversation {index} {reason}")]
    Example { index: usize, reason: String },
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Mean differences (positive minus negative) by three averages, each `[L+1, d]`.
#[derive(Clone, Debug)]
pub struct MeanDifferences {
    /// Over the response's tokens, the end-of-turn token left out.
    pub response_avg: LayerTable,
    /// Over the prompt's tokens, the first left out: it is an attention sink whose residual is a
    /// hundred times the others' and would drown them. (The paper's code leaves it in.)
    pub prompt_avg: LayerTable,
    /// At the prompt's last token.
    pub prompt_last: LayerTable,
    /// Conversations on the positive and on the negative side.
    pub counts: [usize; 2],
}

impl MeanDifferences {
    /// The tables by the names they have in vector files.
    pub fn named(&self) -> [(&'static str, &LayerTable); 3] {
        [
            ("response_avg", &self.response_avg),
            ("prompt_avg", &self.prompt_avg),
            ("prompt_last", &self.prompt_last),
        ]
    }
}

/// Reads every example with the unsteered model and takes the mean differences; sums are f64. The
/// response ends before the first of `end_tokens`. `progress` hears (examples done, examples).
pub async fn extract(
    engine: &mut Engine,
    examples: &[Example],
    end_tokens: &[TokenId],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<MeanDifferences, ExtractError> {
    let lengths = check(examples, end_tokens)?;
    let width = engine.config().hidden_size;
    let mut sums = DifferenceSums::new(engine.layer_rows(), width);
    for (done, (example, &length)) in examples.iter().zip(&lengths).enumerate() {
        progress(done, examples.len());
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &example.tokens[..length],
            prompt_length: example.prompt_length,
            plan: &SteeringPlan::default(),
            score: Scoring::Nothing,
            capture: true,
        };
        let outcome = engine.read(&request, &mut |_, _| {}).await?;
        sums.add(example.side, &outcome.residual, example.prompt_length);
    }
    progress(examples.len(), examples.len());
    sums.finish()
}

/// Checks the examples and returns how many tokens of each are read: all before the response's end token.
fn check(examples: &[Example], end_tokens: &[TokenId]) -> Result<Vec<usize>, ExtractError> {
    let count_of = |side| {
        examples
            .iter()
            .filter(|example| example.side == side)
            .count()
    };
    match (count_of(Side::Positive), count_of(Side::Negative)) {
        (0, 0) => return Err(ExtractError::Empty),
        (count, 0) => {
            return Err(ExtractError::OneSided {
                count,
                side: "positive",
            });
        }
        (0, count) => {
            return Err(ExtractError::OneSided {
                count,
                side: "negative",
            });
        }
        _ => {}
    }
    let length = |(index, example): (usize, &Example)| {
        let fail = |reason: &str| {
            Err(ExtractError::Example {
                index,
                reason: reason.to_owned(),
            })
        };
        if example.prompt_length < 2 {
            return fail(
                "has a prompt of fewer than two tokens; the first never counts, so nothing is left",
            );
        }
        let response = example
            .tokens
            .get(example.prompt_length..)
            .unwrap_or_default();
        match response
            .iter()
            .position(|token| end_tokens.contains(token))
            .unwrap_or(response.len())
        {
            0 => fail("has an empty response"),
            kept => Ok(example.prompt_length + kept),
        }
    };
    examples.iter().enumerate().map(length).collect()
}

/// Sums over examples, one for each side and average, each `[L+1, d]` in f64.
#[derive(Debug)]
struct DifferenceSums {
    width: usize,
    /// Sums by side, then response_avg, prompt_avg, prompt_last.
    sums: [[Vec<f64>; 3]; 2],
    counts: [usize; 2],
}

impl DifferenceSums {
    fn new(rows: usize, width: usize) -> Self {
        Self {
            width,
            sums: std::array::from_fn(|_| std::array::from_fn(|_| vec![0.0; rows * width])),
            counts: [0; 2],
        }
    }

    /// `residual` is `[T, L+1, d]`.
    fn add(&mut self, side: Side, residual: &[f32], prompt_length: usize) {
        let size = self.sums[0][0].len();
        let tokens = residual.len() / size;
        let side = side as usize;
        self.counts[side] += 1;
        let ranges = [
            prompt_length..tokens,
            1..prompt_length,
            prompt_length - 1..prompt_length,
        ];
        for (sum, range) in self.sums[side].iter_mut().zip(ranges) {
            let share = 1.0 / range.len() as f64;
            for token in residual[range.start * size..range.end * size].chunks(size) {
                sum.iter_mut()
                    .zip(token)
                    .for_each(|(sum, &value)| *sum += share * f64::from(value));
            }
        }
    }

    fn finish(self) -> Result<MeanDifferences, ExtractError> {
        let [positive, negative] = &self.sums;
        let [more, less] = self.counts.map(|count| count as f64);
        let table = |average: usize| {
            let pairs = positive[average].iter().zip(&negative[average]);
            let values = pairs.map(|(p, n)| (p / more - n / less) as f32).collect();
            LayerTable::new(values, self.width).map_err(EngineError::from)
        };
        Ok(MeanDifferences {
            response_avg: table(0)?,
            prompt_avg: table(1)?,
            prompt_last: table(2)?,
            counts: self.counts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: TokenId = TokenId(2);

    fn example(side: Side, prompt: usize, response: &[u32]) -> Example {
        let tokens = vec![TokenId(9); prompt]
            .into_iter()
            .chain(response.iter().map(|&id| TokenId(id)))
            .collect();
        Example {
            side,
            tokens,
            prompt_length: prompt,
        }
    }

    #[test]
    fn the_end_of_turn_and_what_follows_it_are_not_response() {
        let examples = [
            example(Side::Positive, 3, &[5, 6, 2, 7]),
            example(Side::Negative, 3, &[5]),
        ];
        assert_eq!(check(&examples, &[END]).unwrap(), [5, 4]);
    }

    #[test]
    fn useless_sets_get_a_sentence() {
        let message = |examples: &[Example]| check(examples, &[END]).unwrap_err().to_string();
        assert!(message(&[]).contains("no conversation"));
        assert!(message(&[example(Side::Negative, 3, &[5])]).contains("negative side"));
        let other = example(Side::Negative, 3, &[5]);
        assert!(
            message(&[example(Side::Positive, 3, &[2]), other.clone()])
                .contains("conversation 0 has an empty response")
        );
        assert!(message(&[example(Side::Positive, 1, &[5]), other]).contains("fewer than two"));
    }

    #[test]
    fn averages_leave_out_what_they_should() {
        // One layer row of width 1; the first token's residual is enormous.
        let mut sums = DifferenceSums::new(1, 1);
        sums.add(Side::Positive, &[25_000.0, 1.0, 3.0, 10.0, 20.0], 3);
        sums.add(Side::Negative, &[25_000.0, 0.0, 1.0, 4.0], 3);
        sums.add(Side::Negative, &[25_000.0, 2.0, 5.0, 8.0], 3);
        let found = sums.finish().unwrap();
        assert_eq!(found.response_avg.values(), [15.0 - 6.0]);
        assert_eq!(found.prompt_avg.values(), [2.0 - 2.0]);
        assert_eq!(found.prompt_last.values(), [3.0 - 3.0]);
        assert_eq!(found.counts, [1, 2]);
    }
}
