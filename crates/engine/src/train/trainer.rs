//! The loop: examples in seeded order, micro-batches, steps of the optimiser. Whoever drives it calls
//! [`Trainer::advance`] and is free to yield, pause or stop between two calls.

use super::adapter::Adapter;
use super::changes::Changes;
use super::error::TrainError;
use super::example::{Example, Rows};
use super::kernels::TrainingKernels;
use super::model::BaseModel;
use super::optimiser::{Moments, clip};
use super::order::order;
use super::pass::{Pass, Shared};
use super::settings::Settings;
use super::state::{Fingerprint, TrainingState};
use super::walk::{Tensors, Walk};
use crate::op::Value;
use crate::steering::SteeringPlan;
use std::collections::HashMap;

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepReport {
    /// Counted from 1.
    pub step: u32,
    /// Mean negative log-likelihood of the step's response tokens before its change, in nats.
    pub loss: f64,
    /// Mean penalty of the step's response tokens, which is not part of `loss`.
    pub penalty: f64,
    /// The gradient's norm before it was clipped.
    pub gradient_norm: f32,
    pub learning_rate: f32,
    /// All tokens of the step's examples, and those that were predicted.
    pub tokens: usize,
    pub response_tokens: usize,
}

/// What [`Trainer::advance`] did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// A part of a micro-batch: a block there or back, or the head.
    Part,
    /// The last part of a micro-batch of so many tokens.
    MicroBatch { tokens: usize },
    /// The last part of a step's last micro-batch, and the step.
    Step(StepReport),
    /// Nothing: all steps are done.
    Finished,
}

/// A micro-batch under way.
#[derive(Debug)]
struct Running {
    pass: Pass,
    /// Numbers of its examples.
    examples: Vec<usize>,
}

/// A step under way.
#[derive(Debug, Default)]
struct Step {
    /// Numbers of the examples of each micro-batch that has not begun, the next one last.
    waiting: Vec<Vec<usize>>,
    running: Option<Running>,
    report: StepReport,
}

/// An adapter in training.
#[derive(Debug)]
pub struct Trainer {
    model: BaseModel,
    kernels: Box<dyn TrainingKernels>,
    adapter: Adapter,
    examples: Vec<Example>,
    settings: Settings,
    changes: Changes,
    moments: Moments,
    gradient: Vec<f32>,
    /// Steps done.
    done: u32,
    step: Option<Step>,
    /// States that enter the lowest adapted block, by example, `[tokens, d]`.
    kept: HashMap<usize, Vec<f32>>,
    kept_bytes: usize,
}

impl Trainer {
    /// A run from its beginning: `adapter` is trained beside `model` on `examples`, under `plan`. Examples without a response are
    /// left out.
    ///
    /// # Errors
    /// Settings, a plan or examples that do not fit the model, and examples without a response.
    pub fn new(
        model: BaseModel,
        kernels: Box<dyn TrainingKernels>,
        adapter: Adapter,
        examples: Vec<Example>,
        plan: &SteeringPlan,
        mut settings: Settings,
    ) -> Result<Self, TrainError> {
        let refused = |reason: &str| {
            Err(TrainError::Settings {
                reason: reason.into(),
            })
        };
        if settings.epochs == 0 || settings.examples_a_step == 0 {
            return refused("there must be at least one epoch, and one example a step");
        }
        if let Some(reason) = settings.optimiser.complaint() {
            return refused(&reason);
        }
        for (example, number) in examples.iter().zip(1..) {
            example.check(number, model.config())?;
        }
        // An example without a response teaches nothing.
        let teaching = examples.into_iter();
        let examples: Vec<_> = teaching.filter(|own| own.predicted() > 0).collect();
        if examples.is_empty() {
            return Err(TrainError::NothingToLearn);
        }
        let penalty = settings.penalty.take();
        let checked = penalty.map(|penalty| penalty.checked(&model, adapter.lowest_block()));
        settings.penalty = checked.transpose()?;
        let parameters = adapter.parameters().len();
        Ok(Self {
            changes: Changes::of(plan, &model)?,
            moments: Moments::zeros(parameters),
            gradient: vec![0.0; parameters],
            model,
            kernels,
            adapter,
            examples,
            settings,
            done: 0,
            step: None,
            kept: HashMap::new(),
            kept_bytes: 0,
        })
    }

    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The gradient of the micro-batches of the step under way, laid out as the adapter's parameters are.
    pub fn gradient(&self) -> &[f32] {
        &self.gradient
    }

