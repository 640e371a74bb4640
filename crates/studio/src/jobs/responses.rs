//! Writing and judging a contrast set. First all answers are written, many side by side; then each is measured by the
//! unsteered model. What is there is told to be kept, and gone on with later.

use crate::failure::Failure;
use crate::jobs::answers::{answer_request, mean_of, neutral_answer, neutral_prompt, own_logprobs};
use crate::jobs::averages::read_response;
use crate::jobs::judging::{Place, Task, answer_at, is_written, places, sequence, tasks};
use crate::making::{ContrastSet, MakingEvent, MakingPhase};
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::{Every, Halt, Pace, Watch};
use std::collections::BTreeMap;
use trimtab_checkpoint::ChatError;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::generate::{self, GenerateRequest, Generation};
use trimtab_engine::reading::Reading;
use trimtab_engine::{Backend, Engine, SteeringPlan, TokenId};
use trimtab_persona::activations::{AverageSums, Averages};
use trimtab_persona::contrast::MIN_RESPONSE_TOKENS;
use trimtab_persona::contrast_record::{ContrastRecord, WrittenAnswer};
use trimtab_persona::conversation::{ChatText, TokenisedConversation, numbers, token_ids};
use trimtab_persona::extract::Side;
use trimtab_persona::neutral::QUESTIONS;
use trimtab_persona::reread::logprobs;
use trimtab_persona::trait_report::ContrastResponse;

/// Most answers written side by side: more gain little and hold results back.
pub const MAX_AT_ONCE: usize = 16;
/// A growing response is told every so many tokens.
const TOKENS_A_GROWTH: usize = 6;
/// Longest time between two checkpoints, in seconds.
const KEEP_EVERY: f64 = 5.0;

/// Goes on with `record`, which may be new, until everything is judged or it is stopped; what is written and measured stays
/// in it, answers in the middle are dropped. So it does where something fails, after it was told to be kept.
pub async fn write(
    session: &mut Session,
    record: &mut ContrastRecord,
    watch: &mut dyn Watch,
) -> Result<(), Failure> {
    let averages = session.averages.take(record);
    let places = places(record);
    let written = |place: &&Place| is_written(record, **place);
    let done = places.iter().filter(written).count();
    let now = watch.seconds();
    let mut making = Making {
        engine: &mut session.engine,
        chat: &session.chat,
        progress: (MakingPhase::Writing, done, places.len()),
        pace: Pace::new(now, done),
        keep: Every::new(KEEP_EVERY, now),
        unkept: false,
        record,
        averages,
        watch,
    };
    let outcome = making.all().await;
    if let Err(Halt::Failed(_)) = &outcome {
        // Nothing that was done is lost with the failure.
        making.tell_checkpoint()?;
    }
    let averages = std::mem::take(&mut making.averages);
    session.averages.keep(record, averages);
    match outcome {
        Ok(()) | Err(Halt::Stopped) => Ok(()),
        Err(Halt::Failed(failure)) => Err(failure),
    }
}

struct Making<'a> {
    engine: &'a mut Engine,
    chat: &'a ChatText,
    record: &'a mut ContrastRecord,
    averages: Vec<Option<Averages>>,
    watch: &'a mut dyn Watch,
    /// Answers written, or readings done, and how many there are.
    progress: (MakingPhase, usize, usize),
    pace: Pace,
    keep: Every,
    /// Whether there is something that the last checkpoint does not hold.
    unkept: bool,
}

type Step<T> = Result<T, Halt>;

