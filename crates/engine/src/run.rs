//! The one loop under everything that goes through the model: rows are put into a batch, the batch is submitted and
//! collected, and what came back is noted as cached.

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Batch, Capture, Captured, Head, Row, TokenSource, Want};
use crate::index::{SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::sequence::{ActivePlan, Sequence};
use crate::types::Backend;
use std::collections::VecDeque;
use std::sync::Arc;

/// One sequence on its way through the model, token after token.
#[derive(Debug)]
pub struct Stream {
    pub sequence: SequenceIndex,
    /// Tokens in the prompt; the last of them already counts as response for steering.
    pub prompt_length: usize,
    /// The plans, each with the index of the first token that it holds for; the first begins at 0.
    pub plans: Vec<(usize, Arc<ActivePlan>)>,
    /// Index of the next token to queue.
    pub next: usize,
}

impl Stream {
    /// Begins after what the cache already holds, see [`Self::skip_cached`].
    pub fn after_cached(
        engine: &mut Engine,
        sequence: SequenceIndex,
        tokens: &[TokenId],
        prompt_length: usize,
        plans: Vec<(usize, Arc<ActivePlan>)>,
        usable: impl Fn(&Sequence, usize) -> bool,
    ) -> Result<Self, EngineError> {
        let mut stream = Self {
            sequence,
            prompt_length,
            plans,
            next: 0,
        };
        stream.skip_cached(engine, tokens, usable)?;
        Ok(stream)
    }

    /// Goes on after what the cache holds of `tokens` under the stream's first plan, be it of another sequence; `usable` may
    /// veto a cached token.
    pub fn skip_cached(
        &mut self,
        engine: &mut Engine,
        tokens: &[TokenId],
        usable: impl Fn(&Sequence, usize) -> bool,
    ) -> Result<(), EngineError> {
        let first = self.plans.get(1).map_or(usize::MAX, |(from, _)| *from);
        let usable = |cached: &Sequence, index| index < first && usable(cached, index);
        let (sequence, length) = (self.sequence, self.prompt_length);
        self.next = engine.reuse(sequence, tokens, length, &self.plans[0].1, usable)?;
        Ok(())
    }

    pub fn plan_at(&self, index: usize) -> &Arc<ActivePlan> {
        let after = self.plans.partition_point(|(from, _)| *from <= index);
        &self.plans[after - 1].1
    }
}

/// A row that was queued, and of which stream under which plan.
#[derive(Debug)]
struct Queued {
    stream: usize,
    row: Row,
    plan: Arc<ActivePlan>,
}

/// A row that came back.
#[derive(Debug)]
pub struct ReadRow {
    /// Index into the run's streams.
    pub stream: usize,
    /// Index of the token in its sequence.
    pub index: usize,
    pub record: TokenRecord,
    pub captured: Captured,
    row: Row,
    plan: Arc<ActivePlan>,
}

impl ReadRow {
    /// Notes that the token now lies in its sequence's cache.
    pub fn cache(&self, engine: &mut Engine, prompt_length: usize) {
        engine.cache(&self.row, self.record.clone(), prompt_length, &self.plan);
    }
}

/// Streams that go through the model together.
#[derive(Debug)]
pub struct Run {
    pub streams: Vec<Stream>,
    /// Parts of every row that are captured.
    pub capture: Capture,
    batch: Vec<Queued>,
    /// Rows of the batch in the making that ask for the head.
    heads: usize,
    /// Batches under way, each with the time when it was submitted.
    queued: VecDeque<(Vec<Queued>, Option<f64>)>,
    pace: Pace,
}

impl Run {
    pub fn new(streams: Vec<Stream>, capture: Capture) -> Self {
        Self {
            streams,
            capture,
            batch: Vec::new(),
            heads: 0,
            queued: VecDeque::new(),
            pace: Pace::default(),
        }
    }

    /// Forgets what is under way, for an engine that has seen nothing of it.
    pub fn restart(&mut self) {
        self.batch.clear();
        self.heads = 0;
        self.queued.clear();
        self.pace = Pace::default();
        self.streams.iter_mut().for_each(|stream| stream.next = 0);
    }

    /// Rows of the batch in the making.
    pub fn rows(&self) -> usize {
        self.batch.len()
    }

    /// Batches under way.
    pub fn under_way(&self) -> usize {
        self.queued.len()
    }

    /// How many batches should be under way while somebody waits for each token.
    pub fn ahead(&self, engine: &Engine) -> usize {
        match engine.info().backend {
            Backend::Gpu => self.pace.ahead().min(engine.limits().in_flight),
            // The others compute a batch when it is queued: nothing is won by queueing more.
            Backend::Cpu | Backend::Reference => 1,
        }
    }

    /// Adds the next token of `stream` to the batch in the making; false where the batch is full.
    pub fn push(
        &mut self,
        engine: &mut Engine,
        stream: usize,
        token: impl Into<TokenSource>,
        head: Head,
    ) -> Result<bool, EngineError> {
        let limits = engine.limits();
        let heads = self.heads + usize::from(head != Head::Skip);
        let queued = &mut self.streams[stream];
        let (index, length) = (queued.next, queued.prompt_length);
        let plan = Arc::clone(queued.plan_at(index));
        let full = self.batch.len() == limits.rows || heads > limits.head_rows;
        if full || !engine.has_room(index, length, &plan) {
            return Ok(false);
        }
        let capture = self.capture;
        let want = Want { head, capture };
        let row = engine.row(queued.sequence, index, token, length, &plan, want)?;
        queued.next += 1;
        self.heads = heads;
        self.batch.push(Queued { stream, row, plan });
        Ok(true)
    }

    /// Submits the batch in the making; false where it is empty.
    pub async fn submit(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        if self.batch.is_empty() {
            return Ok(false);
        }
        self.heads = 0;
        let rows = std::mem::take(&mut self.batch);
        let submitted = engine.now();
        let batch = Batch {
            rows: rows.iter().map(|queued| queued.row).collect(),
        };
        engine.submit(&batch).await?;
        self.queued.push_back((rows, submitted));
        Ok(true)
    }

    /// Waits for the oldest batch; `None` where nothing is under way. Rows are not yet noted as cached.
    pub async fn collect(
        &mut self,
        engine: &mut Engine,
    ) -> Result<Option<Vec<ReadRow>>, EngineError> {
        if self.queued.is_empty() {
            return Ok(None);
        }
        let collected = engine.collect().await?;
        let Some((rows, submitted)) = self.queued.pop_front() else {
            return Ok(None);
        };
        self.pace.note(submitted, engine.now());
        let back = collected.tokens.into_iter().zip(collected.captured);
        let rows = rows.into_iter().zip(back);
        let done = rows.map(
            |(Queued { stream, row, plan }, (record, captured))| ReadRow {
                stream,
                index: row.position.0 as usize,
                record,
                captured,
                row,
                plan,
            },
        );
        Ok(Some(done.collect()))
    }

    /// As [`Self::collect`], and notes all rows as cached.
    pub async fn collect_and_cache(
        &mut self,
        engine: &mut Engine,
    ) -> Result<Option<Vec<ReadRow>>, EngineError> {
        let done = self.collect(engine).await?;
        for row in done.iter().flatten() {
            row.cache(engine, self.streams[row.stream].prompt_length);
        }
        Ok(done)
    }
}

/// How long a batch takes, which says how many may be queued so that a slider still feels live.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// When the last batch came back.
    collected: Option<f64>,
    /// How long the last batch took; unknown without a clock.
    seconds: Option<f64>,
}

