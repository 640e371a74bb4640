//! Training an adapter, a part of a micro-batch at a time, so that a run can be watched, paused and stopped.

use crate::failure::Failure;
use crate::session::Session;
use crate::training::{
    HeldOut, TrainEvent, TrainRequest, TrainSettings, TrainStep, Trained, TraitPenalty,
};
use crate::verbs::Event;
use crate::watch::{Every, Halt, Pace, Watch};
use trimtab_checkpoint::adapter::{AboutAdapter, AdapterSettings, LowRank};
use trimtab_checkpoint::{ModelConfig, adapter};
use trimtab_engine::train::{
    Adapter, AdapterConfig, BaseModel, Example, OptimiserSettings, Penalty, Progress, Settings,
    Target, Trainer, TrainingState, kernels,
};
use trimtab_engine::{Backend, Layer, SteeringPlan};
use trimtab_persona::training::{example, is_held_out};
use trimtab_persona::trait_vector::sha256;

/// Longest time between two states that are told, in seconds.
const KEEP_EVERY: f64 = 30.0;
/// Rows by which the held-out loss is measured at most.
const HELD_OUT_ROWS: usize = 24;
/// The first block that gets an adapter, as a share of the depth: below the layers at which traits are read.
const LOWEST_BLOCK: f64 = 0.27;
/// Length of the base model's name before a run's state.
const NAME_BYTES: usize = 64;

impl TrainSettings {
    fn adapter(&self, model: &ModelConfig) -> AdapterConfig {
        let lowest = (LOWEST_BLOCK * model.layers as f64) as usize;
        let [first, last] = self
            .blocks
            .unwrap_or([lowest, model.layers.saturating_sub(1)]);
        AdapterConfig {
            rank: self.rank.unwrap_or(8),
            alpha: self.alpha.unwrap_or(16.0),
            rank_stabilised: self.rank_stabilised.unwrap_or(false),
            targets: self.targets.clone().unwrap_or_else(|| Target::ALL.to_vec()),
            blocks: first..last.saturating_add(1),
        }
    }

    fn run(&self, penalty: Option<Penalty>) -> Settings {
        let usual = Settings::default();
        let optimiser = OptimiserSettings {
            learning_rate: self.learning_rate.unwrap_or(usual.optimiser.learning_rate),
            warmup_steps: self.warmup_steps.unwrap_or(usual.optimiser.warmup_steps),
            ..usual.optimiser
        };
        Settings {
            epochs: self.epochs.unwrap_or(usual.epochs),
            examples_a_step: self.rows_a_step.unwrap_or(usual.examples_a_step),
            shuffle: Some(self.seed.unwrap_or(0)),
            optimiser,
            penalty,
            ..usual
        }
    }
}

/// A run, and what it needs to report.
struct Run<'a> {
    trainer: Trainer,
    held_out: Vec<Example>,
    plan: SteeringPlan,
    found: Vec<HeldOut>,
    steps: Vec<TrainStep>,
    /// Name of the base model.
    model: String,
    watch: &'a mut dyn Watch,
}