impl Making<'_> {
    async fn all(&mut self) -> Step<()> {
        loop {
            let missing = places(self.record)
                .into_iter()
                .filter(|place| !is_written(self.record, *place));
            let at_once = self.engine.info().sequences.clamp(1, MAX_AT_ONCE);
            let places: Vec<Place> = missing.take(at_once).collect();
            if places.is_empty() {
                break;
            }
            self.write_batch(&places).await?;
        }
        let tasks = tasks(self.record, &self.averages);
        self.progress = (MakingPhase::Judging, 0, tasks.len());
        self.pace = Pace::new(self.watch.seconds(), 0);
        // Log-likelihoods under the positive instruction of the pair at hand.
        let mut positive = BTreeMap::new();
        for task in tasks {
            self.judge(task, &mut positive).await?;
            self.advance(1);
            self.pause().await?;
        }
        Ok(())
    }

    fn request(&self, index: usize, place: Place) -> Result<GenerateRequest, ChatError> {
        let record = &*self.record;
        let (prompt, settings, number) = match place {
            Place::Response(at) => {
                let own = record.settings.place(at);
                let prompt = record.prompt(self.chat, Some((own.pair, own.side)), own.question)?;
                (prompt, record.settings.answers(), at)
            }
            Place::Baseline(question) => {
                let prompt = record.prompt(self.chat, None, question)?;
                // Numbers past the responses', so that no noise is used twice.
                let number = record.responses.len() + question;
                (prompt, record.settings.answers(), number)
            }
            Place::Neutral(at) => {
                let prompt = neutral_prompt(self.chat, QUESTIONS[at])?;
                (prompt, record.neutral.settings, at)
            }
        };
        Ok(answer_request(
            self.engine,
            index,
            prompt,
            &settings,
            number,
        ))
    }

    async fn write_batch(&mut self, places: &[Place]) -> Step<()> {
        let requests: Vec<GenerateRequest> = places
            .iter()
            .enumerate()
            .map(|(index, place)| self.request(index, *place))
            .collect::<Result<_, _>>()?;
        // On a GPU, moving every token's residual stream to memory takes longer than reading the answer afterwards.
        let capture = self.engine.info().backend != Backend::Gpu;
        let size = self.engine.layer_rows() * self.engine.config().hidden_size;
        let mut sums: Vec<Option<AverageSums>> = places
            .iter()
            .zip(&requests)
            .map(|(place, request)| {
                let wanted = capture && matches!(place, Place::Response(_));
                wanted.then(|| AverageSums::new(size, request.prompt.len()))
            })
            .collect();
        let mut generation = match sums.iter().any(Option::is_some) {
            true => Generation::start_capturing(self.engine, requests).await?,
            false => Generation::start(self.engine, requests).await?,
        };
        let mut tokens: Vec<Vec<TokenId>> = vec![Vec::new(); places.len()];
        loop {
            let event = generation.next(self.engine).await?;
            for row in generation.take_captured() {
                if let Some(sums) = &mut sums[row.request] {
                    sums.add(row.index, &row.residual);
                }
            }
            match event {
                None => break,
                Some(generate::Event::Token {
                    request,
                    prediction,
                    ..
                }) => {
                    tokens[request].push(prediction.chosen);
                    if let Place::Response(at) = places[request] {
                        self.tell_growth(at, &tokens[request]);
                        self.pause().await?;
                    }
                }
                Some(generate::Event::Prompt { .. }) => self.pause().await?,
                Some(_) => {}
            }
        }
        let answers = generation.finish(self.engine).await?;
        for (index, (place, answer)) in places.iter().zip(answers).enumerate() {
            let count = answer.tokens.len();
            let written = WrittenAnswer {
                ids: numbers(&answer.tokens),
                text: self.chat.decode(&answer.tokens),
                logprob: mean_of(&own_logprobs(&answer)),
                by_pair: Vec::new(),
            };
            let record = &mut *self.record;
            match *place {
                Place::Response(at) => {
                    if let Some(sums) = sums[index].take()
                        && count >= MIN_RESPONSE_TOKENS
                    {
                        self.averages[at] = Some(sums.finish());
                    }
                    record.responses[at] = Some(written);
                    self.tell_response(at);
                }
                Place::Baseline(question) => record.baselines[question] = Some(written),
                Place::Neutral(at) => {
                    record.neutral_logprobs[at] = written.logprob;
                    let answer = neutral_answer(self.chat, at, &answer);
                    record.neutral.answers.push(answer);
                }
            }
        }
        self.advance(places.len());
        self.pause().await
    }

    async fn judge(&mut self, task: Task, positive: &mut BTreeMap<Place, f64>) -> Step<()> {
        if let Task::Averages(at) = task {
            let read = read_response(self.engine, self.chat, self.record, at).await?;
            self.averages[at] = Some(read);
            return Ok(());
        }
        let conversation = self.conversation(task)?;
        let length = conversation.prompt_length;
        let request = ReadRequest {
            sequence: sequence(task, self.engine.info().sequences),
            tokens: &conversation.tokens,
            prompt_length: length,
            plan: &SteeringPlan::default(),
            score: Scoring::Response,
            capture: false,
        };
        let mut reading = Reading::start(self.engine, &request).await?;
        while reading.next(self.engine).await? {
            self.pause().await?;
        }
        let answer = logprobs(&reading.records(self.engine)).split_off(length);
        let sum: f64 = answer.iter().map(|&logprob| f64::from(logprob)).sum();
        self.conclude(task, sum, answer.len(), positive);
        Ok(())
    }

    /// Prompt and answer that `task` reads.
    fn conversation(&self, task: Task) -> Result<TokenisedConversation, ChatError> {
        Ok(match task {
            Task::Likelihood(at) => {
                let answer = &self.record.neutral.answers[at];
                let prompt = neutral_prompt(self.chat, &answer.question)?;
                prompt.answered(&token_ids(&answer.ids))
            }
            Task::Evidence {
                question,
                pair,
                side,
                place,
            } => {
                let asked = Some((pair, side));
                let prompt = self.record.prompt(self.chat, asked, question)?;
                let answer = answer_at(self.record, place);
                prompt.answered(&answer.map_or_else(Vec::new, WrittenAnswer::tokens))
            }
            Task::Averages(at) => self.record.conversation(self.chat, at)?,
        })
    }

    /// Puts the sum of an answer's `count` log-probabilities where it belongs.
    fn conclude(
        &mut self,
        task: Task,
        sum: f64,
        count: usize,
        positive: &mut BTreeMap<Place, f64>,
    ) {
        let record = &mut *self.record;
        match task {
            Task::Likelihood(at) => {
                let logprob = Some(sum / count as f64);
                record.neutral_logprobs[at] = logprob;
                record.neutral.answers[at].logprob = logprob;
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
                let pairs = record.settings.pairs;
                let answer = match place {
                    Place::Response(at) => &mut record.responses[at],
                    Place::Baseline(question) => &mut record.baselines[question],
                    Place::Neutral(_) => return,
                };
                if let Some(answer) = answer {
                    answer.by_pair.resize(pairs, None);
                    answer.by_pair[pair] = Some((under_positive - sum) / count as f64);
                }
                if let Place::Response(at) = place
                    && record.evidence(at).is_some()
                {
                    self.tell_response(at);
                }
            }
            Task::Averages(_) => {}
        }
    }

    fn tell_growth(&mut self, at: usize, tokens: &[TokenId]) {
        if tokens.len().is_multiple_of(TOKENS_A_GROWTH) {
            let text = self.chat.decode(tokens);
            let response = ContrastResponse::growing(self.record, at, text, tokens);
            self.watch
                .tell(Event::Making(MakingEvent::Response { at, response }));
        }
    }

    fn tell_response(&mut self, at: usize) {
        // Until enough neutral answers are there, there is no band.
        let band = self.record.band(Default::default()).ok();
        if let Some(response) = ContrastResponse::of(self.record, at, band.as_ref()) {
            self.watch
                .tell(Event::Making(MakingEvent::Response { at, response }));
        }
    }

    fn advance(&mut self, by: usize) {
        self.progress.1 += by;
        self.unkept = true;
        let (phase, done, total) = self.progress;
        let seconds_left = self.pace.seconds_left(self.watch.seconds(), done, total);
        self.watch.tell(Event::Making(MakingEvent::Progress {
            phase,
            done,
            total,
            seconds_left,
        }));
    }

    fn tell_checkpoint(&mut self) -> Result<(), Failure> {
        let checkpoint = ContrastSet::checkpoint(self.record)?;
        self.watch.tell(Event::Making(checkpoint));
        Ok(())
    }

    async fn pause(&mut self) -> Step<()> {
        if self.unkept && self.keep.due(self.watch.seconds()) {
            self.unkept = false;
            self.tell_checkpoint()?;
        }
        self.watch.go_on().await
    }
}