impl Pace {
    const MOST_AHEAD: usize = 4;
    const SECONDS_AHEAD: f64 = 0.15;

    /// Batches that may be under way at once.
    fn ahead(self) -> usize {
        let Some(seconds) = self.seconds else {
            return 1;
        };
        // The cast saturates: a batch of no measurable length is as good as a very short one.
        ((Self::SECONDS_AHEAD / seconds) as usize).clamp(1, Self::MOST_AHEAD)
    }

    /// Notes a batch that was submitted at one time and came back at another. It was not begun before the one in
    /// front of it was done.
    fn note(&mut self, submitted: Option<f64>, collected: Option<f64>) {
        if let (Some(submitted), Some(collected)) = (submitted, collected) {
            let begun = self
                .collected
                .map_or(submitted, |before| before.max(submitted));
            self.seconds = Some((collected - begun).max(0.0));
        }
        self.collected = collected;
    }
}

#[cfg(test)]
mod tests {
    use super::Pace;

    #[test]
    fn four_batches_or_150_milliseconds_are_queued() {
        let ahead = |seconds| {
            let mut pace = Pace::default();
            pace.note(Some(1.0), Some(1.0 + seconds));
            pace.ahead()
        };
        assert_eq!(Pace::default().ahead(), 1, "nothing is known yet");
        let cases = [
            (0.0, 4),
            (0.03, 4),
            (0.04, 3),
            (0.07, 2),
            (0.1, 1),
            (2.0, 1),
        ];
        for (seconds, want) in cases {
            assert_eq!(ahead(seconds), want, "{seconds} s");
        }
    }

    #[test]
    fn what_was_queued_behind_another_batch_is_timed_from_its_end() {
        let mut pace = Pace::default();
        pace.note(Some(1.0), Some(1.05));
        pace.note(Some(1.0), Some(1.1));
        assert!((pace.seconds.unwrap() - 0.05).abs() < 1e-9);
        pace.note(Some(5.0), Some(5.01));
        assert!((pace.seconds.unwrap() - 0.01).abs() < 1e-9);
        // Without a clock, what was known still holds.
        pace.note(None, None);
        assert_eq!(pace.ahead(), 4);
    }
}
