//! Running trials. First all answers are written, trial by trial, as many questions at once as the engine has room for; a
//! prompt that no plan touches is read once. Then evidence is measured question by question, because every answer to a
//! question is scored after the same few system prompts, whose caches serve them all.

use crate::failure::Failure;
use crate::jobs::answers::{mean_of, own_logprobs};
use crate::records::KnownTrials;
use crate::studies::{StudyEvent, StudyPhase};
use crate::verbs::Event;
use crate::watch::{Every, Halt, Pace, Watch};
use trimtab_checkpoint::ChatError;
use trimtab_engine::compare::{CompareRequest, Compared, Comparison};
use trimtab_engine::generate::{self, Answer, GenerateRequest, Generation};
use trimtab_engine::{Engine, SequenceIndex, TokenId};
use trimtab_persona::coherence::ContextLikelihoods;
use trimtab_persona::conversation::{ChatText, message, numbers, token_ids};
use trimtab_persona::sweep::SweepRow;
use trimtab_persona::trials::{Trial, TrialAnswer, TrialProgress, TrialRecords, TrialSetup};

/// Sequences that trials need at least.
pub const MIN_SEQUENCES: usize = 2;
/// Longest time between two events with records, in seconds.
const KEEP_EVERY: f64 = 5.0;
/// The time left is told anew at least so often, in seconds.
const TELL_EVERY: f64 = 1.0;

/// A study's trials, and what is kept of them.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Study<'a> {
    pub setup: TrialSetup,
    /// See [`TrialSetup::keys`].
    pub keys: Vec<String>,
    /// Trials in the order in which they are made; a later stage begins when the one before is measured.
    pub stages: Vec<Vec<usize>>,
    /// Whether a trial of a later stage is worth making after what the stages before it brought.
    pub is_wanted: &'a dyn Fn(&TrialRecords, usize) -> bool,
    /// What an earlier run left behind.
    pub kept: Option<Vec<u8>>,
    /// Whether records of another study are refused, rather than passed over.
    pub refuse_others: bool,
}

/// Makes a row of a trial's answers, for studies that show some before they are done.
pub type RowOf<'a> = &'a dyn Fn(&TrialRecords, usize) -> Option<SweepRow>;

/// Runs trials to their end; a stop is a failure that says how far they are. What is done by then, or before something
/// fails, is told as [`StudyEvent::Records`].
pub async fn run(
    engine: &mut Engine,
    chat: &ChatText,
    study: &Study<'_>,
    row_of: RowOf<'_>,
    watch: &mut dyn Watch,
) -> Result<TrialRecords, Failure> {
    let sequences = engine.info().sequences;
    if sequences < MIN_SEQUENCES {
        return Err(Failure::usage(format!(
            "trials need an engine with room for {MIN_SEQUENCES} conversations; this one holds {sequences}"
        )));
    }
    let setup = &study.setup;
    let known = study.kept.as_deref().and_then(KnownTrials::read);
    let foreign = match &known {
        Some(known) => !known.is_empty() && !known.knows_any(&study.keys),
        None => study.kept.is_some(),
    };
    if study.refuse_others && foreign {
        return Err(Failure::usage(
            "what was kept holds answers of another run (other questions, vector, model or settings)",
        ));
    }
    let known = known.unwrap_or_default();
    let trials = setup.trials.len();
    let records = known.records(&study.keys, setup.questions.len());
    let now = watch.seconds();
    let mut run = Run {
        pace: Pace::new(
            now,
            TrialProgress::of(setup, &records, 0, |_| true).passes_done,
        ),
        keep: Every::new(KEEP_EVERY, now),
        tell: Every::new(TELL_EVERY, now),
        told: None,
        writing: 0,
        made: Vec::new(),
        engine,
        chat,
        study,
        known,
        records,
        row_of,
        watch,
    };
    (0..trials).for_each(|trial| run.tell_row(trial));
    run.tell_progress();
    let outcome = run.all().await;
    run.tell_records();
    outcome.map_err(|halt| {
        let TrialProgress {
            written,
            measured,
            answers,
            ..
        } = run.progress();
        halt.failure(&format!(
            ": {written} of {answers} answers are written, {measured} of them measured. They are kept; go on whenever you like"
        ))
    })?;
    Ok(run.records)
}

struct Run<'a> {
    engine: &'a mut Engine,
    chat: &'a ChatText,
    study: &'a Study<'a>,
    known: KnownTrials,
    records: TrialRecords,
    /// Trials of the stages so far.
    made: Vec<usize>,
    /// Tokens of the answers that are being written.
    writing: usize,
    row_of: RowOf<'a>,
    watch: &'a mut dyn Watch,
    pace: Pace,
    keep: Every,
    tell: Every,
    told: Option<(StudyPhase, usize)>,
}

type Step<T> = Result<T, Halt>;

