//! How likely an answer is without a plan and, side by side with it, what a plan does to the prediction of
//! every token. The prompt is read once and asks for no predictions.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Capture, Head};
use crate::index::{SequenceIndex, TokenId};
use crate::run::{Run, Stream};
use crate::steering::SteeringPlan;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct CompareRequest<'a> {
    /// Read without a plan.
    pub unsteered: SequenceIndex,
    /// Read under a plan, to compare with; another sequence than `unsteered`.
    pub steered: Option<(SequenceIndex, &'a SteeringPlan)>,
    /// Prompt and answer.
    pub tokens: &'a [TokenId],
    /// Tokens in the prompt, at least one.
    pub prompt_length: usize,
}

/// The result, one entry for each token of the answer.
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
    /// The steered side, where there is one, then the unsteered.
    run: Run,
    tokens: Vec<TokenId>,
    found: Compared,
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
        let mut streams = Vec::with_capacity(2);
        for (sequence, plan) in request
            .steered
            .into_iter()
            .chain([(request.unsteered, &idle)])
        {
            engine.check_tokens(sequence, request.tokens)?;
            let plans = vec![(0, Arc::new(engine.activate(plan)?))];
            // The last prompt token is computed again for its prediction.
            let usable = |_: &_, index: usize| index + 1 < length;
            let tokens = request.tokens;
            let stream = Stream::after_cached(engine, sequence, tokens, length, plans, usable)?;
            streams.push(stream);
        }
        Ok(Self {
            run: Run::new(streams, Capture::NOTHING),
            tokens: request.tokens.to_vec(),
            found: Compared::default(),
        })
    }

    /// Reads the next batch; false when there was none left. The answer's last token predicts nothing
    /// that is asked for and is not read.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let limits = engine.limits();
        let (run, tokens) = (&mut self.run, &self.tokens);
        let sides = run.streams.len();
        let first = run.streams[0].prompt_length - 1;
        // The missing part of the prompts, then the answer's tokens in both, in turn.
        for side in 0..sides {
            while run.streams[side].next < first
                && run.push(engine, side, tokens[run.streams[side].next], Head::Skip)?
            {}
        }
        if run.rows() == 0 {
            let room = limits.rows.min(limits.head_rows);
            while run.streams[0].next + 1 < tokens.len() && run.rows() + sides <= room {
                let index = run.streams[0].next;
                let target = tokens[index + 1];
                for side in 0..sides {
                    let head = match side {
                        0 => Head::Score(target),
                        _ => Head::Compare(target),
                    };
                    run.push(engine, side, tokens[index], head)?;
                }
            }
        }
        run.submit(engine).await?;
        let Some(done) = run.collect_and_cache(engine).await? else {
            return Ok(false);
        };
        for row in done.iter().filter(|row| row.stream + 1 == sides) {
            if let Some(prediction) = &row.record.prediction {
                self.found.logprobs.push(prediction.target_logprob);
                self.found.divergences.extend(prediction.divergence);
            }
        }
        Ok(true)
    }

    /// The result: everything, once [`Self::next`] has said so.
    pub fn finish(self) -> Compared {
        self.found
    }
}