impl Session {
    /// Trains an adapter of the session's model.
    ///
    /// # Errors
    /// Rows, settings or a plan that do not fit; a stop, as a failure that says how far the run came, after its state was told.
    pub async fn train(
        &mut self,
        request: TrainRequest,
        watch: &mut dyn Watch,
    ) -> Result<Trained, Failure> {
        let Some(model) = self.engine.base_model() else {
            return Err(Failure::usage(
                "training runs on the processor, and the model is on the graphics device; switch to the CPU and try again",
            ));
        };
        if !self.engine.adapters().is_empty() {
            return Err(Failure::usage(
                "an adapter is trained beside the base model alone; leave the other adapters out",
            ));
        }
        let settings = &request.settings;
        if settings.rank.is_some_and(|rank| rank > adapter::MAX_RANK) {
            let most = adapter::MAX_RANK;
            return Err(Failure::usage(format!("the rank may be {most} at most")));
        }
        let share = settings.held_out.unwrap_or(0.0);
        if !(0.0..=0.5).contains(&share) {
            return Err(Failure::usage("hold out between none and half of the rows"));
        }
        let end_tokens = self.end_tokens();
        let (mut rows, mut held_out) = (Vec::new(), Vec::new());
        for (number, row) in request.rows.iter().enumerate() {
            let refused = |reason: String| Failure::usage(format!("row {}: {reason}", number + 1));
            let example = example(&self.chat, &end_tokens, row)
                .map_err(|error| refused(error.to_string()))?;
            let context = self.engine.info().context;
            if example.tokens.len() > context {
                let length = example.tokens.len();
                return Err(refused(format!(
                    "it has {length} tokens, more than the {context} that are read; shorten it"
                )));
            }
            match is_held_out(number, share) {
                true => held_out.push(example),
                false => rows.push(example),
            }
        }
        held_out.truncate(HELD_OUT_ROWS);
        let trained_on = rows.len();
        let plan = self.plan(&request.plan)?;
        let penalty = request.penalty.as_ref();
        let penalty = penalty.map(|penalty| self.penalty(penalty)).transpose()?;
        let own = settings.adapter(model.config());
        let adapter = Adapter::new(&model, own, settings.seed.unwrap_or(0))?;
        let run_settings = settings.run(penalty);
        let mut trainer = Trainer::new(
            model.clone(),
            kernels(Backend::Cpu)?,
            adapter,
            rows,
            &plan,
            run_settings.clone(),
        )?;
        if let Some(state) = &request.state {
            trainer.resume(TrainingState::from_bytes(self.own_state(&state.0)?)?)?;
        }
        let mut run = Run {
            trainer,
            held_out,
            plan,
            found: Vec::new(),
            steps: Vec::new(),
            model: self.sha256.clone(),
            watch,
        };
        let outcome = run.all().await;
        let Run {
            trainer,
            found,
            steps,
            ..
        } = run;
        outcome.map_err(|halt| {
            let (done, all) = (trainer.steps_done(), trainer.steps());
            halt.failure(&format!(
                ": {done} of {all} steps are done. They are kept; go on whenever you like"
            ))
        })?;
        let about = AboutAdapter {
            model_sha256: Some(self.sha256.clone()),
            data_sha256: request.data_sha256.clone(),
            plan: plan_text(&request),
            made: made(&request, &run_settings, &trainer, trained_on),
            seed: Some(settings.seed.unwrap_or(0)),
            licence: None,
        };
        let files = as_file(trainer.adapter(), &model, about);
        let [config, weights] = files.to_files(model.config(), &self.name)?;
        Ok(Trained {
            sha256: sha256(&weights),
            config,
            weights,
            steps,
            held_out: found,
            rows: trained_on,
        })
    }

