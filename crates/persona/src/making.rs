//! Writing and judging a contrast set, step by step, so that whoever shows it can pause, stop, keep what is there and go on
//! later. First all answers are written, many side by side; then each is measured by the unsteered model.

use crate::activations::{AverageSums, Averages, read_averages};
use crate::contrast::MIN_RESPONSE_TOKENS;
use crate::contrast_record::{ContrastRecord, RecordError, WrittenAnswer};
use crate::conversation::{ChatText, TokenisedConversation, message, numbers};
use crate::extract::Side;
use crate::neutral::{NeutralAnswer, QUESTIONS};
use crate::reread::logprobs;
use std::collections::{BTreeMap, VecDeque};
use trimtab_checkpoint::ChatError;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::reading::Reading;
use trimtab_engine::{Backend, Engine, EngineError, SequenceIndex, SteeringPlan, TokenId};

/// Most answers written side by side: more gain little and hold results back.
pub const MAX_AT_ONCE: usize = 16;
/// Where an answer is read under the prompt that it was written to.
const READING: SequenceIndex = SequenceIndex(0);

#[derive(Debug, thiserror::Error)]
pub enum MakingError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum MakingEvent {
    /// Response `at` has these tokens so far.
    Growing { at: usize, tokens: Vec<TokenId> },
    /// Response `at` is written; it is in the record.
    Written { at: usize },
    /// Response `at` has its evidence.
    Judged { at: usize },
    /// Something else got on.
    Working,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Writing,
    Judging,
}

/// How far a phase is: answers written, or readings done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MakingProgress {
    pub phase: Phase,
    pub done: usize,
    pub total: usize,
    /// Of `done`, what was there before this run began: no measure of its speed.
    pub before: usize,
}

/// An answer of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Response(usize),
    Baseline(usize),
    Neutral(usize),
}

/// A reading of one answer.
#[derive(Clone, Copy, Debug)]
enum Task {
    /// Of a neutral answer whose likelihood is not known, because it came from a file.
    Likelihood(usize),
    /// Of an answer to `question` under one side of instruction pair `pair`.
    Evidence {
        question: usize,
        pair: usize,
        side: Side,
        place: Place,
    },
    /// Of a response under its own prompt, for its residual stream.
    Averages(usize),
}

#[derive(Debug)]
enum Stage {
    Choosing,
    Writing(Batch),
    Judging {
        tasks: VecDeque<Task>,
        /// The task in front, once begun, and the length of its prompt.
        reading: Option<(Reading, usize)>,
        /// Log-likelihoods under the positive instruction of the pair at hand.
        positive: BTreeMap<Place, f64>,
    },
    Done,
}

#[derive(Debug)]
struct Batch {
    places: Vec<Place>,
    generation: Box<Generation>,
    tokens: Vec<Vec<TokenId>>,
    /// Sums over the tokens.
    logprobs: Vec<f64>,
    /// Of responses, where the residual stream is captured as they are written.
    sums: Vec<Option<AverageSums>>,
}

/// See the module. One engine must be given to every call, or [`Self::restart`] called in between.
#[derive(Debug)]
pub struct Making {
    record: ContrastRecord,
    averages: Vec<Option<Averages>>,
    stage: Stage,
    events: VecDeque<MakingEvent>,
    stopped: bool,
    progress: MakingProgress,
}

impl Making {
    /// Goes on with `record`, which may be new. `averages` may hold, by response, what was read of this very record
    /// before.
    pub fn new(record: ContrastRecord, averages: Vec<Option<Averages>>) -> Self {
        let mut averages = averages;
        averages.resize(record.responses.len(), None);
        let places = places(&record);
        let written = places
            .iter()
            .filter(|place| is_written(&record, **place))
            .count();
        Self {
            averages,
            stage: Stage::Choosing,
            events: VecDeque::new(),
            stopped: false,
            progress: MakingProgress {
                phase: Phase::Writing,
                done: written,
                total: places.len(),
                before: written,
            },
            record,
        }
    }

    pub fn record(&self) -> &ContrastRecord {
        &self.record
    }

    pub fn progress(&self) -> MakingProgress {
        self.progress
    }

