//! Trials: the same questions answered under one plan or system prompt after another, each answer measured by the
//! unsteered model. What sweeps, controls and predictions are made of. Goes step by step, and goes on from
//! what was kept of a run that stopped.
//!
//! First all answers are written, trial by trial, as many questions at once as the engine has room for; a prompt
//! that no plan touches is read once. Then evidence is measured question by question, because every answer to a
//! question is scored after the same few system prompts, whose caches serve them all.

use crate::answers::AnswerSettings;
use crate::coherence::distinct_n;
use crate::conversation::{ChatText, message, numbers};
use crate::trait_pack::InstructionPair;
use crate::trait_vector::sha256;
use serde::{Deserialize, Serialize};
use trimtab_checkpoint::ChatError;
use trimtab_engine::compare::{CompareRequest, Compared, Comparison};
use trimtab_engine::generate::{Answer, Event, GenerateRequest, Generation};
use trimtab_engine::{Engine, EngineError, SequenceIndex, SteeringPlan, TokenId};

/// Sequences that trials need at least.
pub const MIN_SEQUENCES: usize = 2;
/// Room for a trait pack's system prompt, question and the template, in tokens.
pub const PROMPT_TOKENS: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(
        "trials need an engine with room for {MIN_SEQUENCES} conversations; this one holds {sequences}"
    )]
    Sequences { sequences: usize },
    #[error("what was kept belongs to other questions or settings; begin again")]
    OtherRun,
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// How one set of answers is made and measured.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    pub plan: SteeringPlan,
    /// In place of the template's own system prompt.
    pub system: Option<String>,
    /// Which of several answers to the same question: another seed. Trials with the same number share
    /// their noise, so that they differ by the plan alone.
    pub sample: usize,
    /// Into [`TrialSetup::pairs`]: the instruction pairs that evidence is the mean over.
    pub pairs: Vec<usize>,
    /// Whether to measure KL(steered‖unsteered), where the engine can.
    pub divergence: bool,
}

#[derive(Clone, Debug)]
pub struct TrialSetup {
    pub trials: Vec<Trial>,
    pub questions: Vec<String>,
    pub pairs: Vec<InstructionPair>,
    pub answers: AnswerSettings,
    /// Which of the engine's directions is read at the last prompt token.
    pub direction: Option<usize>,
}

impl TrialSetup {
    /// Equal for setups whose records are interchangeable. `made_of` says what the plans were made of: hashes of the
    /// model and the vectors, places, doses.
    pub fn key(&self, made_of: &[String]) -> String {
        let trials: Vec<_> = self
            .trials
            .iter()
            .map(|trial| (&trial.system, trial.sample, &trial.pairs, trial.divergence))
            .collect();
        let Self {
            questions,
            pairs,
            answers,
            direction,
            ..
        } = self;
        let text = format!("{made_of:?}{trials:?}{questions:?}{pairs:?}{answers:?}{direction:?}");
        sha256(text.as_bytes())
    }
}

/// One answer and what was measured of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct TrialAnswer {
    /// The end token left out.
    pub ids: Vec<u32>,
    pub text: String,
    /// Mean log-likelihood under the unsteered model after the same prompt, nats a token; `None` for an
    /// empty answer.
    pub logprob: Option<f64>,
    /// Mean KL(steered‖unsteered) of the next-token distributions along the answer, nats.
    pub divergence: Option<f64>,
    /// Trait evidence, nats a token: [`crate::evidence`] by the trial's pairs. `None` until measured.
    pub evidence: Option<f64>,
    /// Reading of the last prompt token at each layer, `[L+1]`, where it was asked for.
    pub prompt_reading: Vec<f32>,
}

impl TrialAnswer {
    pub fn tokens(&self) -> Vec<TokenId> {
        self.ids.iter().copied().map(TokenId).collect()
    }

    /// distinct-1, -2 and -3.
    pub fn distinct(&self) -> [f64; 3] {
        let tokens = self.tokens();
        [1, 2, 3].map(|n| distinct_n(&tokens, n))
    }

    /// Whether there is nothing left to measure.
    fn is_measured(&self, pairs: &[usize]) -> bool {
        self.evidence.is_some() || self.ids.is_empty() || pairs.is_empty()
    }
}