    /// A run's state without the name of the model before it, which has to be the loaded one's.
    fn own_state<'a>(&self, state: &'a [u8]) -> Result<&'a [u8], Failure> {
        match state.split_at_checked(NAME_BYTES) {
            Some((model, state)) if model == self.sha256.as_bytes() => Ok(state),
            _ => Err(Failure::usage(
                "what was kept is of a training of another model",
            )),
        }
    }

    fn penalty(&self, penalty: &TraitPenalty) -> Result<Penalty, Failure> {
        let TraitPenalty {
            vector,
            layer,
            weight,
        } = penalty;
        self.check_layer(*layer)?;
        let known = self.vectors().iter().find(|one| one.name == *vector);
        let known =
            known.ok_or_else(|| Failure::usage(format!("there is no trait {vector:?} here")))?;
        Ok(Penalty {
            layer: Layer(*layer),
            direction: known.table.row(Layer(*layer)).to_vec(),
            weight: *weight,
        })
    }
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), Halt> {
        let outcome = self.steps().await;
        // Also of a run that was stopped or failed: nothing is lost but the step under way.
        self.tell_state();
        outcome
    }

    async fn steps(&mut self) -> Result<(), Halt> {
        let now = self.watch.seconds();
        let mut keep = Every::new(KEEP_EVERY, now);
        let steps = self.trainer.steps();
        let pace = Pace::new(now, self.trainer.steps_done() as usize);
        let an_epoch = steps.div_ceil(self.trainer.epochs().max(1)).max(1);
        self.measure().await?;
        loop {
            self.watch.go_on().await?;
            let step = match self.trainer.advance()? {
                Progress::Part | Progress::MicroBatch { .. } => continue,
                Progress::Step(step) => step,
                Progress::Finished => return Ok(()),
            };
            let step = TrainStep {
                step: step.step,
                loss: step.loss,
                penalty: step.penalty,
                learning_rate: step.learning_rate,
                tokens: step.tokens,
            };
            self.steps.push(step);
            let now = self.watch.seconds();
            let seconds_left = pace.seconds_left(now, step.step as usize, steps as usize);
            self.watch.tell(Event::Train(TrainEvent::Step {
                step,
                steps,
                seconds_left,
            }));
            if step.step.is_multiple_of(an_epoch) || step.step == steps {
                self.measure().await?;
            }
            if keep.due(now) {
                self.tell_state();
            }
        }
    }

    /// The held-out loss, with the adapter as it is.
    async fn measure(&mut self) -> Result<(), Halt> {
        if self.held_out.is_empty() {
            return Ok(());
        }
        let none = SteeringPlan::default();
        let pushed = !self.plan.terms.is_empty();
        let plans = [Some(&none), pushed.then_some(&self.plan)];
        let mut losses = [None; 2];
        for (loss, plan) in losses.iter_mut().zip(plans) {
            let Some(plan) = plan else { continue };
            let (mut sum, mut count) = (0.0, 0.0);
            for example in &self.held_out {
                self.watch.go_on().await?;
                if let Some(loss) = self.trainer.loss(example, plan)? {
                    let tokens = example.predicted() as f64;
                    sum += loss * tokens;
                    count += tokens;
                }
            }
            *loss = (count > 0.0).then(|| sum / count);
        }
        let [Some(loss), pushed] = losses else {
            return Ok(());
        };
        let held_out = HeldOut {
            step: self.trainer.steps_done(),
            loss,
            pushed,
        };
        self.found.push(held_out);
        self.watch.tell(Event::Train(TrainEvent::HeldOut(held_out)));
        Ok(())
    }

    fn tell_state(&mut self) {
        self.watch.tell(Event::Train(TrainEvent::State {
            state: [self.model.as_bytes(), &self.trainer.state().to_bytes()].concat(),
            step: self.trainer.steps_done(),
        }));
    }
}

fn plan_text(request: &TrainRequest) -> String {
    let terms: Vec<String> = request.plan.iter().map(ToString::to_string).collect();
    terms.join(" ")
}

/// How an adapter was made, in words.
fn made(request: &TrainRequest, settings: &Settings, trainer: &Trainer, rows: usize) -> String {
    let config = trainer.adapter().config();
    let mut push = match request.plan.is_empty() {
        true => "without a push".to_owned(),
        false => format!("under {}", plan_text(request)),
    };
    if let Some(penalty) = &request.penalty {
        push += &format!(
            ", with a penalty of {} on {} at layer {}",
            penalty.weight, penalty.vector, penalty.layer
        );
    }
    format!(
        "trained on {rows} rows in {} steps of {} {push}; rank {}, α {}, blocks {} to {}, learning rate {}, seed {}",
        trainer.steps(),
        settings.examples_a_step,
        config.rank,
        config.alpha,
        config.blocks.start,
        config.blocks.end.saturating_sub(1),
        settings.optimiser.learning_rate,
        settings.shuffle.unwrap_or(0),
    )
}

/// The adapter as it is kept.
fn as_file(trained: &Adapter, model: &BaseModel, about: AboutAdapter) -> adapter::Adapter {
    let config = trained.config();
    let parts = trained.modules().iter().filter_map(|module| {
        let (matrix, _) = module.matrices.first()?;
        Some(LowRank {
            module: module.name.clone(),
            block: module.block,
            role: model.pass().matrix(*matrix).role,
            scale: config.scale(),
            rank: config.rank,
            a: trained.a(module).to_vec(),
            b: trained.b(module).to_vec(),
        })
    });
    adapter::Adapter {
        settings: AdapterSettings {
            rank: config.rank,
            alpha: f64::from(config.alpha),
            rank_stabilised: config.rank_stabilised,
        },
        parts: parts.collect(),
        about,
    }
}
