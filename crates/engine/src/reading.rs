//! Reading a given sequence batch by batch, so that the caller can report, pause or give up in between.

use crate::engine::{Engine, ReadOutcome, ReadRequest, Scoring};
use crate::error::EngineError;
use crate::executor::{Batch, Head};
use crate::index::{SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::sequence::ActivePlan;

/// A [`ReadRequest`] under way. Dropped early, it leaves what it has read in the sequence's cache.
#[derive(Debug)]
pub struct Reading {
    sequence: SequenceIndex,
    tokens: Vec<TokenId>,
    prompt_length: usize,
    score: Scoring,
    capture: bool,
    plan: ActivePlan,
    /// Rows of one batch.
    chunk: usize,
    outcome: ReadOutcome,
    next: usize,
}

impl Reading {
    /// Checks the request and finds what the cache already holds of it.
    pub async fn start(
        engine: &mut Engine,
        request: &ReadRequest<'_>,
    ) -> Result<Self, EngineError> {
        engine.drain().await?;
        let plan = engine.activate(request.plan)?;
        engine.check_tokens(request.sequence, request.tokens)?;
        let reused = engine.reuse(
            request.sequence,
            request.tokens,
            request.prompt_length,
            &plan,
            |sequence, index| {
                let target = request.tokens.get(index + 1);
                !request.capture
                    && (!request.score.wants(index, request.prompt_length)
                        || target.is_none_or(|target| sequence.is_scored(index, *target)))
            },
        );
        let limits = engine.limits();
        let chunk = match request.score {
            Scoring::Nothing => limits.rows,
            _ => limits.rows.min(limits.head_rows),
        };
        let outcome = ReadOutcome {
            reused,
            ..ReadOutcome::default()
        };
        Ok(Self {
            sequence: request.sequence,
            tokens: request.tokens.to_vec(),
            prompt_length: request.prompt_length,
            score: request.score,
            capture: request.capture,
            plan,
            chunk,
            outcome,
            next: reused,
        })
    }

    /// Begins again, for an engine that has seen nothing of this.
    pub fn restart(&mut self) {
        self.outcome = ReadOutcome::default();
        self.next = 0;
    }

    /// Tokens read so far, cached ones included.
    pub fn done(&self) -> usize {
        self.next
    }

    /// Tokens to read in all.
    pub fn total(&self) -> usize {
        self.tokens.len()
    }

    /// Reads the next batch; false when there was none left.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let end = self.tokens.len().min(self.next + self.chunk);
        if self.next >= end {
            return Ok(false);
        }
        let mut batch = Batch {
            rows: Vec::with_capacity(end - self.next),
            capture: self.capture,
        };
        for index in self.next..end {
            let head = match self.tokens.get(index + 1) {
                Some(&target) if self.score.wants(index, self.prompt_length) => Head::Score(target),
                _ => Head::Skip,
            };
            let token = self.tokens[index];
            batch.rows.push(engine.row(
                self.sequence,
                index,
                token,
                self.prompt_length,
                &self.plan,
                head,
            )?);
        }
        engine.submit(&batch)?;
        let record = engine.collect().await?;
        self.outcome.residual.extend_from_slice(&record.residual);
        for (row, token) in batch.rows.iter().zip(record.tokens) {
            engine.cache(row, token, self.prompt_length, &self.plan);
        }
        self.next = end;
        Ok(true)
    }

    /// One for every token read so far.
    pub fn records(&self, engine: &Engine) -> Vec<TokenRecord> {
        engine.records(self.sequence)
    }

    /// What was read: everything, once [`Self::next`] has said so.
    pub fn finish(self, engine: &Engine) -> ReadOutcome {
        ReadOutcome {
            records: self.records(engine),
            ..self.outcome
        }
    }
}
