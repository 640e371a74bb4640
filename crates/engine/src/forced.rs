//! Forcing given tokens through the model as a run would have written them: under the run's segments,
//! with the run's sampler asked in every place of the answer what it would have chosen there.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Batch, Head, Row};
use crate::generate::Segment;
use crate::index::{SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::sampling::Sampler;
use crate::sequence::ActivePlan;
use std::collections::VecDeque;

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
    sequence: SequenceIndex,
    tokens: Vec<TokenId>,
    prompt_length: usize,
    sampler: Sampler,
    /// From which token on each plan holds.
    plans: Vec<(usize, ActivePlan)>,
    /// Of the next token to queue.
    next: usize,
    done: usize,
    queued: VecDeque<Vec<(Row, usize)>>,
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
        let mut plans = Vec::with_capacity(request.segments.len());
        for segment in request.segments {
            plans.push((segment.from.0 as usize, engine.activate(&segment.plan)?));
        }
        // The last prompt token is computed again for its prediction, and so is all under later plans.
        let usable =
            (request.prompt_length - 1).min(plans.get(1).map_or(usize::MAX, |(from, _)| *from));
        let next = engine.reuse(
            request.sequence,
            request.tokens,
            request.prompt_length,
            &plans[0].1,
            |_, index| index < usable,
        );
        engine.set_seen(request.sequence, &request.tokens[..next])?;
        Ok(Self {
            sequence: request.sequence,
            tokens: request.tokens.to_vec(),
            prompt_length: request.prompt_length,
            sampler: request.sampler,
            plans,
            next,
            done: next,
            queued: VecDeque::new(),
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
        while self.queued.len() < depth && self.next < self.tokens.len() {
            self.queue(engine)?;
        }
        let Some(rows) = self.queued.pop_front() else {
            return Ok(false);
        };
        let record = engine.collect().await?;
        for ((row, plan), token) in rows.into_iter().zip(record.tokens) {
            engine.cache(&row, token, self.prompt_length, &self.plans[plan].1);
            self.done += 1;
        }
        Ok(true)
    }

    /// One for every token, once [`Self::next`] has said so. From the last prompt token on, `chosen`
    /// of an entry's prediction is what the sampler would have put after it.
    pub fn finish(self, engine: &Engine) -> Vec<TokenRecord> {
        engine.records(self.sequence)
    }

    /// Submits a batch of tokens under one plan. Executors count all of a batch's tokens as seen before
    /// they choose, so under a repetition penalty a batch ends with the first token that is asked.
    fn queue(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        let limits = engine.limits();
        let plan_at = |index: usize| self.plans.partition_point(|(from, _)| *from <= index) - 1;
        let plan = plan_at(self.next);
        let mut rows = Vec::new();
        let mut asked = 0;
        while rows.len() < limits.rows && self.next < self.tokens.len() {
            let index = self.next;
            let asks = index + 1 >= self.prompt_length;
            if plan_at(index) != plan || (asks && asked == limits.head_rows) {
                break;
            }
            let head = if asks {
                Head::Sample(self.sampler)
            } else {
                Head::Skip
            };
            let row = engine.row(
                self.sequence,
                index,
                self.tokens[index],
                self.prompt_length,
                &self.plans[plan].1,
                head,
            )?;
            rows.push((row, plan));
            self.next += 1;
            asked += usize::from(asks);
            if asks && self.sampler.repetition_penalty != 1.0 {
                break;
            }
        }
        engine.submit(&Batch {
            rows: rows.iter().map(|(row, _)| *row).collect(),
            capture: false,
        })?;
        self.queued.push_back(rows);
        Ok(())
    }
}
