//! Trait vectors: mean differences of the residual stream between two sets of conversations
//! (persona vectors, arXiv 2507.21509, section 2.2).

use crate::activations::{Average, Averages};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{LayerTable, TokenId};

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
    Table(#[from] PlanError),
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

/// Number of tokens to read of each example: all before the first of `end_tokens` in its response.
///
/// # Errors
/// Where a side, a prompt or a response is missing.
pub fn lengths(examples: &[Example], end_tokens: &[TokenId]) -> Result<Vec<usize>, ExtractError> {
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
pub struct DifferenceSums {
    width: usize,
    /// Sums by side, then in the order of [`Average`].
    sums: [[Vec<f64>; 3]; 2],
    counts: [usize; 2],
}

impl DifferenceSums {
    /// For tables of `rows` = L+1 rows of `width` = d.
    pub fn new(rows: usize, width: usize) -> Self {
        Self {
            width,
            sums: std::array::from_fn(|_| std::array::from_fn(|_| vec![0.0; rows * width])),
            counts: [0; 2],
        }
    }

    pub fn add(&mut self, side: Side, averages: &Averages) {
        let side = side as usize;
        self.counts[side] += 1;
        for average in [Average::Response, Average::Prompt, Average::PromptLast] {
            let sums = self.sums[side][average as usize].iter_mut();
            sums.zip(averages.table(average))
                .for_each(|(sum, &value)| *sum += f64::from(value));
        }
    }

    pub fn finish(self) -> Result<MeanDifferences, ExtractError> {
        let [positive, negative] = &self.sums;
        let [more, less] = self.counts.map(|count| count as f64);
        let table = |average: Average| {
            let pairs = positive[average as usize]
                .iter()
                .zip(&negative[average as usize]);
            let values = pairs.map(|(p, n)| (p / more - n / less) as f32).collect();
            LayerTable::new(values, self.width)
        };
        Ok(MeanDifferences {
            response_avg: table(Average::Response)?,
            prompt_avg: table(Average::Prompt)?,
            prompt_last: table(Average::PromptLast)?,
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
        assert_eq!(lengths(&examples, &[END]).unwrap(), [5, 4]);
    }

    #[test]
    fn useless_sets_get_a_sentence() {
        let message = |examples: &[Example]| lengths(examples, &[END]).unwrap_err().to_string();
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
    fn each_side_is_averaged_by_itself() {
        let mut sums = DifferenceSums::new(1, 1);
        let example = |value: f32| Averages::of(&[0.0, value, 2.0 * value], 1, 2);
        sums.add(Side::Positive, &example(15.0));
        sums.add(Side::Negative, &example(4.0));
        sums.add(Side::Negative, &example(8.0));
        let found = sums.finish().unwrap();
        assert_eq!(found.response_avg.values(), [30.0 - 12.0]);
        assert_eq!(found.prompt_last.values(), [15.0 - 6.0]);
        assert_eq!(found.counts, [1, 2]);
    }
}
