//! Generation: several answers at once, step by step, so that the caller can watch and steer.
//!
//! ```ignore
//! let mut run = Generation::start(&mut engine, requests)?;
//! while let Some(event) = run.next(&mut engine).await? {
//!     // show it; run.set_plan(..) when a slider moved; run.stop(..) to end early
//! }
//! let answers = run.finish(&mut engine).await?;
//! ```

use crate::engine::{Backend, Engine};
use crate::error::EngineError;
use crate::executor::{Batch, Head, Row, TokenSource};
use crate::index::{Position, SequenceIndex, TokenId};
use crate::record::{Prediction, TokenRecord};
use crate::sampling::Sampler;
use crate::sequence::ActivePlan;
use crate::steering::SteeringPlan;
use std::collections::VecDeque;

#[derive(Clone, Debug)]
pub struct GenerateRequest {
    pub sequence: SequenceIndex,
    pub prompt: Vec<TokenId>,
    pub plan: SteeringPlan,
    pub sampler: Sampler,
    pub max_tokens: usize,
    /// Tokens that end the answer; the one that did is not part of it.
    pub end_tokens: Vec<TokenId>,
}

/// Part of a run made under one plan.
#[derive(Clone, Debug)]
pub struct Segment {
    pub from: Position,
    pub plan: SteeringPlan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    EndToken,
    MaxTokens,
    ContextFull,
    Stopped,
}

/// What happened. `request` is the index into the requests.
#[derive(Clone, Debug)]
pub enum Event {
    /// Prompt tokens of all requests consumed so far, cached ones included.
    Prompt {
        done: usize,
        total: usize,
    },
    /// A token was chosen, not yet read: its readings arrive with [`Event::Read`].
    Token {
        request: usize,
        position: Position,
        prediction: Prediction,
    },
    /// A token of the answer was consumed.
    Read {
        request: usize,
        record: TokenRecord,
    },
    /// From this token on the answer runs under another plan.
    Segment {
        request: usize,
        from: Position,
    },
    End {
        request: usize,
        reason: EndReason,
    },
}

/// A finished answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub sequence: SequenceIndex,
    pub prompt_length: usize,
    /// The new tokens, without the end token.
    pub tokens: Vec<TokenId>,
    /// One for every token of prompt and answer that the model consumed: all of them, except the
    /// last one of an answer that was stopped or filled the context.
    pub records: Vec<TokenRecord>,
    /// The first is the request's own plan from its first token.
    pub segments: Vec<Segment>,
    pub reason: EndReason,
}

#[derive(Debug)]
struct Run {
    request: GenerateRequest,
    plan: ActivePlan,
    segments: Vec<Segment>,
    /// From which token on which of [`Generation::plans`] holds.
    plans: Vec<(usize, ActivePlanIndex)>,
    /// Of the next token to queue.
    next: usize,
    /// Tokens that were known when the run began, or when it was resumed.
    given: usize,
    /// What was read is read again, for an engine that has not seen it.
    resumed: bool,
    /// Tokens whose readings were reported.
    reported: usize,
    /// Accepted so far.
    tokens: Vec<TokenId>,
    ended: Option<EndReason>,
}

impl Run {
    fn prompt_length(&self) -> usize {
        self.request.prompt.len()
    }

    /// Length of prompt and answer at which the answer ends.
    fn longest(&self) -> usize {
        self.prompt_length().saturating_add(self.request.max_tokens)
    }

    fn in_prompt(&self) -> bool {
        self.next < self.given
    }

    /// The token at `index` where it was given.
    fn given_token(&self, index: usize) -> Option<TokenId> {
        let answer = index.checked_sub(self.prompt_length());
        match answer {
            None => self.request.prompt.get(index).copied(),
            Some(at) if index < self.given => self.tokens.get(at).copied(),
            Some(_) => None,
        }
    }

    /// Whether the token at `index` is only read again.
    fn again(&self, index: usize) -> bool {
        self.resumed && index < self.given
    }

    fn plan_at(&self, index: usize) -> ActivePlanIndex {
        let before = self.plans.iter().rev().find(|(from, _)| *from <= index);
        before.map_or(0, |(_, plan)| *plan)
    }

    /// Whether another token is to be queued, given the context's length.
    fn has_more(&self, context: usize) -> bool {
        (self.ended.is_none() || self.again(self.next))
            && self.next < context
            && (self.in_prompt() || self.next < self.longest())
    }

    fn head(&self, index: usize) -> Head {
        let last = self.longest();
        if index + 1 < self.prompt_length() {
            return Head::Skip;
        }
        match self.given_token(index + 1) {
            Some(token) => Head::Score(token),
            None if index + 1 < last && self.ended.is_none() => Head::Sample(self.request.sampler),
            None => Head::Skip,
        }
    }
}

/// A queued batch: its rows, each with the index of its request and the plan that it ran under.
#[derive(Debug)]
struct Queued {
    rows: Vec<(usize, Row, ActivePlanIndex)>,
    /// When, by the engine's clock.
    submitted: Option<f64>,
}

/// Into [`Generation::plans`].
type ActivePlanIndex = usize;