/// `[trial][question]`
pub type TrialRecords = Vec<Vec<Option<TrialAnswer>>>;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialEvent {
    Working,
    /// An answer was written and its cost measured.
    Written {
        trial: usize,
        question: usize,
    },
    /// An answer's evidence was measured.
    Measured {
        trial: usize,
        question: usize,
    },
}

/// Work in token passes through the model, roughly: for time left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrialProgress {
    pub written: usize,
    pub measured: usize,
    pub answers: usize,
    pub passes_done: usize,
    pub passes_total: usize,
}

#[derive(Debug)]
enum State {
    Choosing,
    Writing {
        trial: usize,
        questions: Vec<usize>,
        run: Box<Generation>,
    },
    /// The cost of answers that were written, one after another.
    Costing {
        trial: usize,
        answers: Vec<(usize, Answer)>,
        running: Option<Comparison>,
    },
    Measuring {
        trial: usize,
        question: usize,
        /// Pairs and signs still to come; the last is under way.
        left: Vec<(usize, f64)>,
        sum: f64,
        running: Comparison,
    },
}

/// A run of trials.
#[derive(Debug)]
pub struct Trials {
    setup: TrialSetup,
    records: TrialRecords,
    state: State,
    /// Tokens of the answers that are being written.
    partial: usize,
}

impl Trials {
    /// `kept` are the records of a run with the same setup that stopped.
    pub fn new(setup: TrialSetup, kept: Option<TrialRecords>) -> Result<Self, TrialError> {
        let (trials, questions) = (setup.trials.len(), setup.questions.len());
        let records = kept.unwrap_or_else(|| vec![vec![None; questions]; trials]);
        if records.len() != trials || records.iter().any(|row| row.len() != questions) {
            return Err(TrialError::OtherRun);
        }
        Ok(Self {
            setup,
            records,
            state: State::Choosing,
            partial: 0,
        })
    }

    pub fn setup(&self) -> &TrialSetup {
        &self.setup
    }

    /// What there is so far.
    pub fn records(&self) -> &TrialRecords {
        &self.records
    }

    pub fn progress(&self) -> TrialProgress {
        let length = self.setup.answers.max_tokens;
        let mut progress = TrialProgress {
            passes_done: self.partial,
            ..TrialProgress::default()
        };
        for (trial, row) in self.setup.trials.iter().zip(&self.records) {
            let cost = match (trial.plan.terms.is_empty(), trial.divergence) {
                (true, _) => 0,
                (false, false) => length,
                (false, true) => 2 * length,
            };
            let (write, measure) = (length + cost, 2 * trial.pairs.len() * length);
            for answer in row {
                progress.answers += 1;
                progress.passes_total += write + measure;
                if let Some(answer) = answer {
                    progress.written += 1;
                    progress.passes_done += write;
                    if answer.is_measured(&trial.pairs) {
                        progress.measured += 1;
                        progress.passes_done += measure;
                    }
                }
            }
        }
        progress
    }

    /// Does a little; `None` when all is done. After an error (a lost device) a new run goes on from
    /// [`Self::records`].
    pub async fn next(
        &mut self,
        engine: &mut Engine,
        chat: &ChatText,
    ) -> Result<Option<TrialEvent>, TrialError> {
        match std::mem::replace(&mut self.state, State::Choosing) {
            State::Choosing => self.choose(engine, chat).await,
            State::Writing {
                trial,
                questions,
                mut run,
            } => {
                match run.next(engine).await? {
                    Some(event) => {
                        if let Event::Token { .. } = event {
                            self.partial += 1;
                        }
                        self.state = State::Writing {
                            trial,
                            questions,
                            run,
                        };
                    }
                    None => {
                        let mut answers: Vec<_> = questions
                            .into_iter()
                            .zip(run.finish(engine).await?)
                            .collect();
                        answers.reverse();
                        self.state = State::Costing {
                            trial,
                            answers,
                            running: None,
                        };
                    }
                }
                Ok(Some(TrialEvent::Working))
            }
            State::Costing {
                trial,
                answers,
                running,
            } => self.cost(engine, chat, trial, answers, running).await,
            State::Measuring {
                trial,
                question,
                left,
                sum,
                running,
            } => {
                self.measure(engine, chat, (trial, question), left, sum, running)
                    .await
            }
        }
    }