impl Run<'_> {
    async fn all(&mut self) -> Step<()> {
        for stage in &self.study.stages {
            let wanted = |trial: &usize| (self.study.is_wanted)(&self.records, *trial);
            let stage: Vec<usize> = stage.iter().copied().filter(wanted).collect();
            self.made.extend(&stage);
            self.stage(&stage).await?;
        }
        Ok(())
    }

    async fn stage(&mut self, trials: &[usize]) -> Step<()> {
        let questions: Vec<usize> = (0..self.study.setup.questions.len()).collect();
        for group in questions.chunks(self.engine.info().sequences / 2) {
            for &trial in trials {
                let missing = |&question: &usize| self.records[trial][question].is_none();
                let missing: Vec<usize> = group.iter().copied().filter(missing).collect();
                if !missing.is_empty() {
                    self.write(trial, &missing, group[0]).await?;
                }
            }
        }
        for question in questions {
            for &trial in trials {
                let measured = |answer: &TrialAnswer| answer.is_measured(self.trial(trial));
                if !self.records[trial][question].as_ref().is_some_and(measured) {
                    self.measure(trial, question).await?;
                }
            }
        }
        Ok(())
    }

    fn trial(&self, trial: usize) -> &Trial {
        &self.study.setup.trials[trial]
    }

    fn prompt(&self, system: Option<&str>, question: usize) -> Result<Vec<TokenId>, ChatError> {
        let asked = message("user", &self.study.setup.questions[question]);
        let messages = match system {
            Some(system) => vec![message("system", system), asked],
            None => vec![asked],
        };
        Ok(self.chat.question(&messages)?.tokens)
    }

    /// Writes answers to `questions` of the group that begins with `first`, and their costs; a question keeps its
    /// sequence, and so its prompt.
    async fn write(&mut self, trial: usize, questions: &[usize], first: usize) -> Step<()> {
        let Trial {
            plan,
            system,
            sample,
            ..
        } = self.trial(trial);
        let answers = &self.study.setup.answers;
        let end_tokens = token_ids(&self.engine.config().end_tokens);
        let mut requests = Vec::with_capacity(questions.len());
        for &question in questions {
            requests.push(GenerateRequest {
                sequence: SequenceIndex(2 * (question - first) as u32),
                prompt: self.prompt(system.as_deref(), question)?,
                plan: plan.clone(),
                sampler: answers.sampler(question + 4_096 * sample),
                max_tokens: answers.max_tokens,
                end_tokens: end_tokens.clone(),
            });
        }
        let mut generation = Generation::start(self.engine, requests).await?;
        while let Some(event) = generation.next(self.engine).await? {
            if let generate::Event::Token { .. } = event {
                self.writing += 1;
            }
            self.pause(None).await?;
        }
        let written = generation.finish(self.engine).await?;
        for (&question, answer) in questions.iter().zip(written) {
            let compared = self.cost(trial, question, &answer).await?;
            let prompt_reading = self.reading(&answer);
            self.records[trial][question] = Some(TrialAnswer {
                ids: numbers(&answer.tokens),
                text: self.chat.decode(&answer.tokens),
                likelihoods: ContextLikelihoods {
                    usual: mean_of(&compared.logprobs),
                    ..ContextLikelihoods::default()
                },
                divergence: mean_of(&compared.divergences),
                choice: None,
                prompt_reading,
            });
            self.pause(Some(trial)).await?;
        }
        self.writing = 0;
        Ok(())
    }

    /// The reading of the last prompt token, where it is asked for.
    fn reading(&self, answer: &Answer) -> Vec<f32> {
        let Some(direction) = self.study.setup.direction else {
            return Vec::new();
        };
        let readings = &answer.records[answer.prompt_length - 1].readings;
        let start = direction * readings.layer_rows;
        let own = readings.values.get(start..start + readings.layer_rows);
        own.unwrap_or_default().to_vec()
    }

    /// What an answer costs. The likelihood of an unsteered one is known from its writing.
    async fn cost(&mut self, trial: usize, question: usize, answer: &Answer) -> Step<Compared> {
        let Trial {
            plan,
            system,
            divergence,
            ..
        } = self.trial(trial).clone();
        if plan.is_empty() || answer.tokens.is_empty() {
            return Ok(Compared {
                logprobs: own_logprobs(answer),
                divergences: vec![0.0; answer.tokens.len()],
            });
        }
        let mut tokens = self.prompt(system.as_deref(), question)?;
        let prompt_length = tokens.len();
        tokens.extend(&answer.tokens);
        let request = CompareRequest {
            unsteered: SequenceIndex(answer.sequence.0 + 1),
            steered: divergence.then_some((answer.sequence, &plan)),
            tokens: &tokens,
            prompt_length,
        };
        self.compare(&request).await
    }

    /// Measures how likely an answer is in every context that could have written it: after both system prompts of each pair,
    /// whose difference is its evidence, and alone. Asks the third witness where the trial wants it.
    async fn measure(&mut self, trial: usize, question: usize) -> Step<()> {
        let (pairs, asks) = {
            let trial = self.trial(trial);
            (trial.pairs.clone(), trial.choice)
        };
        let answer = self.records[trial][question].clone().unwrap_or_default();
        let tokens = answer.tokens();
        let mut likelihoods = answer.likelihoods;
        for (sign, at) in [(true, 1), (false, 0)] {
            let mut sum = 0.0;
            for &pair in pairs.iter().rev() {
                let instructions = &self.study.setup.pairs[pair];
                let instruction = match sign {
                    true => &instructions.positive,
                    false => &instructions.negative,
                };
                let prompt = self.prompt(Some(instruction), question)?;
                // Each system prompt in a sequence of its own, as far as there are any.
                let likelihood = self.likelihood(2 * pair + at, prompt, &tokens).await?;
                sum += mean_of(&likelihood).unwrap_or(0.0);
            }
            let mean = (!pairs.is_empty()).then(|| sum / pairs.len() as f64);
            match sign {
                true => likelihoods.positive = mean,
                false => likelihoods.negative = mean,
            }
        }
        // The first token is told by nothing.
        if let [first, rest @ ..] = &tokens[..] {
            let alone = self.likelihood(2 * pairs.len(), vec![*first], rest).await?;
            likelihoods.alone = mean_of(&alone);
        }
        let choice = match &self.study.setup.choice {
            Some(words) if asks => self.choice(&words.clone(), &answer.text).await?,
            _ => None,
        };
        if let Some(answer) = &mut self.records[trial][question] {
            answer.likelihoods = likelihoods;
            answer.choice = choice;
        }
        self.pause(Some(trial)).await
    }

    /// Log-odds of the first of two words as what describes a text, the mean over both orders.
    async fn choice(&mut self, words: &[String; 2], text: &str) -> Step<Option<f64>> {
        let mut odds = 0.0;
        for [first, second] in [[0, 1], [1, 0]] {
            let asked = format!(
                "Here is an answer:\n\n\"{text}\"\n\nWhich describes it better: {} or {}?",
                words[first], words[second]
            );
            let prompt = self.chat.prompt(&[message("user", &asked)])?.tokens;
            for (word, sign) in [(0, 0.5), (1, -0.5)] {
                let tokens = self.chat.encode(&words[word])?;
                let likelihood = self.likelihood(first, prompt.clone(), &tokens).await?;
                odds += sign * likelihood.iter().copied().map(f64::from).sum::<f64>();
            }
        }
        Ok(Some(odds))
    }

    /// Log-likelihood of each token of `answer` after `prompt` under the unsteered model. `sequence` is counted round.
    async fn likelihood(
        &mut self,
        sequence: usize,
        prompt: Vec<TokenId>,
        answer: &[TokenId],
    ) -> Step<Vec<f32>> {
        if answer.is_empty() {
            return Ok(Vec::new());
        }
        let prompt_length = prompt.len();
        let mut tokens = prompt;
        tokens.extend(answer);
        let request = CompareRequest {
            unsteered: SequenceIndex((sequence % self.engine.info().sequences) as u32),
            steered: None,
            tokens: &tokens,
            prompt_length,
        };
        Ok(self.compare(&request).await?.logprobs)
    }

    async fn compare(&mut self, request: &CompareRequest<'_>) -> Step<Compared> {
        let mut comparison = Comparison::start(self.engine, request).await?;
        while comparison.next(self.engine).await? {
            self.pause(None).await?;
        }
        Ok(comparison.finish())
    }

    /// Tells what is new, of `changed` what its answers came to, and goes on unless it was asked to stop.
    async fn pause(&mut self, changed: Option<usize>) -> Step<()> {
        let now = self.watch.seconds();
        if let Some(trial) = changed {
            self.tell_row(trial);
            if self.keep.due(now) {
                self.tell_records();
            }
        }
        let told = self.told;
        if told != Some(self.phase()) || self.tell.due(now) {
            self.tell_progress();
        }
        self.watch.go_on().await
    }

    fn progress(&self) -> TrialProgress {
        let made = |trial| self.made.contains(&trial);
        TrialProgress::of(&self.study.setup, &self.records, self.writing, made)
    }

    /// All answers of a stage are written before the first is measured.
    fn phase(&self) -> (StudyPhase, usize) {
        let progress = self.progress();
        if progress.written < progress.answers {
            (StudyPhase::Writing, progress.written)
        } else {
            (StudyPhase::Measuring, progress.measured)
        }
    }

    fn tell_progress(&mut self) {
        let (phase, done) = self.phase();
        self.told = Some((phase, done));
        let progress = self.progress();
        let (passes, of) = (progress.passes_done, progress.passes_total);
        self.watch.tell(Event::Study(StudyEvent::Progress {
            phase,
            done,
            total: progress.answers,
            seconds_left: self.pace.seconds_left(self.watch.seconds(), passes, of),
        }));
    }

    fn tell_row(&mut self, trial: usize) {
        if self.records[trial].iter().all(Option::is_some)
            && let Some(row) = (self.row_of)(&self.records, trial)
        {
            self.watch.tell(Event::Study(StudyEvent::Row { row }));
        }
    }

    fn tell_records(&mut self) {
        if let Some(records) = self.known.write(&self.study.keys, &self.records) {
            self.watch
                .tell(Event::Study(StudyEvent::Records { records }));
        }
    }
}