#[derive(Debug)]
pub struct Generation {
    runs: Vec<Run>,
    /// Every plan that any run has had, so that queued rows can name theirs.
    plans: Vec<ActivePlan>,
    queued: VecDeque<Queued>,
    events: VecDeque<Event>,
    pace: Pace,
    /// Rows of the residual stream that were captured and not yet taken; `None` where none are.
    captured: Option<Vec<CapturedRow>>,
}

/// The residual stream of one token.
#[derive(Clone, Debug)]
pub struct CapturedRow {
    /// Index into the requests.
    pub request: usize,
    /// Of the token, in prompt and answer.
    pub index: usize,
    /// `[L+1, d]`
    pub residual: Vec<f32>,
}

/// How long a batch takes, which says how many may be queued so that a slider still feels live.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// When the last batch came back.
    collected: Option<f64>,
    /// That it took; unknown without a clock.
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

impl Generation {
    /// Checks the requests. Each has a sequence of its own and a prompt of at least one token.
    pub async fn start(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
    ) -> Result<Self, EngineError> {
        Self::begin(engine, requests, false).await
    }

    /// The same, but computes every token anew and keeps what the residual stream holds for [`Self::take_captured`].
    pub async fn start_capturing(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
    ) -> Result<Self, EngineError> {
        Self::begin(engine, requests, true).await
    }

    async fn begin(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
        capture: bool,
    ) -> Result<Self, EngineError> {
        engine.drain().await?;
        let mut runs = Vec::with_capacity(requests.len());
        for (index, request) in requests.into_iter().enumerate() {
            engine.check_tokens(request.sequence, &request.prompt)?;
            request.sampler.checked()?;
            if request.prompt.is_empty() {
                return Err(EngineError::Usage(
                    "a prompt needs at least one token".into(),
                ));
            }
            if runs
                .iter()
                .any(|run: &Run| run.request.sequence == request.sequence)
            {
                return Err(EngineError::Usage(format!(
                    "request {index} shares its sequence with another"
                )));
            }
            let plan = engine.activate(&request.plan)?;
            let length = request.prompt.len();
            // The last prompt token is always computed: the answer begins with its prediction.
            let next = engine.reuse(
                request.sequence,
                &request.prompt,
                length,
                &plan,
                |_, index| !capture && index + 1 < length,
            );
            engine.set_seen(request.sequence, &request.prompt[..next])?;
            let segments = vec![Segment {
                from: Position(0),
                plan: request.plan.clone(),
            }];
            let ended = (request.max_tokens == 0).then_some(EndReason::MaxTokens);
            runs.push(Run {
                request,
                plan,
                segments,
                plans: vec![(0, index)],
                next,
                given: length,
                resumed: false,
                reported: 0,
                tokens: Vec::new(),
                ended,
            });
        }
        let plans = runs.iter().map(|run| run.plan.clone()).collect();
        Ok(Self {
            runs,
            plans,
            queued: VecDeque::new(),
            events: VecDeque::new(),
            pace: Pace::default(),
            captured: capture.then(Vec::new),
        })
    }

