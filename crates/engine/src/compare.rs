//! How likely an answer is without a plan and, side by side with it, what a plan does to the prediction of
//! every token. The prompt is read once and asks for no predictions.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Batch, Head, Row};
use crate::index::{SequenceIndex, TokenId};
use crate::sequence::ActivePlan;
use crate::steering::SteeringPlan;

#[derive(Clone, Debug)]
pub struct CompareRequest<'a> {
    /// Read without a plan.
    pub unsteered: SequenceIndex,
    /// Read under a plan, to compare with; another sequence than `unsteered`. Ignored where the engine
    /// does not compare ([`Engine::compares`]).
    pub steered: Option<(SequenceIndex, &'a SteeringPlan)>,
    /// Prompt and answer.
    pub tokens: &'a [TokenId],
    /// Tokens in the prompt, at least one.
    pub prompt_length: usize,
}

/// What came of it, one entry for each token of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compared {
    /// Natural log-probability without the plan.
    pub logprobs: Vec<f32>,
    /// KL(steered ‖ unsteered) in nats of the distributions that the token was taken from; empty where
    /// nothing was compared.
    pub divergences: Vec<f32>,
}

/// A [`CompareRequest`] under way.
#[derive(Debug)]
pub struct Comparison {
    /// Sequence, plan, and the next token of each.
    sides: Vec<Side>,
    tokens: Vec<TokenId>,
    prompt_length: usize,
    found: Compared,
}

#[derive(Debug)]
struct Side {
    sequence: SequenceIndex,
    plan: ActivePlan,
    next: usize,
}

impl Comparison {
    /// Checks the request and finds what the caches already hold of the prompt.
    pub async fn start(
        engine: &mut Engine,
        request: &CompareRequest<'_>,
    ) -> Result<Self, EngineError> {
        engine.drain().await?;
        let length = request.prompt_length;
        let same = |(steered, _): (SequenceIndex, _)| steered == request.unsteered;
        if request.steered.is_some_and(same) || !(1..=request.tokens.len()).contains(&length) {
            return Err(EngineError::Usage(
                "a comparison needs two sequences and a prompt".into(),
            ));
        }
        let idle = SteeringPlan::default();
        let steered = request.steered.filter(|_| engine.compares());
        let mut sides = Vec::with_capacity(2);
        for (sequence, plan) in steered.into_iter().chain([(request.unsteered, &idle)]) {
            engine.check_tokens(sequence, request.tokens)?;
            let plan = engine.activate(plan)?;
            // The last prompt token is computed again for its prediction.
            let usable = |_: &_, index: usize| index + 1 < length;
            let next = engine.reuse(sequence, request.tokens, length, &plan, usable);
            sides.push(Side {
                sequence,
                plan,
                next,
            });
        }
        Ok(Self {
            sides,
            tokens: request.tokens.to_vec(),
            prompt_length: length,
            found: Compared::default(),
        })
    }

    /// Reads the next batch; false when there was none left. The answer's last token predicts nothing
    /// that is asked for and is not read.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let limits = engine.limits();
        let first = self.prompt_length - 1;
        let end = self.tokens.len() - 1;
        let mut rows: Vec<(usize, Row)> = Vec::new();
        // What is missing of the prompts, then the answer's tokens in both, in turn.
        for (number, side) in self.sides.iter_mut().enumerate() {
            while side.next < first && rows.len() < limits.rows {
                let (index, token) = (side.next, self.tokens[side.next]);
                let length = self.prompt_length;
                let row =
                    engine.row(side.sequence, index, token, length, &side.plan, Head::Skip)?;
                rows.push((number, row));
                side.next += 1;
            }
        }
        if rows.is_empty() {
            let room = limits.rows.min(limits.head_rows);
            let mut index = self.sides[0].next;
            while index < end && rows.len() + self.sides.len() <= room {
                for (number, side) in self.sides.iter_mut().enumerate() {
                    let target = self.tokens[index + 1];
                    let head = match number {
                        0 => Head::Score(target),
                        _ => Head::Compare(target),
                    };
                    let (token, length) = (self.tokens[index], self.prompt_length);
                    let row = engine.row(side.sequence, index, token, length, &side.plan, head)?;
                    rows.push((number, row));
                    side.next = index + 1;
                }
                index += 1;
            }
        }
        if rows.is_empty() {
            return Ok(false);
        }
        engine.submit(&Batch {
            rows: rows.iter().map(|(_, row)| *row).collect(),
            capture: false,
        })?;
        let record = engine.collect().await?;
        for ((number, row), token) in rows.into_iter().zip(record.tokens) {
            let last = number + 1 == self.sides.len();
            if let Some(prediction) = token.prediction.as_ref().filter(|_| last) {
                self.found.logprobs.push(prediction.target_logprob);
                self.found.divergences.extend(prediction.divergence);
            }
            let plan = &self.sides[number].plan;
            engine.cache(&row, token, self.prompt_length, plan);
        }
        Ok(true)
    }

    /// What was found: everything, once [`Self::next`] has said so.
    pub fn finish(self) -> Compared {
        self.found
    }
}
