//! One conversation answered side by side, unsteered and steered, and what the unsteered model then
//! makes of each answer. Driven step by step, so that whoever shows it can pause, steer and stop.

use crate::calibration::{Calibration, ReadingBlock};
use crate::conversation::{Part, TokenisedConversation};
use crate::reread::logprobs;
use std::collections::VecDeque;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::generate::{Answer, EndReason, Event, GenerateRequest, Generation, Segment};
use trimtab_engine::reading::Reading;
use trimtab_engine::{
    Engine, EngineError, Position, Prediction, Sampler, SequenceIndex, SteeringPlan, TokenId,
    TokenRecord,
};

/// Sequences that an engine needs for columns.
pub const SEQUENCES: usize = 3;
/// Where the unsteered model reads steered answers; the columns' own caches stay as they are.
pub const REREADING: SequenceIndex = SequenceIndex(2);

/// Each kind keeps a cache of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Unsteered,
    Steered,
}

impl ColumnKind {
    pub const fn sequence(self) -> SequenceIndex {
        match self {
            Self::Unsteered => SequenceIndex(0),
            Self::Steered => SequenceIndex(1),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ColumnRequest {
    pub kind: ColumnKind,
    /// Up to where the answer begins.
    pub conversation: TokenisedConversation,
    /// Not looked at in an unsteered column.
    pub plan: SteeringPlan,
}

/// What all columns of a run share.
#[derive(Clone, Debug)]
pub struct ColumnSettings {
    pub sampler: Sampler,
    pub max_tokens: usize,
    pub end_tokens: Vec<TokenId>,
    /// In the order of the directions that the engine reads.
    pub calibrations: Vec<Option<Calibration>>,
}

/// What happened; `column` is the index into the requests.
#[derive(Clone, Debug)]
pub enum ColumnEvent {
    Prompt {
        done: usize,
        total: usize,
    },
    /// The next token of an answer was chosen.
    Token {
        column: usize,
        prediction: Prediction,
    },
    /// Readings of one answer token inside the run; `from` counts from the answer's first token.
    Readings {
        column: usize,
        from: usize,
        block: ReadingBlock,
    },
    /// Tokens from this position on run under another plan.
    Segment {
        column: usize,
        from: Position,
    },
    End {
        column: usize,
        reason: EndReason,
        /// Tokens of the answer.
        tokens: usize,
    },
    Rereading {
        column: usize,
        done: usize,
        total: usize,
    },
}

/// A finished column.
#[derive(Clone, Debug)]
pub struct ColumnOutcome {
    pub kind: ColumnKind,
    /// Prompt and answer, with what each token is part of.
    pub conversation: TokenisedConversation,
    /// Each token's prediction, `None` for the first: by this run where it scored the token, else by
    /// the re-reading (prompt tokens of a steered column).
    pub expected: Vec<Option<Expected>>,
    /// Inside the run, for all tokens.
    pub in_run: ReadingBlock,
    /// By the unsteered model, for all tokens. Equal to `in_run` for an unsteered column.
    pub reread: ReadingBlock,
    /// Log-probability of each token under the unsteered model; NaN for the first, and for those that it did not read.
    pub reread_logprobs: Vec<f32>,
    pub segments: Vec<Segment>,
    pub reason: EndReason,
}

/// What was thought of a token before it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    pub logprob: f32,
    /// The most likely tokens, best first, with their log-probabilities.
    pub alternatives: Vec<(TokenId, f32)>,
}

#[derive(Debug)]
struct Column {
    request: ColumnRequest,
    answered: usize,
}

/// A run under way: the unsteered prompt is read and scored, all answers are written together, then
/// each is read by the unsteered model.
#[derive(Debug)]
pub struct ColumnRun {
    columns: Vec<Column>,
    settings: ColumnSettings,
    events: VecDeque<ColumnEvent>,
    stopped: bool,
    /// What has been re-read is enough.
    reread_enough: bool,
    stage: Stage,
    answers: VecDeque<Answer>,
    outcomes: Vec<ColumnOutcome>,
}

#[derive(Debug)]
enum Stage {
    /// Nothing has been done.
    New,
    /// The unsteered column's prompt, whose own surprise is shown too.
    Prompt(Reading),
    Answers(Box<Generation>),
    Rereading(Reading),
    Done,
}

impl ColumnRun {
    /// Does nothing yet. The engine must hold [`SEQUENCES`] sequences.
    pub fn new(requests: Vec<ColumnRequest>, settings: ColumnSettings) -> Self {
        let columns = requests
            .into_iter()
            .map(|mut request| {
                if request.kind == ColumnKind::Unsteered {
                    request.plan = SteeringPlan::default();
                }
                Column {
                    request,
                    answered: 0,
                }
            })
            .collect();
        Self {
            columns,
            settings,
            events: VecDeque::new(),
            stopped: false,
            reread_enough: false,
            stage: Stage::New,
            answers: VecDeque::new(),
            outcomes: Vec::new(),
        }
    }

    /// Ends every answer after what has been reported; the answers are still re-read. While they are, or when it is
    /// called once more, it ends that too: tokens that were not reached have no re-reading.
    pub fn stop(&mut self) {
        self.reread_enough |= self.stopped || matches!(self.stage, Stage::Rereading(_));
        self.stopped = true;
        if let Stage::Answers(generation) = &mut self.stage {
            (0..self.columns.len()).for_each(|column| generation.stop(column));
        }
    }

    /// Gives the steered columns another plan from the next token that is not yet queued. True where
    /// that opens a segment (which its event announces); before the answers it replaces the first plan.
    pub fn set_plan(&mut self, engine: &Engine, plan: &SteeringPlan) -> Result<bool, EngineError> {
        let opens = matches!(self.stage, Stage::Answers(_));
        for (index, column) in self.columns.iter_mut().enumerate() {
            if column.request.kind == ColumnKind::Unsteered {
                continue;
            }
            match &mut self.stage {
                Stage::New | Stage::Prompt(_) => column.request.plan = plan.clone(),
                Stage::Answers(generation) => generation.set_plan(engine, index, plan.clone())?,
                Stage::Rereading(_) | Stage::Done => {}
            }
        }
        Ok(opens)
    }

    /// Advances until something happened; `None` when everything is written and read.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<ColumnEvent>, EngineError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if matches!(self.stage, Stage::Done) {
                return Ok(None);
            }
            self.advance(engine).await?;
        }
    }

    /// The columns, in the order of the requests, once [`Self::next`] has returned `None`.
    pub fn finish(self) -> Vec<ColumnOutcome> {
        self.outcomes
    }

    /// Goes on with an engine that has seen nothing of this run, with the token after the last that was reported.
    pub async fn resume(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        match &mut self.stage {
            Stage::New | Stage::Done => Ok(()),
            Stage::Prompt(reading) | Stage::Rereading(reading) => {
                reading.restart();
                Ok(())
            }
            Stage::Answers(generation) => generation.resume(engine).await,
        }
    }

    /// Where it fails, the stage stays as it was, so that it can be resumed.
    async fn advance(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        let mut stage = std::mem::replace(&mut self.stage, Stage::Done);
        let next = self.step(&mut stage, engine).await;
        let (next, outcome) = match next {
            Ok(next) => (next, Ok(())),
            Err(error) => (None, Err(error)),
        };
        self.stage = next.unwrap_or(stage);
        outcome
    }

    /// One step of `stage`; the stage that follows, if it is another.
    async fn step(
        &mut self,
        stage: &mut Stage,
        engine: &mut Engine,
    ) -> Result<Option<Stage>, EngineError> {
        match stage {
            Stage::New => self.begin(engine).await.map(Some),
            Stage::Prompt(reading) => {
                if self.stopped || !reading.next(engine).await? {
                    return self.generate(engine).await.map(Some);
                }
                let (done, total) = (reading.done(), self.prompt_total());
                self.events.push_back(ColumnEvent::Prompt { done, total });
                Ok(None)
            }
            Stage::Answers(generation) => {
                if let Some(event) = generation.next(engine).await? {
                    self.translate(event);
                    return Ok(None);
                }
                self.answers = generation.finish(engine).await?.into();
                self.reread_next(engine).await.map(Some)
            }
            Stage::Rereading(reading) => {
                let empty = self
                    .answers
                    .front()
                    .is_none_or(|answer| answer.tokens.is_empty());
                if empty || self.reread_enough || !reading.next(engine).await? {
                    let records = reading.records(engine);
                    self.conclude(&records);
                    return self.reread_next(engine).await.map(Some);
                }
                let (done, total) = (reading.done(), reading.total());
                self.events.push_back(ColumnEvent::Rereading {
                    column: self.outcomes.len(),
                    done,
                    total,
                });
                Ok(None)
            }
            Stage::Done => Ok(None),
        }
    }

    fn prompt_total(&self) -> usize {
        self.columns
            .iter()
            .map(|column| column.request.conversation.tokens.len())
            .sum()
    }

    async fn begin(&mut self, engine: &mut Engine) -> Result<Stage, EngineError> {
        let unsteered = self
            .columns
            .iter()
            .find(|column| column.request.kind == ColumnKind::Unsteered);
        let Some(column) = unsteered else {
            return self.generate(engine).await;
        };
        let conversation = &column.request.conversation;
        let reading = start_reading(engine, ColumnKind::Unsteered.sequence(), conversation).await?;
        Ok(Stage::Prompt(reading))
    }

    async fn generate(&mut self, engine: &mut Engine) -> Result<Stage, EngineError> {
        let requests = self.columns.iter().map(|column| GenerateRequest {
            sequence: column.request.kind.sequence(),
            prompt: column.request.conversation.tokens.clone(),
            plan: column.request.plan.clone(),
            sampler: self.settings.sampler,
            max_tokens: self.settings.max_tokens,
            end_tokens: self.settings.end_tokens.clone(),
        });
        let mut generation = Generation::start(engine, requests.collect()).await?;
        if self.stopped {
            (0..self.columns.len()).for_each(|column| generation.stop(column));
        }
        Ok(Stage::Answers(Box::new(generation)))
    }

    /// Begins to re-read the next answer; of an empty one nothing is read, its prompt included. An unsteered one lies in its own cache already, but for the
    /// last token of a stopped answer.
    async fn reread_next(&mut self, engine: &mut Engine) -> Result<Stage, EngineError> {
        let Some(answer) = self.answers.front() else {
            return Ok(Stage::Done);
        };
        let request = &self.columns[self.outcomes.len()].request;
        let conversation = request.conversation.clone().answered(&answer.tokens);
        let sequence = match request.kind {
            ColumnKind::Unsteered => request.kind.sequence(),
            ColumnKind::Steered => REREADING,
        };
        Ok(Stage::Rereading(
            start_reading(engine, sequence, &conversation).await?,
        ))
    }

    /// Puts the column together whose answer has just been re-read.
    fn conclude(&mut self, reread: &[TokenRecord]) {
        let Some(answer) = self.answers.pop_front() else {
            return;
        };
        let request = &self.columns[self.outcomes.len()].request;
        let conversation = request.conversation.clone().answered(&answer.tokens);
        let block = |records| self.settings.block(records, &conversation.parts);
        let own = match request.kind {
            ColumnKind::Unsteered => reread,
            ColumnKind::Steered => &answer.records,
        };
        let expected = |(index, &token): (usize, &TokenId)| {
            let before = index.checked_sub(1)?;
            let of = |records: &[TokenRecord]| expectation(records.get(before)?, token);
            of(own).or_else(|| of(reread))
        };
        let mut reread_logprobs = logprobs(reread);
        reread_logprobs.resize(conversation.tokens.len(), f32::NAN);
        self.outcomes.push(ColumnOutcome {
            kind: request.kind,
            expected: conversation
                .tokens
                .iter()
                .enumerate()
                .map(expected)
                .collect(),
            in_run: block(own),
            reread: block(reread),
            reread_logprobs,
            segments: answer.segments,
            reason: answer.reason,
            conversation,
        });
    }

    fn translate(&mut self, event: Event) {
        let answer_index = |column: usize, position: Position| {
            let start = self.columns[column].request.conversation.prompt_length;
            (position.0 as usize).saturating_sub(start)
        };
        let event = match event {
            Event::Prompt { done, total } => ColumnEvent::Prompt { done, total },
            Event::Token {
                request: column,
                prediction,
                ..
            } => {
                self.columns[column].answered += 1;
                ColumnEvent::Token { column, prediction }
            }
            Event::Read {
                request: column,
                record,
            } => ColumnEvent::Readings {
                column,
                from: answer_index(column, record.position),
                block: self.settings.block(&[record], &[Part::Response]),
            },
            Event::Segment {
                request: column,
                from,
            } => ColumnEvent::Segment { column, from },
            Event::End {
                request: column,
                reason,
            } => ColumnEvent::End {
                column,
                reason,
                tokens: self.columns[column].answered,
            },
        };
        self.events.push_back(event);
    }
}

