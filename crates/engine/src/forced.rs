//! Forcing given tokens through the model as a run would have written them: under the run's segments,
//! with the run's sampler asked in every place of the answer what it would have chosen there.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Capture, Head};
use crate::generate::Segment;
use crate::index::{SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::run::{Run, Stream};
use crate::sampling::Sampler;
use std::sync::Arc;

/// Batches under way at once: the tokens are known, so nothing has to be waited for.
const QUEUED: usize = 4;

#[derive(Clone, Debug)]
pub struct ForcedRequest<'a> {
    pub sequence: SequenceIndex,
    /// Prompt and answer.
    pub tokens: &'a [TokenId],
    /// Tokens in the prompt, at least one; the last of them predicts the answer's first token.
    pub prompt_length: usize,
    /// The first begins at position 0, the others later and in order.
    pub segments: &'a [Segment],
    pub sampler: Sampler,
}

/// A [`ForcedRequest`] under way. Dropped early, it leaves what it has read in the sequence's cache.
#[derive(Debug)]
pub struct Forced {
    tokens: Vec<TokenId>,
    sampler: Sampler,
    run: Run,
    done: usize,
}

impl Forced {
    /// Checks the request and finds what the cache already holds of the prompt.
    pub async fn start(
        engine: &mut Engine,
        request: &ForcedRequest<'_>,
    ) -> Result<Self, EngineError> {
        engine.drain().await?;
        engine.check_tokens(request.sequence, request.tokens)?;
        request.sampler.checked()?;
        let ordered = request
            .segments
            .is_sorted_by(|one, other| one.from < other.from);
        let begins = request
            .segments
            .first()
            .is_some_and(|first| first.from.0 == 0);
        if !ordered || !begins || !(1..=request.tokens.len()).contains(&request.prompt_length) {
            return Err(EngineError::Usage(
                "a forced run needs a prompt, and segments in order from the first token on".into(),
            ));
        }
        let (sequence, tokens, length) = (request.sequence, request.tokens, request.prompt_length);
        let mut plans = Vec::with_capacity(request.segments.len());
        for segment in request.segments {
            let plan = Arc::new(engine.activate(&segment.plan)?);
            plans.push((segment.from.0 as usize, plan));
        }
        // The last prompt token is computed again for its prediction.
        let usable = |_: &_, index: usize| index + 1 < length;
        let stream = Stream::after_cached(engine, sequence, tokens, length, plans, usable)?;
        engine.set_seen(sequence, &tokens[..stream.next])?;
        Ok(Self {
            tokens: tokens.to_vec(),
            sampler: request.sampler,
            done: stream.next,
            run: Run::new(vec![stream], Capture::NOTHING),
        })
    }

    /// Tokens read so far, cached ones included.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Tokens to read in all.
    pub fn total(&self) -> usize {
        self.tokens.len()
    }

    /// Reads the next batch; false when there was none left.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let depth = QUEUED.min(engine.limits().in_flight);
        while self.run.under_way() < depth && self.queue(engine).await? {}
        let done = self.run.collect_and_cache(engine).await?;
        self.done += done.as_ref().map_or(0, Vec::len);
        Ok(done.is_some())
    }

    /// One for every token, once [`Self::next`] has said so. From the last prompt token on, `chosen`
    /// of an entry's prediction is what the sampler would have put after it.
    pub fn finish(self, engine: &Engine) -> Vec<TokenRecord> {
        engine.records(self.run.streams[0].sequence)
    }

    /// Submits a batch of tokens under one plan. Executors count all of a batch's tokens as seen before
    /// they choose, so under a repetition penalty a batch ends with the first token that is asked.
    async fn queue(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let plan_at = |run: &Run| Arc::clone(run.streams[0].plan_at(run.streams[0].next));
        let plan = plan_at(&self.run);
        while let Some(&token) = self.tokens.get(self.run.streams[0].next) {
            let Stream {
                next,
                prompt_length,
                ..
            } = self.run.streams[0];
            let asks = next + 1 >= prompt_length;
            let head = match asks {
                true => Head::Sample(self.sampler),
                false => Head::Skip,
            };
            if !Arc::ptr_eq(&plan_at(&self.run), &plan) || !self.run.push(engine, 0, token, head)? {
                break;
            }
            if asks && self.sampler.repetition_penalty != 1.0 {
                break;
            }
        }
        self.run.submit(engine).await
    }
}