    /// Begins what comes next.
    async fn choose(
        &mut self,
        engine: &mut Engine,
        chat: &ChatText,
    ) -> Result<Option<TrialEvent>, TrialError> {
        let sequences = engine.info().sequences;
        if sequences < MIN_SEQUENCES {
            return Err(TrialError::Sequences { sequences });
        }
        let questions: Vec<usize> = (0..self.setup.questions.len()).collect();
        for group in questions.chunks(sequences / 2) {
            for trial in 0..self.setup.trials.len() {
                let missing = |&question: &usize| self.records[trial][question].is_none();
                let missing: Vec<usize> = group.iter().copied().filter(missing).collect();
                if !missing.is_empty() {
                    let run = self.write(engine, chat, trial, &missing, group[0]).await?;
                    self.state = State::Writing {
                        trial,
                        questions: missing,
                        run: Box::new(run),
                    };
                    return Ok(Some(TrialEvent::Working));
                }
            }
        }
        for question in questions {
            for trial in 0..self.setup.trials.len() {
                let pairs = &self.setup.trials[trial].pairs;
                let answer = &self.records[trial][question];
                if answer
                    .as_ref()
                    .is_some_and(|answer| !answer.is_measured(pairs))
                {
                    let left: Vec<(usize, f64)> = pairs
                        .iter()
                        .flat_map(|&pair| [(pair, -1.0), (pair, 1.0)])
                        .collect();
                    let running = self.score(engine, chat, trial, question, &left).await?;
                    self.state = State::Measuring {
                        trial,
                        question,
                        left,
                        sum: 0.0,
                        running,
                    };
                    return Ok(Some(TrialEvent::Working));
                }
            }
        }
        Ok(None)
    }

    fn prompt(
        &self,
        chat: &ChatText,
        system: Option<&str>,
        question: usize,
    ) -> Result<Vec<TokenId>, ChatError> {
        let asked = message("user", &self.setup.questions[question]);
        let messages = match system {
            Some(system) => vec![message("system", system), asked],
            None => vec![asked],
        };
        Ok(chat.prompt(&messages)?.tokens)
    }

    /// Answers to `questions` of one group; a question keeps its sequence, and so its prompt.
    async fn write(
        &self,
        engine: &mut Engine,
        chat: &ChatText,
        trial: usize,
        questions: &[usize],
        first: usize,
    ) -> Result<Generation, TrialError> {
        let Trial {
            plan,
            system,
            sample,
            ..
        } = &self.setup.trials[trial];
        let ends = &engine.config().end_tokens;
        let end_tokens: Vec<TokenId> = ends.iter().copied().map(TokenId).collect();
        let mut requests = Vec::with_capacity(questions.len());
        for &question in questions {
            requests.push(GenerateRequest {
                sequence: SequenceIndex(2 * (question - first) as u32),
                prompt: self.prompt(chat, system.as_deref(), question)?,
                plan: plan.clone(),
                sampler: self.setup.answers.sampler(question + 4_096 * sample),
                max_tokens: self.setup.answers.max_tokens,
                end_tokens: end_tokens.clone(),
            });
        }
        Ok(Generation::start(engine, requests).await?)
    }

