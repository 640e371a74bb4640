//! A run of columns: the unsteered prompt is read and scored, all answers are written together, then each is read by the
//! unsteered model. Where the device is lost, the run goes on with another one.

use crate::failure::Failure;
use crate::generation::{
    ColumnKind, ColumnResult, GenerateEvent, GenerateRequest, PlanSegment, REREADING,
};
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::{Asked, NewPlan, Pace, Watch};
use std::rc::Rc;
use trimtab_checkpoint::Pieces;
use trimtab_engine::engine::{LoadProgress, ReadRequest, Scoring};
use trimtab_engine::generate::{self, Answer, Begun, Generation, Segment};
use trimtab_engine::reading::Reading;
use trimtab_engine::{
    Backend, EngineError, Position, SequenceIndex, SteeringPlan, TokenId, TokenRecord,
};
use trimtab_persona::calibration::Calibration;
use trimtab_persona::conversation::{Part, TokenisedConversation};
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::reading_block::ReadingBlock;
use trimtab_persona::recipe::PlanChange;
use trimtab_persona::reread::{Expected, expectation, logprobs};

pub async fn run(
    session: &mut Session,
    mut request: GenerateRequest,
    watch: &mut dyn Watch,
) -> Result<Vec<ColumnResult>, Failure> {
    // The text side is shared while the engine works.
    let chat = Rc::clone(&session.chat);
    let mut columns = Vec::with_capacity(request.columns.len());
    for column in std::mem::take(&mut request.columns) {
        let steered = column.column == ColumnKind::Steered;
        let conversation = match &column.ids {
            Some(ids) => TokenisedConversation::of_ids(&ids.0),
            None => chat.prompt(&column.messages)?,
        };
        let begun = column.begun.unwrap_or_default();
        let tokens: Vec<TokenId> = begun.ids.into_iter().map(TokenId).collect();
        let mut pieces = chat.tokenizer.piece_stream();
        for token in conversation.tokens.iter().chain(&tokens) {
            pieces.push(token.0);
        }
        let resolve = |plan: &[NamedTerm]| {
            let resolved = session.plan(plan)?;
            Ok::<_, Failure>(if steered {
                resolved
            } else {
                SteeringPlan::default()
            })
        };
        let plan = resolve(&column.plan)?;
        let mut segments = vec![PlanSegment {
            from_token: 0,
            plan: column.plan,
        }];
        let mut changes = Vec::with_capacity(begun.changes.len());
        for PlanChange { from, plan } in begun.changes {
            let from_token = conversation
                .prompt_length
                .saturating_add_signed(from as isize);
            changes.push(Segment {
                from: Position(from_token as u32),
                plan: resolve(&plan)?,
            });
            segments.push(PlanSegment { from_token, plan });
        }
        columns.push(Column {
            kind: column.column,
            plan,
            segments,
            conversation,
            begun: Begun { tokens, changes },
            pieces,
            answered: 0,
            first: None,
        });
    }
    let run = Run {
        calibrations: session.calibrations(),
        pace: Pace::new(watch.seconds(), 0),
        session,
        columns,
        watch,
        losses: 0,
        stopped: false,
        reread_enough: false,
        readings: request.readings == Some(true),
    };
    run.all(&request).await
}

struct Column<'a> {
    kind: ColumnKind,
    /// Up to where the answer begins.
    conversation: TokenisedConversation,
    begun: Begun,
    plan: SteeringPlan,
    segments: Vec<PlanSegment>,
    pieces: Pieces<'a>,
    /// Tokens of the answer so far.
    answered: usize,
    /// When its first token came.
    first: Option<f64>,
}

struct Run<'a> {
    session: &'a mut Session,
    columns: Vec<Column<'a>>,
    /// In the order of the directions that the engine reads.
    calibrations: Vec<Option<Calibration>>,
    watch: &'a mut dyn Watch,
    /// Pace of the prompts' reading.
    pace: Pace,
    losses: usize,
    stopped: bool,
    /// Whether what has been re-read is enough.
    reread_enough: bool,
    /// Whether results have readings that are not calibrated, too.
    readings: bool,
}