    /// Ends it; what is written and measured stays, answers in the middle are dropped.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// For an engine that has seen nothing of this: what was under way is begun again.
    pub fn restart(&mut self) {
        if !matches!(self.stage, Stage::Done) {
            self.stage = Stage::Choosing;
        }
    }

    /// The record and, by response, what was read of its residual stream.
    pub fn finish(self) -> (ContrastRecord, Vec<Option<Averages>>) {
        (self.record, self.averages)
    }

    /// Advances until something happened; `None` when everything is judged, or it was stopped.
    pub async fn next(
        &mut self,
        engine: &mut Engine,
        chat: &ChatText,
    ) -> Result<Option<MakingEvent>, MakingError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            if self.stopped || matches!(self.stage, Stage::Done) {
                self.stage = Stage::Done;
                return Ok(None);
            }
            // Where a step fails, making can be taken up again from what is in the record.
            let stage = std::mem::replace(&mut self.stage, Stage::Choosing);
            self.stage = match stage {
                Stage::Choosing => self.choose(engine, chat).await?,
                Stage::Writing(batch) => self.write(batch, engine, chat).await?,
                Stage::Judging {
                    tasks,
                    reading,
                    positive,
                } => self.judge(tasks, reading, positive, engine, chat).await?,
                Stage::Done => Stage::Done,
            };
        }
    }

    async fn choose(&mut self, engine: &mut Engine, chat: &ChatText) -> Result<Stage, MakingError> {
        let places: Vec<Place> = places(&self.record)
            .into_iter()
            .filter(|place| !is_written(&self.record, *place))
            .take(engine.info().sequences.clamp(1, MAX_AT_ONCE))
            .collect();
        if places.is_empty() {
            let tasks = tasks(&self.record, &self.averages);
            self.progress = MakingProgress {
                phase: Phase::Judging,
                done: 0,
                total: tasks.len(),
                before: 0,
            };
            return Ok(Stage::Judging {
                tasks,
                reading: None,
                positive: BTreeMap::new(),
            });
        }
        let ends = &engine.config().end_tokens;
        let end_tokens: Vec<TokenId> = ends.iter().copied().map(TokenId).collect();
        let mut requests = Vec::with_capacity(places.len());
        for (index, place) in places.iter().enumerate() {
            let (prompt, settings, number) = match *place {
                Place::Response(at) => {
                    let own = self.record.settings.place(at);
                    let asked = Some((own.pair, own.side));
                    let prompt = self.record.prompt(chat, asked, own.question)?;
                    (prompt, self.record.settings.answers(), at)
                }
                Place::Baseline(question) => {
                    let prompt = self.record.prompt(chat, None, question)?;
                    // Numbers past the responses', so that no noise is used twice.
                    let number = self.record.responses.len() + question;
                    (prompt, self.record.settings.answers(), number)
                }
                Place::Neutral(at) => {
                    let prompt = neutral_prompt(chat, QUESTIONS[at])?;
                    (prompt, self.record.neutral.settings, at)
                }
            };
            requests.push(GenerateRequest {
                sequence: SequenceIndex(index as u32),
                prompt: prompt.tokens,
                plan: SteeringPlan::default(),
                sampler: settings.sampler(number),
                max_tokens: settings.max_tokens,
                end_tokens: end_tokens.clone(),
            });
        }
        // On a GPU, moving every token's residual stream to memory takes longer than reading the answer afterwards.
        let capture = engine.info().backend != Backend::Gpu;
        let size = engine.layer_rows() * engine.config().hidden_size;
        let sums = places.iter().zip(&requests).map(|(place, request)| {
            let wanted = capture && matches!(place, Place::Response(_));
            wanted.then(|| AverageSums::new(size, request.prompt.len()))
        });
        let sums: Vec<_> = sums.collect();
        let generation = match sums.iter().any(Option::is_some) {
            true => Generation::start_capturing(engine, requests).await?,
            false => Generation::start(engine, requests).await?,
        };
        Ok(Stage::Writing(Batch {
            sums,
            tokens: vec![Vec::new(); places.len()],
            logprobs: vec![0.0; places.len()],
            generation: Box::new(generation),
            places,
        }))
    }

    async fn write(
        &mut self,
        mut batch: Batch,
        engine: &mut Engine,
        chat: &ChatText,
    ) -> Result<Stage, MakingError> {
        let event = batch.generation.next(engine).await?;
        for row in batch.generation.take_captured() {
            if let Some(sums) = &mut batch.sums[row.request] {
                sums.add(row.index, &row.residual);
            }
        }
        if let Some(event) = event {
            if let Event::Token {
                request,
                prediction,
                ..
            } = event
            {
                batch.tokens[request].push(prediction.chosen);
                batch.logprobs[request] += f64::from(prediction.chosen_logprob);
                if let Place::Response(at) = batch.places[request] {
                    let tokens = batch.tokens[request].clone();
                    self.events.push_back(MakingEvent::Growing { at, tokens });
                }
            } else if matches!(event, Event::Prompt { .. }) {
                self.events.push_back(MakingEvent::Working);
            }
            return Ok(Stage::Writing(batch));
        }
        let answers = batch.generation.finish(engine).await?;
        for (index, (place, answer)) in batch.places.iter().zip(answers).enumerate() {
            let count = answer.tokens.len();
            let written = WrittenAnswer {
                ids: numbers(&answer.tokens),
                text: chat.decode(&answer.tokens),
                logprob: (count > 0).then(|| batch.logprobs[index] / count as f64),
                by_pair: Vec::new(),
            };
            self.progress.done += 1;
            match *place {
                Place::Response(at) => {
                    if let Some(sums) = batch.sums[index].take()
                        && count >= MIN_RESPONSE_TOKENS
                    {
                        self.averages[at] = Some(sums.finish());
                    }
                    self.record.responses[at] = Some(written);
                    self.events.push_back(MakingEvent::Written { at });
                }
                Place::Baseline(question) => self.record.baselines[question] = Some(written),
                Place::Neutral(at) => {
                    self.record.neutral.answers.push(NeutralAnswer {
                        question: QUESTIONS[at].to_owned(),
                        ids: written.ids,
                        text: written.text,
                        logprob: written.logprob,
                    });
                    self.record.neutral_logprobs[at] = written.logprob;
                }
            }
        }
        self.events.push_back(MakingEvent::Working);
        Ok(Stage::Choosing)
    }

    async fn judge(
        &mut self,
        mut tasks: VecDeque<Task>,
        reading: Option<(Reading, usize)>,
        mut positive: BTreeMap<Place, f64>,
        engine: &mut Engine,
        chat: &ChatText,
    ) -> Result<Stage, MakingError> {
        let Some(&task) = tasks.front() else {
            return Ok(Stage::Done);
        };
        if let Task::Averages(at) = task {
            let (conversation, length) = self.conversation(chat, task)?;
            let averages = read_averages(engine, READING, &conversation.tokens, length).await?;
            self.averages[at] = Some(averages);
        } else {
            let (mut reading, length) = match reading {
                Some(begun) => begun,
                None => {
                    let (conversation, length) = self.conversation(chat, task)?;
                    let request = ReadRequest {
                        sequence: sequence(task, engine.info().sequences),
                        tokens: &conversation.tokens,
                        prompt_length: length,
                        plan: &SteeringPlan::default(),
                        score: Scoring::Response,
                        capture: false,
                    };
                    (Reading::start(engine, &request).await?, length)
                }
            };
            if reading.next(engine).await? {
                self.events.push_back(MakingEvent::Working);
                let reading = Some((reading, length));
                return Ok(Stage::Judging {
                    tasks,
                    reading,
                    positive,
                });
            }
            let answer = logprobs(&reading.records(engine)).split_off(length);
            let sum: f64 = answer.iter().map(|&logprob| f64::from(logprob)).sum();
            self.conclude(task, sum, answer.len(), &mut positive);
        }
        tasks.pop_front();
        self.progress.done += 1;
        self.events.push_back(MakingEvent::Working);
        Ok(Stage::Judging {
            tasks,
            reading: None,
            positive,
        })
    }

    /// Prompt and answer that `task` reads, and the prompt's length.
    fn conversation(
        &self,
        chat: &ChatText,
        task: Task,
    ) -> Result<(TokenisedConversation, usize), MakingError> {
        let (prompt, answer) = match task {
            Task::Likelihood(at) => {
                let answer = &self.record.neutral.answers[at];
                let ids = answer.ids.iter().copied().map(TokenId).collect();
                (neutral_prompt(chat, &answer.question)?, ids)
            }
            Task::Evidence {
                question,
                pair,
                side,
                place,
            } => {
                let prompt = self.record.prompt(chat, Some((pair, side)), question)?;
                (
                    prompt,
                    answer_at(&self.record, place).map_or_else(Vec::new, WrittenAnswer::tokens),
                )
            }
            Task::Averages(at) => return response_conversation(&self.record, chat, at),
        };
        let length = prompt.tokens.len();
        Ok((prompt.answered(&answer), length))
    }

    /// Puts the sum of an answer's `count` log-probabilities where it belongs.
    fn conclude(
        &mut self,
        task: Task,
        sum: f64,
        count: usize,
        positive: &mut BTreeMap<Place, f64>,
    ) {
        match task {
            Task::Likelihood(at) => {
                let logprob = Some(sum / count as f64);
                self.record.neutral_logprobs[at] = logprob;
                self.record.neutral.answers[at].logprob = logprob;
            }
            Task::Evidence {
                place,
                side: Side::Positive,
                ..
            } => {
                positive.insert(place, sum);
            }
            Task::Evidence {
                pair,
                place,
                side: Side::Negative,
                ..
            } => {
                let Some(under_positive) = positive.remove(&place) else {
                    return;
                };
                let pairs = self.record.settings.pairs;
                let answer = match place {
                    Place::Response(at) => &mut self.record.responses[at],
                    Place::Baseline(question) => &mut self.record.baselines[question],
                    Place::Neutral(_) => return,
                };
                if let Some(answer) = answer {
                    answer.by_pair.resize(pairs, None);
                    answer.by_pair[pair] = Some((under_positive - sum) / count as f64);
                }
                if let Place::Response(at) = place
                    && self.record.evidence(at).is_some()
                {
                    self.events.push_back(MakingEvent::Judged { at });
                }
            }
            Task::Averages(_) => {}
        }
    }
}