    /// Where this runs, in words.
    pub fn runs_on(&self) -> String {
        self.kernels.name()
    }

    /// Steps that are done.
    pub fn steps_done(&self) -> u32 {
        self.done
    }

    /// Steps of all epochs.
    pub fn steps(&self) -> u32 {
        self.settings.epochs * self.steps_an_epoch()
    }

    pub fn epochs(&self) -> u32 {
        self.settings.epochs
    }

    fn steps_an_epoch(&self) -> u32 {
        self.examples.len().div_ceil(self.settings.examples_a_step) as u32
    }

    /// Tokens of one epoch.
    pub fn tokens_an_epoch(&self) -> usize {
        self.examples
            .iter()
            .map(|example| example.tokens.len())
            .sum()
    }

    /// Does the next part of the run, a fraction of a micro-batch.
    ///
    /// # Errors
    /// [`TrainError::NotFinite`] where numbers grew beyond all bounds: the adapter is then as it was before the step.
    pub fn advance(&mut self) -> Result<Progress, TrainError> {
        if self.done >= self.steps() {
            return Ok(Progress::Finished);
        }
        let mut step = match self.step.take() {
            Some(step) => step,
            None => self.begin_step(),
        };
        let mut running = match step.running.take() {
            Some(running) => running,
            None => {
                let examples = step.waiting.pop().unwrap_or_default();
                self.begin_micro_batch(examples, step.report.response_tokens)
            }
        };
        let shared = Shared {
            model: &self.model,
            kernels: &*self.kernels,
            adapter: &self.adapter,
            changes: &self.changes,
            penalty: self.settings.penalty.as_ref(),
            notes_bytes: self.settings.notes_bytes,
        };
        running.pass.advance(&shared, &mut self.gradient);
        if !running.pass.is_done() {
            step.running = Some(running);
            self.step = Some(step);
            return Ok(Progress::Part);
        }
        self.keep(&running);
        let tokens = running.pass.rows().count();
        step.report.tokens += tokens;
        step.report.loss += running.pass.loss;
        step.report.penalty += running.pass.penalty;
        if !step.waiting.is_empty() {
            self.step = Some(step);
            return Ok(Progress::MicroBatch { tokens });
        }
        self.finish_step(step.report).map(Progress::Step)
    }

    /// Goes on to the end of the step under way, or does the next one. `None` when all are done.
    ///
    /// # Errors
    /// As [`Self::advance`].
    pub fn step(&mut self) -> Result<Option<StepReport>, TrainError> {
        loop {
            match self.advance()? {
                Progress::Part | Progress::MicroBatch { .. } => {}
                Progress::Step(report) => return Ok(Some(report)),
                Progress::Finished => return Ok(None),
            }
        }
    }

    fn begin_step(&mut self) -> Step {
        self.gradient.fill(0.0);
        let an_epoch = self.steps_an_epoch();
        let (epoch, within) = (self.done / an_epoch, (self.done % an_epoch) as usize);
        let order = order(self.examples.len(), self.settings.shuffle, epoch);
        let own = order.chunks(self.settings.examples_a_step).nth(within);
        let mut waiting: Vec<Vec<usize>> = Vec::new();
        let (mut room, mut response_tokens) = (0, 0);
        for &number in own.unwrap_or_default() {
            let example = &self.examples[number];
            response_tokens += example.predicted();
            match waiting.last_mut() {
                Some(last) if example.tokens.len() <= room => last.push(number),
                _ => {
                    room = self.settings.micro_batch_tokens;
                    waiting.push(vec![number]);
                }
            }
            room = room.saturating_sub(example.tokens.len());
        }
        waiting.reverse();
        Step {
            waiting,
            running: None,
            report: StepReport {
                response_tokens,
                ..StepReport::default()
            },
        }
    }

    fn begin_micro_batch(&self, examples: Vec<usize>, response_tokens: usize) -> Running {
        let own = examples.iter().map(|number| &self.examples[*number]);
        let kept: Option<Vec<_>> = examples
            .iter()
            .map(|number| self.kept.get(number))
            .collect();
        let entry = kept.map(|kept| kept.into_iter().flatten().copied().collect());
        Running {
            pass: Pass::new(Rows::pack(own), response_tokens, entry),
            examples,
        }
    }

