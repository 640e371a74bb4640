//! Generation: several answers at once, step by step, so that the caller can watch and steer.
//!
//! ```ignore
//! let mut run = Generation::start(&mut engine, requests)?;
//! while let Some(event) = run.next(&mut engine).await? {
//!     // show it; run.set_plan(..) when a slider moved; run.stop(..) to end early
//! }
//! let answers = run.finish(&mut engine).await?;
//! ```

use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Capture, Head, TokenSource};
use crate::index::{Position, SequenceIndex, TokenId};
use crate::record::{Prediction, TokenRecord};
use crate::run::{ReadRow, Run, Stream};
use crate::sampling::Sampler;
use crate::steering::SteeringPlan;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use ts_rs::TS;

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    #[default]
    EndToken,
    MaxTokens,
    ContextFull,
    Stopped,
}

/// An answer's first tokens, known before its run begins.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// They count towards the request's `max_tokens`.
    pub tokens: Vec<TokenId>,
    /// Plans that took the place of the request's own, by rising position.
    pub changes: Vec<Segment>,
}

/// A step of a run. `request` is the index into the requests.
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

/// One request under way.
#[derive(Debug)]
struct Text {
    request: GenerateRequest,
    segments: Vec<Segment>,
    /// Tokens that were known when the run began, or when it was resumed.
    given: usize,
    /// An earlier text that begins as this one does, and for how many tokens: once it has read them, they are shared.
    awaited: Option<(usize, usize)>,
    /// True if the known tokens are read again, because this engine never saw them.
    resumed: bool,
    /// Tokens whose readings were reported.
    reported: usize,
    /// The answer so far.
    tokens: Vec<TokenId>,
    ended: Option<EndReason>,
}

impl Text {
    fn prompt_length(&self) -> usize {
        self.request.prompt.len()
    }

    /// Length of prompt and answer at which the answer ends.
    fn longest(&self) -> usize {
        self.prompt_length().saturating_add(self.request.max_tokens)
    }

    /// The token at `index` where it was given.
    fn given_token(&self, index: usize) -> Option<TokenId> {
        match index.checked_sub(self.prompt_length()) {
            None => self.request.prompt.get(index).copied(),
            Some(at) if index < self.given => self.tokens.get(at).copied(),
            Some(_) => None,
        }
    }

    /// Whether the token at `index` is only read again.
    fn again(&self, index: usize) -> bool {
        self.resumed && index < self.given
    }