/// What the residual stream holds while response `at` is read.
pub async fn read_response(
    engine: &mut Engine,
    chat: &ChatText,
    record: &ContrastRecord,
    at: usize,
) -> Result<Averages, MakingError> {
    let (conversation, length) = response_conversation(record, chat, at)?;
    Ok(read_averages(engine, READING, &conversation.tokens, length).await?)
}

/// A response under the prompt that it was written to, and the prompt's length.
pub(crate) fn response_conversation(
    record: &ContrastRecord,
    chat: &ChatText,
    at: usize,
) -> Result<(TokenisedConversation, usize), MakingError> {
    let own = record.settings.place(at);
    let prompt = record.prompt(chat, Some((own.pair, own.side)), own.question)?;
    let length = prompt.tokens.len();
    let answer = record.responses[at]
        .as_ref()
        .map_or_else(Vec::new, WrittenAnswer::tokens);
    Ok((prompt.answered(&answer), length))
}

/// Where `task` reads: each instruction in a sequence of its own, as far as there are so many, so that what all questions
/// under it begin with is read once.
fn sequence(task: Task, sequences: usize) -> SequenceIndex {
    match task {
        Task::Evidence { pair, side, .. } => {
            let instruction = 2 * pair + usize::from(side == Side::Positive);
            SequenceIndex((instruction % sequences) as u32)
        }
        Task::Likelihood(_) | Task::Averages(_) => READING,
    }
}