    /// Keeps what entered the lowest adapted block: the same in each epoch, because no adapter is below.
    fn keep(&mut self, running: &Running) {
        let Some(entry) = running.pass.entry() else {
            return;
        };
        let width = self.model.config().hidden_size;
        // The embedding is read as soon as a kept state.
        if self.adapter.lowest_block() == 0 || self.settings.epochs == 1 {
            return;
        }
        for (number, rows) in running.examples.iter().zip(&running.pass.rows().sequences) {
            let own = &entry[rows.start * width..rows.end * width];
            let bytes = size_of_val(own);
            if self.kept_bytes + bytes <= self.settings.kept_bytes
                && !self.kept.contains_key(number)
            {
                self.kept_bytes += bytes;
                self.kept.insert(*number, own.to_vec());
            }
        }
    }

    fn finish_step(&mut self, mut report: StepReport) -> Result<StepReport, TrainError> {
        let step = self.done + 1;
        let rate = self.settings.optimiser.rate(self.done, self.steps());
        let response_tokens = report.response_tokens.max(1) as f64;
        report.loss /= response_tokens;
        report.penalty /= response_tokens;
        report.gradient_norm = clip(&mut self.gradient, self.settings.optimiser.clip);
        report.learning_rate = rate;
        report.step = step;
        if !report.gradient_norm.is_finite() || !(report.loss + report.penalty).is_finite() {
            return Err(TrainError::NotFinite { step });
        }
        let parameters = self.adapter.parameters_mut();
        let settings = &self.settings.optimiser;
        self.moments
            .update(settings, (step, rate), &self.gradient, parameters);
        self.done = step;
        Ok(report)
    }

    /// The mean negative log-likelihood of the response tokens of `example`, in nats, with the adapter as it is, under `plan`;
    /// nothing is learnt from it. `None` without a response.
    ///
    /// # Errors
    /// An example or a plan that does not fit the model.
    pub fn loss(&self, example: &Example, plan: &SteeringPlan) -> Result<Option<f64>, TrainError> {
        example.check(1, self.model.config())?;
        let changes = Changes::of(plan, &self.model)?;
        let rows = Rows::pack(std::iter::once(example));
        if rows.predicting.is_empty() {
            return Ok(None);
        }
        let walk = Walk {
            model: &self.model,
            kernels: &*self.kernels,
            adapter: Some(&self.adapter),
            changes: &changes,
            penalised: None,
            rows: &rows,
        };
        let mut values = Tensors::default();
        walk.forward(&self.model.pass().body, &mut values, None);
        let loss = walk.loss(&values.take(Value::Residual), None).sum;
        Ok(Some(loss / rows.predicting.len() as f64))
    }

    /// What another [`Trainer`] of the same run goes on from: everything but the model and the examples. A step under way is
    /// not part of it; it is done again.
    pub fn state(&self) -> TrainingState {
        TrainingState {
            fingerprint: self.fingerprint(),
            step: self.done,
            parameters: self.adapter.parameters().to_vec(),
            moments: self.moments.clone(),
        }
    }

    /// Goes on from a state of the same run.
    ///
    /// # Errors
    /// [`TrainError::OtherRun`] where the state is of other examples, settings or another adapter.
    pub fn resume(&mut self, state: TrainingState) -> Result<(), TrainError> {
        let parameters = self.adapter.parameters().len();
        let refused = |reason: &str| {
            Err(TrainError::OtherRun {
                reason: reason.into(),
            })
        };
        let lengths = [
            &state.parameters,
            &state.moments.first,
            &state.moments.second,
        ];
        if lengths.iter().any(|numbers| numbers.len() != parameters) {
            return refused("its adapter has another size");
        }
        if state.fingerprint != self.fingerprint() {
            return refused("its examples or settings were others");
        }
        if state.step > self.steps() {
            return refused("it has done more steps than this run has");
        }
        self.adapter
            .parameters_mut()
            .copy_from_slice(&state.parameters);
        self.moments = state.moments;
        self.done = state.step;
        self.step = None;
        Ok(())
    }

    fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.settings, &self.changes, &self.adapter, &self.examples)
    }
}