    /// The cost of the last of `answers`. An unsteered answer's likelihood is known from its writing.
    async fn cost(
        &mut self,
        engine: &mut Engine,
        chat: &ChatText,
        trial: usize,
        mut answers: Vec<(usize, Answer)>,
        running: Option<Comparison>,
    ) -> Result<Option<TrialEvent>, TrialError> {
        let Some((question, answer)) = answers.last() else {
            self.partial = 0;
            return Ok(Some(TrialEvent::Working));
        };
        let question = *question;
        let plan = &self.setup.trials[trial].plan;
        let steered = !plan.terms.is_empty();
        let compared = match running {
            Some(mut running) => {
                if running.next(engine).await? {
                    self.state = State::Costing {
                        trial,
                        answers,
                        running: Some(running),
                    };
                    return Ok(Some(TrialEvent::Working));
                }
                running.finish()
            }
            None if steered && !answer.tokens.is_empty() => {
                let system = self.setup.trials[trial].system.as_deref();
                let mut tokens = self.prompt(chat, system, question)?;
                let prompt_length = tokens.len();
                tokens.extend(&answer.tokens);
                let beside = SequenceIndex(answer.sequence.0 + 1);
                let compare = self.setup.trials[trial].divergence;
                let request = CompareRequest {
                    unsteered: beside,
                    steered: compare.then_some((answer.sequence, plan)),
                    tokens: &tokens,
                    prompt_length,
                };
                let running = Comparison::start(engine, &request).await?;
                self.state = State::Costing {
                    trial,
                    answers,
                    running: Some(running),
                };
                return Ok(Some(TrialEvent::Working));
            }
            None => {
                let own = answer.records.iter().skip(answer.prompt_length - 1);
                let logprobs = own
                    .filter_map(|record| record.prediction.as_ref())
                    .map(|prediction| prediction.chosen_logprob);
                Compared {
                    logprobs: logprobs.take(answer.tokens.len()).collect(),
                    divergences: vec![0.0; answer.tokens.len()],
                }
            }
        };
        let prompt_reading = match self.setup.direction {
            Some(direction) => {
                let readings = &answer.records[answer.prompt_length - 1].readings;
                let rows = readings.layer_rows;
                let start = direction * rows;
                readings
                    .values
                    .get(start..start + rows)
                    .unwrap_or_default()
                    .to_vec()
            }
            None => Vec::new(),
        };
        self.records[trial][question] = Some(TrialAnswer {
            ids: numbers(&answer.tokens),
            text: chat.decode(&answer.tokens),
            logprob: mean_of(&compared.logprobs),
            divergence: mean_of(&compared.divergences),
            evidence: None,
            prompt_reading,
        });
        answers.pop();
        self.state = State::Costing {
            trial,
            answers,
            running: None,
        };
        Ok(Some(TrialEvent::Written { trial, question }))
    }

    /// Begins to score an answer after the system prompt that is the last of `left`.
    async fn score(
        &self,
        engine: &mut Engine,
        chat: &ChatText,
        trial: usize,
        question: usize,
        left: &[(usize, f64)],
    ) -> Result<Comparison, TrialError> {
        let &(pair, sign) = left.last().unwrap_or(&(0, 1.0));
        let instructions = &self.setup.pairs[pair];
        let instruction = match sign > 0.0 {
            true => &instructions.positive,
            false => &instructions.negative,
        };
        let mut tokens = self.prompt(chat, Some(instruction), question)?;
        let prompt_length = tokens.len();
        if let Some(answer) = &self.records[trial][question] {
            tokens.extend(answer.tokens());
        }
        // Each system prompt in a sequence of its own, as far as there are any.
        let sequence = (2 * pair + usize::from(sign > 0.0)) % engine.info().sequences;
        let request = CompareRequest {
            unsteered: SequenceIndex(sequence as u32),
            steered: None,
            tokens: &tokens,
            prompt_length,
        };
        Ok(Comparison::start(engine, &request).await?)
    }

    async fn measure(
        &mut self,
        engine: &mut Engine,
        chat: &ChatText,
        (trial, question): (usize, usize),
        mut left: Vec<(usize, f64)>,
        mut sum: f64,
        mut running: Comparison,
    ) -> Result<Option<TrialEvent>, TrialError> {
        if !running.next(engine).await? {
            let logprobs = running.finish().logprobs;
            let sign = left.pop().map_or(0.0, |(_, sign)| sign);
            sum += sign * mean_of(&logprobs).unwrap_or(0.0);
            if left.is_empty() {
                let pairs = self.setup.trials[trial].pairs.len().max(1);
                if let Some(answer) = &mut self.records[trial][question] {
                    answer.evidence = Some(sum / pairs as f64);
                }
                return Ok(Some(TrialEvent::Measured { trial, question }));
            }
            running = self.score(engine, chat, trial, question, &left).await?;
        }
        self.state = State::Measuring {
            trial,
            question,
            left,
            sum,
            running,
        };
        Ok(Some(TrialEvent::Working))
    }
}

fn mean_of(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}