fn neutral_prompt(chat: &ChatText, question: &str) -> Result<TokenisedConversation, ChatError> {
    chat.prompt(&[message("user", question)])
}

/// All answers of a finished record, in the order in which they are written.
fn places(record: &ContrastRecord) -> Vec<Place> {
    let responses = (0..record.responses.len()).map(Place::Response);
    let baselines = (0..record.baselines.len()).map(Place::Baseline);
    responses
        .chain(baselines)
        .chain((0..QUESTIONS.len()).map(Place::Neutral))
        .collect()
}

fn is_written(record: &ContrastRecord, place: Place) -> bool {
    match place {
        Place::Response(at) => record.responses[at].is_some(),
        Place::Baseline(question) => record.baselines[question].is_some(),
        Place::Neutral(at) => at < record.neutral.answers.len(),
    }
}

fn answer_at(record: &ContrastRecord, place: Place) -> Option<&WrittenAnswer> {
    match place {
        Place::Response(at) => record.responses[at].as_ref(),
        Place::Baseline(question) => record.baselines[question].as_ref(),
        Place::Neutral(_) => None,
    }
}

/// What is still to be read. Neutral answers come first, because evidence is told in their deviations; then one
/// prompt after another, all answers to it together, whose common beginning is then read once.
fn tasks(record: &ContrastRecord, averages: &[Option<Averages>]) -> VecDeque<Task> {
    let mut tasks = VecDeque::new();
    let neutral = record.neutral.answers.iter().enumerate();
    tasks.extend(
        neutral
            .filter(|(at, answer)| record.neutral_logprobs[*at].is_none() && !answer.ids.is_empty())
            .map(|(at, _)| Task::Likelihood(at)),
    );
    for question in 0..record.settings.questions {
        evidence_tasks(record, question, &[Place::Baseline(question)], &mut tasks);
    }
    let per_question = 2 * record.settings.pairs;
    for question in 0..record.settings.questions {
        let own = question * per_question..(question + 1) * per_question;
        let read = own.clone().filter(|at| {
            let enough = |answer: &WrittenAnswer| answer.ids.len() >= MIN_RESPONSE_TOKENS;
            averages[*at].is_none() && record.responses[*at].as_ref().is_some_and(enough)
        });
        tasks.extend(read.map(Task::Averages));
        let places: Vec<Place> = own.map(Place::Response).collect();
        evidence_tasks(record, question, &places, &mut tasks);
    }
    tasks
}