impl ColumnSettings {
    /// Calibrated readings of `parts.len()` tokens; NaN for those that have no record.
    fn block(&self, records: &[TokenRecord], parts: &[Part]) -> ReadingBlock {
        let calibrations: Vec<_> = self.calibrations.iter().map(Option::as_ref).collect();
        ReadingBlock::calibrated(records, parts, &calibrations).padded(parts.len())
    }
}

async fn start_reading(
    engine: &mut Engine,
    sequence: SequenceIndex,
    conversation: &TokenisedConversation,
) -> Result<Reading, EngineError> {
    let request = ReadRequest {
        sequence,
        tokens: &conversation.tokens,
        prompt_length: conversation.prompt_length,
        plan: &SteeringPlan::default(),
        score: Scoring::Everything,
        capture: false,
    };
    Reading::start(engine, &request).await
}

/// What the record before a token says about it; `None` where it did not score that token.
pub(crate) fn expectation(before: &TokenRecord, token: TokenId) -> Option<Expected> {
    let prediction = before.prediction.as_ref()?;
    let logprob = if prediction.chosen == token {
        prediction.chosen_logprob
    } else {
        prediction.target_logprob
    };
    (!logprob.is_nan()).then(|| Expected {
        logprob,
        alternatives: prediction.alternatives.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trimtab_engine::Readings;

    fn record(prediction: Option<Prediction>) -> TokenRecord {
        TokenRecord {
            sequence: SequenceIndex(0),
            position: Position(1),
            token: TokenId(5),
            readings: Readings {
                values: vec![1.0; 2],
                layer_rows: 2,
            },
            prediction,
        }
    }

    fn prediction(chosen: u32, target_logprob: f32) -> Prediction {
        Prediction {
            chosen: TokenId(chosen),
            chosen_logprob: -0.5,
            target_logprob,
            divergence: None,
            alternatives: [(TokenId(chosen), -0.5); trimtab_engine::record::ALTERNATIVES],
        }
    }

    #[test]
    fn only_a_token_that_was_scored_has_an_expectation() {
        let logprob = |record: &TokenRecord, token| {
            expectation(record, TokenId(token)).map(|expected| expected.logprob)
        };
        assert_eq!(logprob(&record(None), 7), None);
        assert_eq!(
            logprob(&record(Some(prediction(7, f32::NAN))), 7),
            Some(-0.5)
        );
        assert_eq!(logprob(&record(Some(prediction(7, f32::NAN))), 8), None);
        assert_eq!(logprob(&record(Some(prediction(7, -3.0))), 8), Some(-3.0));
    }

    #[test]
    fn a_token_that_was_never_read_has_no_readings() {
        let settings = ColumnSettings {
            sampler: Sampler::GREEDY,
            max_tokens: 1,
            end_tokens: Vec::new(),
            calibrations: vec![Some(crate::calibration::tests::sample(2))],
        };
        let block = settings.block(&[record(None)], &[Part::Response, Part::Response]);
        assert_eq!(block.tokens, 2);
        assert!(block.values[..2].iter().all(|value| value.is_finite()));
        assert!(block.values[2..].iter().all(|value| value.is_nan()) && block.values.len() == 4);
    }
}