    /// Whether the token at `index` is to be queued, given the context's length.
    fn wants(&self, index: usize, context: usize) -> bool {
        self.awaited.is_none()
            && (self.ended.is_none() || self.again(index))
            && index < context
            && (index < self.given || index < self.longest())
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

#[derive(Debug)]
pub struct Generation {
    texts: Vec<Text>,
    /// One stream for each text.
    run: Run,
    events: VecDeque<Event>,
    /// Rows that were captured and not yet taken.
    captured: Vec<CapturedRow>,
}

/// The residual stream of one token.
#[derive(Clone, Debug)]
pub struct CapturedRow {
    /// Index into the requests.
    pub request: usize,
    /// Index of the token in prompt and answer.
    pub index: usize,
    /// `[L+1, d]`
    pub residual: Vec<f32>,
}

impl Generation {
    /// Checks the requests. Each has a sequence of its own and a prompt of at least one token.
    pub async fn start(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
    ) -> Result<Self, EngineError> {
        let begun = vec![Begun::default(); requests.len()];
        Self::begin(engine, requests, begun, false).await
    }

    /// The same for answers that go on after the tokens in `begun`, one entry for each request. Their rows are read again
    /// where no cache has them, under the plans that they had; noise depends on the position alone, so that an answer goes
    /// on as if it had never ended.
    pub async fn start_after(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
        begun: Vec<Begun>,
    ) -> Result<Self, EngineError> {
        Self::begin(engine, requests, begun, false).await
    }

    /// The same, but computes every token anew and keeps what the residual stream holds for [`Self::take_captured`].
    pub async fn start_capturing(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
    ) -> Result<Self, EngineError> {
        let begun = vec![Begun::default(); requests.len()];
        Self::begin(engine, requests, begun, true).await
    }

    async fn begin(
        engine: &mut Engine,
        requests: Vec<GenerateRequest>,
        begun: Vec<Begun>,
        capture: bool,
    ) -> Result<Self, EngineError> {
        engine.drain().await?;
        let (mut texts, mut streams) = (Vec::<Text>::new(), Vec::new());
        for (index, (request, begun)) in requests.into_iter().zip(begun).enumerate() {
            let sequence = request.sequence;
            let known = [request.prompt.as_slice(), &begun.tokens].concat();
            engine.check_tokens(sequence, &known)?;
            request.sampler.checked()?;
            if request.prompt.is_empty() {
                return Err(EngineError::Usage(
                    "a prompt needs at least one token".into(),
                ));
            }
            if texts.iter().any(|text| text.request.sequence == sequence) {
                return Err(EngineError::Usage(format!(
                    "request {index} shares its sequence with another"
                )));
            }
            let first = Segment {
                from: Position(0),
                plan: request.plan.clone(),
            };
            let segments: Vec<Segment> = [first].into_iter().chain(begun.changes).collect();
            if !segments.is_sorted_by(|a, b| a.from < b.from) {
                return Err(EngineError::Usage(format!(
                    "the plans of request {index} are out of order"
                )));
            }
            let mut plans = Vec::with_capacity(segments.len());
            for Segment { from, plan } in &segments {
                plans.push((from.0 as usize, Arc::new(engine.activate(plan)?)));
            }
            let length = request.prompt.len();
            // The last known token is always computed: the answer goes on with its prediction.
            let usable = |_: &_, index: usize| !capture && index + 1 < known.len();
            let stream = Stream::after_cached(engine, sequence, &known, length, plans, usable)?;
            engine.set_seen(sequence, &known[..stream.next])?;
            streams.push(stream);
            let ended = (request.max_tokens <= begun.tokens.len()).then_some(EndReason::MaxTokens);
            let text = Text {
                request,
                segments,
                given: known.len(),
                awaited: None,
                resumed: false,
                reported: 0,
                tokens: begun.tokens,
                ended,
            };
            texts.push(text);
        }
        if !capture {
            for index in 1..texts.len() {
                let unended = (0..index).filter(|&earlier| texts[earlier].ended.is_none());
                let alike = unended.map(|at| (common(&texts, &streams, at, index), at));
                let longest = alike
                    .max()
                    .filter(|(alike, _)| *alike > streams[index].next);
                texts[index].awaited = longest.map(|(alike, at)| (at, alike));
            }
        }
        Ok(Self {
            texts,
            run: Run::new(
                streams,
                match capture {
                    true => Capture::RESIDUAL,
                    false => Capture::NOTHING,
                },
            ),
            events: VecDeque::new(),
            captured: Vec::new(),
        })
    }

    /// The rows captured since the last call: each token that became part of an answer or its prompt, once.
    pub fn take_captured(&mut self) -> Vec<CapturedRow> {
        std::mem::take(&mut self.captured)
    }

    /// Advances until something happened; `None` when every answer has ended.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<Event>, EngineError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            while self.run.under_way() < self.run.ahead(engine) {
                if !self.queue(engine).await? {
                    break;
                }
            }
            match self.run.collect(engine).await? {
                Some(done) => self.accept(engine, done),
                None => return Ok(None),
            }
        }
    }

    /// From the next token that is not yet queued on, `request` runs under `plan`: a new segment. Gives its first token.
    pub fn set_plan(
        &mut self,
        engine: &Engine,
        request: usize,
        plan: SteeringPlan,
    ) -> Result<Position, EngineError> {
        let active = Arc::new(engine.activate(&plan)?);
        let Some(text) = self.texts.get_mut(request) else {
            return Err(EngineError::Usage(format!("there is no request {request}")));
        };
        let stream = &mut self.run.streams[request];
        let from = match text.resumed {
            true => stream.next.max(text.given),
            false => stream.next,
        };
        stream.plans.retain(|(earlier, _)| *earlier < from);
        stream.plans.push((from, active));
        let from = Position(from as u32);
        text.segments.retain(|earlier| earlier.from < from);
        text.segments.push(Segment { from, plan });
        Ok(from)
    }

    /// Ends `request` after the tokens already reported.
    pub fn stop(&mut self, request: usize) {
        self.end(request, EndReason::Stopped);
    }

    /// Waits for what is queued and returns the answers, in the order of the requests.
    /// Nothing is left of the generation afterwards, but where it fails it can be resumed.
    pub async fn finish(&mut self, engine: &mut Engine) -> Result<Vec<Answer>, EngineError> {
        for request in 0..self.texts.len() {
            self.end(request, EndReason::Stopped);
        }
        engine.drain().await?;
        let texts = std::mem::take(&mut self.texts);
        let answers = texts.into_iter().map(|text| Answer {
            sequence: text.request.sequence,
            prompt_length: text.request.prompt.len(),
            records: engine.records(text.request.sequence),
            tokens: text.tokens,
            segments: text.segments,
            reason: text.ended.unwrap_or(EndReason::Stopped),
        });
        Ok(answers.collect())
    }

    /// Goes on with an engine that has seen nothing of this: prompts and answers so far are read again under the
    /// plans that they had, then every answer continues with the token after its last. Noise depends on the
    /// position alone, so that the same tokens follow.
    pub async fn resume(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        engine.drain().await?;
        self.run.restart();
        for text in &mut self.texts {
            let sequence = text.request.sequence;
            engine.check_tokens(sequence, &text.request.prompt)?;
            engine.clear(sequence)?;
            engine.set_seen(sequence, &[])?;
            text.given = text.prompt_length() + text.tokens.len();
            text.resumed = true;
            text.awaited = None;
        }
        Ok(())
    }

    fn end(&mut self, request: usize, reason: EndReason) {
        let text = &mut self.texts[request];
        if text.ended.is_none() {
            text.ended = Some(reason);
            self.events.push_back(Event::End { request, reason });
        }
    }

    /// Lets those texts go on whose beginning has been read meanwhile.
    fn share(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        for index in 0..self.texts.len() {
            let Some((earlier, length)) = self.texts[index].awaited else {
                continue;
            };
            let earlier = &self.texts[earlier];
            let held = engine.sequence(earlier.request.sequence)?.tokens.len();
            if held < length && earlier.ended.is_none() {
                continue;
            }
            let text = &mut self.texts[index];
            text.awaited = None;
            let (prompt, stream) = (&text.request.prompt, &mut self.run.streams[index]);
            stream.skip_cached(engine, prompt, |_, index| index + 1 < prompt.len())?;
            engine.set_seen(stream.sequence, &prompt[..stream.next])?;
        }
        Ok(())
    }

    /// Submits the next batch: known tokens first, else one token of every running answer.
    async fn queue(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        self.share(engine)?;
        let context = engine.info().context;
        let Self { texts, run, .. } = self;
        let known = |text: &Text, index: usize| index < text.given;
        let mut nexts = texts.iter().zip(&run.streams);
        let any_known = nexts
            .any(|(text, stream)| known(text, stream.next) && text.wants(stream.next, context));
        for (request, text) in texts.iter().enumerate() {
            loop {
                let index = run.streams[request].next;
                if !text.wants(index, context) || known(text, index) != any_known {
                    break;
                }
                let token = text
                    .given_token(index)
                    .map_or(TokenSource::Sampled, TokenSource::Id);
                if !run.push(engine, request, token, text.head(index))? || !any_known {
                    break;
                }
            }
        }
        run.submit(engine).await
    }

    /// Turns rows that came back into events.
    fn accept(&mut self, engine: &mut Engine, rows: Vec<ReadRow>) {
        let context = engine.info().context;
        let mut known = false;
        for done in rows {
            let (request, index) = (done.stream, done.index);
            let text = &mut self.texts[request];
            let length = text.prompt_length();
            let again = text.again(index);
            if text.ended.is_some() && !again {
                // Queued before the end was known; the cache forgets it.
                continue;
            }
            known |= index < text.given;
            done.cache(engine, length);
            let ReadRow {
                record, captured, ..
            } = done;
            if self.run.capture.residual && !again {
                self.captured.push(CapturedRow {
                    request,
                    index,
                    residual: captured.residual,
                });
            }
            let prediction = record.prediction.clone();
            if index >= length.max(text.reported) {
                text.reported = index + 1;
                self.events.push_back(Event::Read { request, record });
            }
            if index + 1 < text.given || (again && text.ended.is_some()) {
                continue;
            }
            let Some(prediction) = prediction else {
                if index + 1 == text.longest() {
                    self.end(request, EndReason::MaxTokens);
                }
                continue;
            };
            if text.request.end_tokens.contains(&prediction.chosen) {
                self.end(request, EndReason::EndToken);
                continue;
            }
            text.tokens.push(prediction.chosen);
            self.events.push_back(Event::Token {
                request,
                position: Position(index as u32 + 1),
                prediction,
            });
            if index + 1 >= context {
                self.end(request, EndReason::ContextFull);
            }
        }
        if known {
            let given = self.texts.iter().map(|text| text.given);
            let streams = given.clone().zip(&self.run.streams);
            let done = streams.map(|(given, stream)| stream.next.min(given)).sum();
            let total = given.sum();
            self.events.push_front(Event::Prompt { done, total });
        }
    }
}

/// How many tokens of its prompt, but the last, `index` has in common with the prompt of `earlier`, and under plans that do
/// the same to them.
fn common(texts: &[Text], streams: &[Stream], earlier: usize, index: usize) -> usize {
    let fingerprint = |text: usize, at| {
        let plan = &streams[text].plans[0].1;
        plan.effect(at, texts[text].prompt_length()).fingerprint()
    };
    let [one, other] = [earlier, index].map(|text| &texts[text].request.prompt);
    let alike = one.iter().zip(&other[..other.len() - 1]).enumerate();
    alike
        .take_while(|(at, (a, b))| a == b && fingerprint(earlier, *at) == fingerprint(index, *at))
        .count()
}