fn evidence_tasks(
    record: &ContrastRecord,
    question: usize,
    places: &[Place],
    tasks: &mut VecDeque<Task>,
) {
    for pair in 0..record.settings.pairs {
        let missing = |place: &&Place| {
            let made_it = match **place {
                Place::Response(at) => record.settings.place(at).pair == pair,
                _ => false,
            };
            let measured = |answer: &WrittenAnswer| {
                answer.ids.is_empty() || answer.by_pair.get(pair).is_some_and(Option::is_some)
            };
            !made_it && answer_at(record, **place).is_some_and(|answer| !measured(answer))
        };
        let asked: Vec<Place> = places.iter().filter(missing).copied().collect();
        for side in [Side::Positive, Side::Negative] {
            tasks.extend(asked.iter().map(|&place| Task::Evidence {
                question,
                pair,
                side,
                place,
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrast_record::tests::judged;

    #[test]
    fn a_judged_record_leaves_only_its_activations_to_be_read() {
        let record = judged();
        let left = tasks(&record, &vec![None; record.responses.len()]);
        assert_eq!(left.len(), record.responses.len());
        assert!(left.iter().all(|task| matches!(task, Task::Averages(_))));
        assert!(
            places(&record)
                .iter()
                .all(|place| is_written(&record, *place))
        );
    }

    #[test]
    fn what_is_missing_is_read_under_both_sides_of_the_other_pairs() {
        let mut record = judged();
        record.responses[2].as_mut().unwrap().by_pair.clear();
        record.neutral_logprobs[5] = None;
        let read = Averages::of(&[0.0; 3], 1, 2);
        let left = tasks(&record, &vec![Some(read); record.responses.len()]);
        // Response 2 was made by pair 1.
        assert!(matches!(left[0], Task::Likelihood(5)));
        assert!(matches!(
            left[1],
            Task::Evidence {
                question: 0,
                pair: 0,
                side: Side::Positive,
                place: Place::Response(2)
            }
        ));
        assert!(matches!(
            left[2],
            Task::Evidence {
                question: 0,
                pair: 0,
                side: Side::Negative,
                place: Place::Response(2)
            }
        ));
        assert_eq!(left.len(), 3);
    }
}
