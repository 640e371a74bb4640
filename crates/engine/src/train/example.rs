//! What is trained on, and how examples are packed into the rows of a micro-batch.

use super::error::TrainError;
use crate::index::TokenId;
use crate::steering::TokenRole;
use std::ops::Range;
use trimtab_checkpoint::ModelConfig;

/// A conversation as tokens, and which of them the model is to learn to write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    pub tokens: Vec<TokenId>,
    /// As long as `tokens`: whether a token belongs to a response. The first token of all is never predicted and counts for
    /// nothing.
    pub response: Vec<bool>,
}

impl Example {
    /// Response tokens that are predicted.
    pub fn predicted(&self) -> usize {
        self.response.iter().skip(1).filter(|own| **own).count()
    }

    pub(super) fn check(&self, number: usize, config: &ModelConfig) -> Result<(), TrainError> {
        let refused = |reason: String| Err(TrainError::Example { number, reason });
        if self.tokens.len() != self.response.len() {
            return refused(format!(
                "has {} tokens and a mask of {}",
                self.tokens.len(),
                self.response.len()
            ));
        }
        if self.tokens.len() > config.context {
            return refused(format!(
                "has {} tokens, more than the {} that this model reads; shorten it",
                self.tokens.len(),
                config.context
            ));
        }
        let vocabulary = config.vocab_size;
        let foreign = self
            .tokens
            .iter()
            .find(|token| token.0 as usize >= vocabulary);
        match foreign {
            Some(token) => refused(format!(
                "has token {}, which is not in the vocabulary of {vocabulary}: it was made for another model",
                token.0
            )),
            None => Ok(()),
        }
    }
}

/// Examples side by side: the rows of a micro-batch. Each is a sequence of its own, whose positions begin at 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    pub tokens: Vec<TokenId>,
    pub positions: Vec<u32>,
    /// The side of the conversation that a plan counts a row to. As in inference, the token before a response is on its side: it
    /// produces the response's first token.
    pub roles: Vec<TokenRole>,
    /// Whether a row's own token belongs to a response.
    pub response: Vec<bool>,
    pub sequences: Vec<Range<usize>>,
    /// The rows after which a response token is predicted, and this token.
    pub predicting: Vec<(usize, TokenId)>,
}

impl Rows {
    pub fn pack<'a>(examples: impl Iterator<Item = &'a Example>) -> Self {
        let mut rows = Self::default();
        for Example { tokens, response } in examples {
            let start = rows.tokens.len();
            for (index, token) in tokens.iter().enumerate() {
                let next = response.get(index + 1).copied().unwrap_or(false);
                let own = response[index] && index > 0;
                rows.tokens.push(*token);
                rows.positions.push(index as u32);
                rows.response.push(own);
                rows.roles.push(match next || own {
                    true => TokenRole::Response,
                    false => TokenRole::Prompt,
                });
                if next {
                    rows.predicting.push((start + index, tokens[index + 1]));
                }
            }
            rows.sequences.push(start..rows.tokens.len());
        }
        rows
    }

    pub fn count(&self) -> usize {
        self.tokens.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_response_begin_with_the_token_before_it() {
        let example = |ids: &[u32], response: &[bool]| Example {
            tokens: ids.iter().copied().map(TokenId).collect(),
            response: response.to_vec(),
        };
        let examples = [
            example(&[5, 6, 7, 8], &[false, false, true, false]),
            example(&[9, 3], &[true, true]),
        ];
        let rows = Rows::pack(examples.iter());
        assert_eq!(rows.positions, [0, 1, 2, 3, 0, 1]);
        assert_eq!(rows.sequences, [0..4, 4..6]);
        assert_eq!(rows.predicting, [(1, TokenId(7)), (4, TokenId(3))]);
        use TokenRole::{Prompt, Response};
        assert_eq!(
            rows.roles,
            [Prompt, Response, Response, Prompt, Response, Response]
        );
        // A first token is predicted by nothing.
        assert_eq!(examples[1].predicted(), 1);
        assert_eq!(rows.response, [false, false, true, false, false, true]);
    }
}