impl Run<'_> {
    async fn all(mut self, request: &GenerateRequest) -> Result<Vec<ColumnResult>, Failure> {
        self.read_prompt().await?;
        let end_tokens = self.session.end_tokens();
        let requests = self.columns.iter().map(|column| generate::GenerateRequest {
            sequence: column.kind.sequence(),
            prompt: column.conversation.tokens.clone(),
            plan: column.plan.clone(),
            sampler: request.sampler,
            max_tokens: request.max_tokens,
            end_tokens: end_tokens.clone(),
        });
        let answers = self.write(requests.collect()).await?;
        let mut results = Vec::with_capacity(answers.len());
        for (column, answer) in answers.into_iter().enumerate() {
            let result = match request.reread {
                Some(false) => ColumnResult {
                    reread: ReadingBlock::default(),
                    reread_logprob: Vec::new(),
                    ..self.conclude(column, answer, &[])
                },
                _ => {
                    let reread = self.reread(column, &answer).await?;
                    self.conclude(column, answer, &reread)
                }
            };
            results.push(result);
        }
        Ok(results)
    }

    fn tell(&mut self, event: GenerateEvent) {
        self.watch.tell(Event::Generate(event));
    }

    /// Finds the model another place, if it was lost: a new graphics device the first time, the processor where there is
    /// none, where it computes wrongly or where that is lost, too.
    async fn recover(&mut self, error: EngineError) -> Result<(), Failure> {
        let EngineError::DeviceLost { .. } = error else {
            return Err(error.into());
        };
        self.losses += 1;
        let watch = &mut *self.watch;
        let mut progress = |load: LoadProgress| {
            watch.tell(Event::Generate(GenerateEvent::Recovering {
                bytes_done: load.bytes_done,
                bytes_total: load.bytes_total,
            }));
        };
        let again = self.losses > 1
            || self
                .session
                .reload(Backend::Gpu, &mut progress)
                .await
                .is_err();
        if again {
            self.session.reload(Backend::Cpu, &mut progress).await?;
        }
        self.pace = Pace::new(self.watch.seconds(), 0);
        let model = self.session.card();
        self.tell(GenerateEvent::Recovered { model });
        Ok(())
    }

    async fn start_reading(
        &mut self,
        sequence: SequenceIndex,
        conversation: &TokenisedConversation,
    ) -> Result<Reading, Failure> {
        let request = ReadRequest {
            sequence,
            tokens: &conversation.tokens,
            prompt_length: conversation.prompt_length,
            plan: &SteeringPlan::default(),
            score: Scoring::Everything,
            capture: false,
        };
        loop {
            match Reading::start(&mut self.session.engine, &request).await {
                Ok(reading) => return Ok(reading),
                Err(error) => self.recover(error).await?,
            }
        }
    }

    /// The next batch of a reading; false when all is read.
    async fn read_on(&mut self, reading: &mut Reading) -> Result<bool, Failure> {
        loop {
            match reading.next(&mut self.session.engine).await {
                Ok(more) => return Ok(more),
                Err(error) => {
                    self.recover(error).await?;
                    reading.restart();
                }
            }
        }
    }

    /// Reads the unsteered column's prompt, whose own surprise is shown, too.
    async fn read_prompt(&mut self) -> Result<(), Failure> {
        let unsteered = self
            .columns
            .iter()
            .find(|column| column.kind == ColumnKind::Unsteered);
        let Some(column) = unsteered else {
            return Ok(());
        };
        let conversation = column.conversation.clone();
        let sequence = ColumnKind::Unsteered.sequence();
        let mut reading = self.start_reading(sequence, &conversation).await?;
        let lengths = self.columns.iter();
        let total = lengths.map(|column| column.conversation.tokens.len()).sum();
        while !self.stopped && self.read_on(&mut reading).await? {
            self.tell_prompt(reading.done(), total);
            let asked = self.watch.pause().await;
            self.stopped |= asked.stop;
            if let Some((terms, plan)) = self.resolve(asked.plan) {
                self.steered(|column| {
                    column.plan = plan.clone();
                    column.segments[0].plan.clone_from(&terms);
                });
            }
        }
        Ok(())
    }

    fn steered(&mut self, change: impl FnMut(&mut Column<'_>)) {
        let steered = |column: &&mut Column<'_>| column.kind == ColumnKind::Steered;
        self.columns.iter_mut().filter(steered).for_each(change);
    }

    fn tell_prompt(&mut self, done: usize, total: usize) {
        let seconds_left = self.pace.seconds_left(self.watch.seconds(), done, total);
        self.tell(GenerateEvent::Prompt {
            done,
            total,
            seconds_left,
        });
    }

    async fn write(
        &mut self,
        requests: Vec<generate::GenerateRequest>,
    ) -> Result<Vec<Answer>, Failure> {
        let mut generation = loop {
            let begun = self.columns.iter().map(|column| column.begun.clone());
            let begun = begun.collect();
            match Generation::start_after(&mut self.session.engine, requests.clone(), begun).await {
                Ok(generation) => break generation,
                Err(error) => self.recover(error).await?,
            }
        };
        if self.stopped {
            (0..requests.len()).for_each(|column| generation.stop(column));
        }
        loop {
            let engine = &mut self.session.engine;
            let lost = match generation.next(engine).await {
                Ok(Some(event)) => {
                    self.tell_event(event);
                    let asked = self.watch.pause().await;
                    self.ask(&mut generation, asked)?;
                    continue;
                }
                Ok(None) => match generation.finish(engine).await {
                    Ok(answers) => return Ok(answers),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            self.recover(lost).await?;
            generation.resume(&mut self.session.engine).await?;
        }
    }

    /// Does what was asked for while answers are written.
    fn ask(&mut self, generation: &mut Generation, asked: Asked) -> Result<(), Failure> {
        if asked.stop {
            self.reread_enough |= self.stopped;
            self.stopped = true;
            (0..self.columns.len()).for_each(|column| generation.stop(column));
        }
        let Some((terms, plan)) = self.resolve(asked.plan) else {
            return Ok(());
        };
        for column in 0..self.columns.len() {
            if self.columns[column].kind == ColumnKind::Steered {
                let Position(from) =
                    generation.set_plan(&self.session.engine, column, plan.clone())?;
                self.open_segment(column, from as usize, terms.clone());
            }
        }
        Ok(())
    }

    /// The plan as the engine has it; one that cannot be is refused, and the run goes on without it.
    fn resolve(&self, asked: Option<NewPlan>) -> Option<(Vec<NamedTerm>, SteeringPlan)> {
        let NewPlan { terms, answer } = asked?;
        match self.session.plan(&terms) {
            Ok(plan) => {
                answer(Ok(()));
                Some((terms, plan))
            }
            Err(failure) => {
                answer(Err(failure));
                None
            }
        }
    }

    fn open_segment(&mut self, column: usize, from: usize, plan: Vec<NamedTerm>) {
        let state = &mut self.columns[column];
        state.segments.retain(|earlier| earlier.from_token < from);
        state.segments.push(PlanSegment {
            from_token: from,
            plan: plan.clone(),
        });
        let from_token = from.saturating_sub(state.conversation.prompt_length);
        self.tell(GenerateEvent::Segment {
            column,
            from_token,
            plan,
        });
    }

    fn tell_event(&mut self, event: generate::Event) {
        match event {
            generate::Event::Prompt { done, total } => self.tell_prompt(done, total),
            generate::Event::Token {
                request: column,
                prediction,
                ..
            } => {
                let now = self.watch.seconds();
                let state = &mut self.columns[column];
                state.answered += 1;
                state.first.get_or_insert(now);
                let text = state.pieces.push(prediction.chosen.0);
                let expected = Expected {
                    logprob: prediction.chosen_logprob,
                    alternatives: prediction.alternatives.to_vec(),
                };
                let part = Part::Response;
                let token = self
                    .session
                    .token(prediction.chosen, text, part, Some(&expected));
                self.tell(GenerateEvent::Token { column, token });
            }
            generate::Event::Read {
                request: column,
                record,
            } => {
                let start = self.columns[column].conversation.prompt_length;
                let from = (record.position.0 as usize).saturating_sub(start);
                let block = block(&self.calibrations, &[record], &[Part::Response]);
                self.tell(GenerateEvent::Readings {
                    column,
                    from,
                    block,
                });
            }
            generate::Event::End {
                request: column,
                reason,
            } => {
                let Column {
                    answered, first, ..
                } = self.columns[column];
                let seconds = first.map_or(0.0, |first| self.watch.seconds() - first);
                let tokens_per_second = if answered > 1 && seconds > 0.0 {
                    (answered - 1) as f64 / seconds
                } else {
                    f64::NAN
                };
                self.tell(GenerateEvent::End {
                    column,
                    reason,
                    tokens_per_second,
                });
            }
        }
    }

    /// Reads an answer by the unsteered model; of an empty one nothing is read, its prompt included. An unsteered one
    /// lies in its own cache already, but for the last token of a stopped answer.
    async fn reread(
        &mut self,
        column: usize,
        answer: &Answer,
    ) -> Result<Vec<TokenRecord>, Failure> {
        let Column {
            kind, conversation, ..
        } = &self.columns[column];
        let sequence = match kind {
            ColumnKind::Unsteered => kind.sequence(),
            ColumnKind::Steered if answer.tokens.is_empty() => return Ok(Vec::new()),
            ColumnKind::Steered => REREADING,
        };
        let conversation = conversation.clone().answered(&answer.tokens);
        let mut reading = self.start_reading(sequence, &conversation).await?;
        while !(answer.tokens.is_empty() || self.reread_enough)
            && self.read_on(&mut reading).await?
        {
            let (done, total) = (reading.done(), reading.total());
            self.tell(GenerateEvent::RereadProgress {
                column,
                done,
                total,
            });
            self.reread_enough |= self.watch.pause().await.stop;
        }
        Ok(reading.records(&self.session.engine))
    }

    fn conclude(&mut self, column: usize, answer: Answer, reread: &[TokenRecord]) -> ColumnResult {
        let state = &mut self.columns[column];
        let conversation = state.conversation.clone().answered(&answer.tokens);
        let own = match state.kind {
            ColumnKind::Unsteered => reread,
            ColumnKind::Steered => &answer.records,
        };
        let expected = |(index, &token): (usize, &TokenId)| {
            let before = index.checked_sub(1)?;
            let of = |records: &[TokenRecord]| expectation(records.get(before)?, token);
            of(own).or_else(|| of(reread))
        };
        let expected: Vec<Option<Expected>> = conversation
            .tokens
            .iter()
            .enumerate()
            .map(expected)
            .collect();
        let tokens = conversation.tokens.len();
        let mut reread_logprob = logprobs(reread);
        reread_logprob.resize(tokens, f32::NAN);
        let session = &*self.session;
        let answered = &reread_logprob[conversation.prompt_length..];
        let traits = self.calibrations.len();
        ColumnResult {
            column: state.kind,
            text: session.chat.decode(&answer.tokens),
            tokens: session.tokens(&conversation, &expected),
            answer_start: conversation.prompt_length,
            reason: answer.reason,
            in_run: block(&self.calibrations, own, &conversation.parts),
            readings: self
                .readings
                .then(|| ReadingBlock::plain(own, traits).padded(tokens)),
            reread: block(&self.calibrations, reread, &conversation.parts),
            coherence: session.coherence(&answer.tokens, answered),
            segments: std::mem::take(&mut state.segments),
            reread_logprob,
        }
    }
}

/// Calibrated readings of `parts.len()` tokens; NaN for those that have no record.
fn block(
    calibrations: &[Option<Calibration>],
    records: &[TokenRecord],
    parts: &[Part],
) -> ReadingBlock {
    let calibrations: Vec<_> = calibrations.iter().map(Option::as_ref).collect();
    ReadingBlock::calibrated(records, parts, &calibrations).padded(parts.len())
}