    /// What was captured since the last call: each token that became part of an answer or its prompt, once.
    pub fn take_captured(&mut self) -> Vec<CapturedRow> {
        self.captured
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Advances until something happened; `None` when every answer has ended.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<Event>, EngineError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let ahead = match engine.info().backend {
                Backend::Gpu => self.pace.ahead().min(engine.limits().in_flight),
                // The others compute a batch when it is queued: nothing is won by queueing more.
                Backend::Cpu | Backend::Reference => 1,
            };
            while self.queued.len() < ahead {
                if !self.queue(engine)? {
                    break;
                }
            }
            if self.queued.is_empty() {
                return Ok(None);
            }
            self.accept(engine).await?;
        }
    }

    /// From the next token that is not yet queued on, `request` runs under `plan`: a new segment.
    pub fn set_plan(
        &mut self,
        engine: &Engine,
        request: usize,
        plan: SteeringPlan,
    ) -> Result<(), EngineError> {
        let active = engine.activate(&plan)?;
        let Some(run) = self.runs.get_mut(request) else {
            return Err(EngineError::Usage(format!("there is no request {request}")));
        };
        let from = match run.resumed {
            true => run.next.max(run.given),
            false => run.next,
        };
        run.plans.retain(|(earlier, _)| *earlier < from);
        run.plans.push((from, self.plans.len()));
        let from = Position(from as u32);
        match run.segments.last_mut() {
            Some(last) if last.from == from => last.plan = plan,
            _ => run.segments.push(Segment { from, plan }),
        }
        self.plans.push(active);
        self.events.push_back(Event::Segment { request, from });
        Ok(())
    }

    /// Ends `request` after the tokens already reported.
    pub fn stop(&mut self, request: usize) {
        self.end(request, EndReason::Stopped);
    }

    /// Waits for what is queued and returns the answers, in the order of the requests.
    /// Nothing is left of the generation afterwards, but where it fails it can be resumed.
    pub async fn finish(&mut self, engine: &mut Engine) -> Result<Vec<Answer>, EngineError> {
        for request in 0..self.runs.len() {
            self.end(request, EndReason::Stopped);
        }
        engine.drain().await?;
        let runs = std::mem::take(&mut self.runs);
        let answers = runs.into_iter().map(|run| Answer {
            sequence: run.request.sequence,
            prompt_length: run.request.prompt.len(),
            records: engine.records(run.request.sequence),
            tokens: run.tokens,
            segments: run.segments,
            reason: run.ended.unwrap_or(EndReason::Stopped),
        });
        Ok(answers.collect())
    }

    /// Goes on with an engine that has seen nothing of this: prompts and answers so far are read again under the
    /// plans that they had, then every answer continues with the token after its last. Noise depends on the
    /// position alone, so that the same tokens follow.
    pub async fn resume(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        engine.drain().await?;
        self.queued.clear();
        self.pace = Pace::default();
        for run in &mut self.runs {
            let sequence = run.request.sequence;
            engine.check_tokens(sequence, &run.request.prompt)?;
            engine.clear(sequence)?;
            engine.set_seen(sequence, &[])?;
            run.given = run.prompt_length() + run.tokens.len();
            run.resumed = true;
            run.next = 0;
        }
        Ok(())
    }

    fn end(&mut self, request: usize, reason: EndReason) {
        let run = &mut self.runs[request];
        if run.ended.is_none() {
            run.ended = Some(reason);
            self.events.push_back(Event::End { request, reason });
        }
    }

    /// Submits the next batch: prompt tokens first, else one token of every running answer.
    fn queue(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let (context, limits) = (engine.info().context, engine.limits());
        let prompts = self
            .runs
            .iter()
            .any(|run| run.in_prompt() && run.has_more(context));
        let mut queued = Queued {
            rows: Vec::new(),
            submitted: None,
        };
        for (request, run) in self.runs.iter_mut().enumerate() {
            while queued.rows.len() < limits.rows
                && run.has_more(context)
                && run.in_prompt() == prompts
            {
                let index = run.next;
                let plan_index = run.plan_at(index);
                let token = run
                    .given_token(index)
                    .map_or(TokenSource::Sampled, TokenSource::Id);
                let (sequence, length) = (run.request.sequence, run.prompt_length());
                // A resumed answer may have had more plans than there are slots for changes.
                if !engine.has_room(index, length, &self.plans[plan_index]) {
                    break;
                }
                let row = engine.row(
                    sequence,
                    index,
                    token,
                    length,
                    &self.plans[plan_index],
                    run.head(index),
                )?;
                queued.rows.push((request, row, plan_index));
                run.next += 1;
                if !prompts {
                    break;
                }
            }
        }
        if queued.rows.is_empty() {
            return Ok(false);
        }
        let batch = Batch {
            rows: queued.rows.iter().map(|(_, row, _)| *row).collect(),
            capture: self.captured.is_some(),
        };
        queued.submitted = engine.now();
        engine.submit(&batch)?;
        self.queued.push_back(queued);
        Ok(true)
    }

    /// Collects the oldest batch and turns it into events.
    async fn accept(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        let record = engine.collect().await?;
        let Some(queued) = self.queued.pop_front() else {
            return Ok(());
        };
        self.pace.note(queued.submitted, engine.now());
        let context = engine.info().context;
        let mut prompt_rows = false;
        let width = record.residual.len() / queued.rows.len();
        for (at, ((request, row, plan), token)) in queued.rows.iter().zip(record.tokens).enumerate()
        {
            let run = &mut self.runs[*request];
            let length = run.prompt_length();
            let index = row.position.0 as usize;
            let again = run.again(index);
            if run.ended.is_some() && !again {
                // Queued before the end was known; the cache forgets it.
                continue;
            }
            prompt_rows |= index < run.given;
            if let Some(captured) = self.captured.as_mut().filter(|_| !again) {
                captured.push(CapturedRow {
                    request: *request,
                    index,
                    residual: record.residual[at * width..][..width].to_vec(),
                });
            }
            engine.cache(row, token.clone(), length, &self.plans[*plan]);
            let prediction = token.prediction.clone();
            if index >= length.max(run.reported) {
                run.reported = index + 1;
                self.events.push_back(Event::Read {
                    request: *request,
                    record: token,
                });
            }
            if again && (index + 1 < run.given || run.ended.is_some()) {
                continue;
            }
            let Some(prediction) = prediction else {
                if index + 1 == run.longest() {
                    self.end(*request, EndReason::MaxTokens);
                }
                continue;
            };
            if run.request.end_tokens.contains(&prediction.chosen) {
                self.end(*request, EndReason::EndToken);
                continue;
            }
            run.tokens.push(prediction.chosen);
            let position = Position(row.position.0 + 1);
            self.events.push_back(Event::Token {
                request: *request,
                position,
                prediction,
            });
            if index + 1 >= context {
                self.end(*request, EndReason::ContextFull);
            }
        }
        if prompt_rows {
            let total = self.runs.iter().map(|run| run.given).sum();
            let done = self.runs.iter().map(|run| run.next.min(run.given)).sum();
            self.events.push_front(Event::Prompt { done, total });
        }
        Ok(())
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
