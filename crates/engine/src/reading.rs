//! Reading a given sequence batch by batch, so that the caller can report, pause or give up in between.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Capture, Captured, Head};
use crate::index::TokenId;
use crate::record::TokenRecord;
use crate::run::{Run, Stream};
use crate::sequence::Sequence;
use crate::types::{ReadOutcome, ReadRequest, Scoring};
use std::sync::Arc;

/// A [`ReadRequest`] under way. Dropped early, it leaves what it has read in the sequence's cache.
#[derive(Debug)]
pub struct Reading {
    tokens: Vec<TokenId>,
    score: Scoring,
    run: Run,
    outcome: ReadOutcome,
    captured: Vec<Captured>,
}

impl Reading {
    /// Checks the request and finds what the cache already holds of it.
    pub async fn start(
        engine: &mut Engine,
        request: &ReadRequest<'_>,
    ) -> Result<Self, EngineError> {
        let capture = match request.capture {
            true => Capture::RESIDUAL,
            false => Capture::NOTHING,
        };
        Self::start_capturing(engine, request, capture).await
    }

    /// The same, but captures what `capture` says, whatever the request does, for [`Self::take_captured`].
    pub async fn start_capturing(
        engine: &mut Engine,
        request: &ReadRequest<'_>,
        capture: Capture,
    ) -> Result<Self, EngineError> {
        engine.drain().await?;
        let plans = vec![(0, Arc::new(engine.activate(request.plan)?))];
        let (sequence, tokens, length) = (request.sequence, request.tokens, request.prompt_length);
        engine.check_tokens(sequence, tokens)?;
        let usable = |cached: &Sequence, index: usize| {
            let target = tokens.get(index + 1);
            capture == Capture::NOTHING
                && (!request.score.wants(index, length)
                    || target.is_none_or(|target| cached.is_scored(index, *target)))
        };
        let stream = Stream::after_cached(engine, sequence, tokens, length, plans, usable)?;
        Ok(Self {
            tokens: tokens.to_vec(),
            score: request.score,
            outcome: ReadOutcome {
                reused: stream.next,
                ..ReadOutcome::default()
            },
            run: Run::new(vec![stream], capture),
            captured: Vec::new(),
        })
    }

    /// Begins again, for an engine that has seen nothing of this.
    pub fn restart(&mut self) {
        self.outcome = ReadOutcome::default();
        self.captured.clear();
        self.run.restart();
    }

    /// Tokens read so far, cached ones included.
    pub fn done(&self) -> usize {
        self.run.streams[0].next
    }

    /// Tokens to read in all.
    pub fn total(&self) -> usize {
        self.tokens.len()
    }

    /// Reads the next batch; false when there was none left.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        while let Some(&token) = self.tokens.get(self.done()) {
            let index = self.done();
            let head = match self.tokens.get(index + 1) {
                Some(&target) if self.score.wants(index, self.run.streams[0].prompt_length) => {
                    Head::Score(target)
                }
                _ => Head::Skip,
            };
            if !self.run.push(engine, 0, token, head)? {
                break;
            }
        }
        self.run.submit(engine).await?;
        let Some(done) = self.run.collect_and_cache(engine).await? else {
            return Ok(false);
        };
        if self.run.capture != Capture::NOTHING {
            self.captured
                .extend(done.into_iter().map(|row| row.captured));
        }
        Ok(true)
    }

    /// The rows captured since the last call, one for every token read.
    pub fn take_captured(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.captured)
    }

    /// One for every token read so far.
    pub fn records(&self, engine: &Engine) -> Vec<TokenRecord> {
        engine.records(self.run.streams[0].sequence)
    }

    /// The outcome: everything, once [`Self::next`] has said so.
    pub fn finish(self, engine: &Engine) -> ReadOutcome {
        let records = self.records(engine);
        let numbers = self.captured.iter().map(|row| row.residual.len()).sum();
        let mut residual = Vec::with_capacity(numbers);
        for row in self.captured {
            residual.extend(row.residual);
        }
        ReadOutcome {
            records,
            residual,
            ..self.outcome
        }
    }
}
