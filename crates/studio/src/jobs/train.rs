//! Training an adapter, a part of a micro-batch at a time, so that a run can be watched, paused and stopped.

use crate::failure::Failure;
use crate::session::Session;
use crate::training::{
    Arrival, HeldOut, TrainEvent, TrainHistory, TrainRequest, TrainSettings, TrainStep, Trained,
    TraitPenalty,
};
use crate::verbs::Event;
use crate::watch::{Every, Halt, Pace, Watch};
use trimtab_checkpoint::adapter::{AboutAdapter, AdapterSettings, LowRank};
use trimtab_checkpoint::{ModelConfig, adapter};
use trimtab_engine::train::{
    Adapter, AdapterConfig, BaseModel, Example, OptimiserSettings, Penalty, Progress, Settings,
    Target, Trainer, TrainingState, kernels,
};
use trimtab_engine::{AdapterTerm, Backend, Layer, SequenceIndex, SteeringPlan};
use trimtab_persona::bootstrap::mean;
use trimtab_persona::conversation::TokenisedConversation;
use trimtab_persona::screening::ScreenedTrait;
use trimtab_persona::shift::{Projections, ShiftUnits};
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
/// Length of the number of bytes that a run's history has, behind that name.
const LENGTH_BYTES: usize = 4;
/// Neutral answers over which shifts are read.
const WATCHED: usize = 6;
/// How often shifts are read over a whole run.
const ARRIVALS: u32 = 8;
/// The sequence that they are read in.
const WATCHING: SequenceIndex = SequenceIndex(0);

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
    session: &'a mut Session,
    trainer: Trainer,
    model: BaseModel,
    held_out: Vec<Example>,
    plan: SteeringPlan,
    watched: Watched,
    history: TrainHistory,
    watch: &'a mut dyn Watch,
}

/// What shifts are read over, and what the base model's projections there are.
#[derive(Default)]
struct Watched {
    traits: Vec<ScreenedTrait>,
    units: Vec<ShiftUnits>,
    conversations: Vec<(TokenisedConversation, Projections)>,
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
        let mut history = TrainHistory::default();
        if let Some(state) = &request.state {
            let (known, state) = self.own_state(&state.0)?;
            trainer.resume(TrainingState::from_bytes(state)?)?;
            history = known;
        }
        let watched = request.watched.unwrap_or(WATCHED);
        let watched = self.watched(watched, watch).await;
        let watched = watched.map_err(|halt| halt.failure(" before the first step"))?;
        let mut run = Run {
            trainer,
            model: model.clone(),
            held_out,
            plan,
            watched,
            history,
            session: self,
            watch,
        };
        let outcome = run.all().await;
        let Run {
            trainer, history, ..
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
            history,
            rows: trained_on,
        })
    }

    /// What a run's state says happened, and what the trainer goes on from. The state names its model, which has to be the loaded one.
    fn own_state<'a>(&self, state: &'a [u8]) -> Result<(TrainHistory, &'a [u8]), Failure> {
        let other = || Failure::usage("what was kept is of a training of another model");
        let broken = || Failure::usage("what was kept of the training is broken; begin it again");
        let (model, state) = state.split_at_checked(NAME_BYTES).ok_or_else(other)?;
        if model != self.sha256.as_bytes() {
            return Err(other());
        }
        let (length, state) = state
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or_else(broken)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (history, state) = state.split_at_checked(length).ok_or_else(broken)?;
        let history = serde_json::from_slice(history).map_err(|_| broken())?;
        Ok((history, state))
    }

    /// The first neutral answers of the base model, and its projections there; nothing where the session has no trait.
    async fn watched(&mut self, most: usize, watch: &mut dyn Watch) -> Result<Watched, Halt> {
        if most == 0 || self.vectors().is_empty() {
            return Ok(Watched::default());
        }
        let traits = self.screened_traits()?;
        let none = SteeringPlan::default();
        let mut conversations = Vec::new();
        for conversation in self.neutral_conversations(most, watch).await? {
            let base = self.projections(WATCHING, &conversation, &none, &traits);
            let base = base.await?;
            conversations.push((conversation, base));
            watch.go_on().await?;
        }
        Ok(Watched {
            units: traits.iter().map(|one| self.shift_units(one)).collect(),
            traits,
            conversations,
        })
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
        let arrivals = steps.div_ceil(ARRIVALS).max(1);
        // Before the first step, and where a stop came before what was due was measured.
        let done = self.trainer.steps_done();
        let due = |every: u32| done.is_multiple_of(every) || done == steps;
        let history = &self.history;
        let measured = history.held_out.iter().any(|one| one.step == done);
        let arrived = history.arrivals.iter().any(|one| one.step == done);
        if due(an_epoch) && !measured {
            self.measure().await?;
        }
        if due(arrivals) && !arrived {
            self.arrive().await?;
        }
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
            self.history.steps.push(step);
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
            if step.step.is_multiple_of(arrivals) || step.step == steps {
                self.arrive().await?;
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
        self.history.held_out.push(held_out);
        self.watch.tell(Event::Train(TrainEvent::HeldOut(held_out)));
        Ok(())
    }

    /// How far the adapter as it is moves the base model's own answers along every trait.
    async fn arrive(&mut self) -> Result<(), Halt> {
        if self.watched.conversations.is_empty() {
            return Ok(());
        }
        let file = as_file(self.trainer.adapter(), &self.model, AboutAdapter::default());
        let adapter = self.session.engine.adapter(&file)?;
        let tuned = SteeringPlan {
            adapters: vec![AdapterTerm {
                adapter,
                scale: 1.0,
            }],
            ..SteeringPlan::default()
        };
        let Watched {
            traits,
            units,
            conversations,
        } = &self.watched;
        let mut moved = vec![Vec::with_capacity(conversations.len()); traits.len()];
        for (conversation, base) in conversations {
            self.watch.go_on().await?;
            let now = self
                .session
                .projections(WATCHING, conversation, &tuned, traits);
            let now = now.await?;
            let both = now.response.iter().zip(&base.response).zip(units);
            for (moved, ((now, base), unit)) in moved.iter_mut().zip(both) {
                moved.push((f64::from(*now) - f64::from(*base)) / unit.response);
            }
        }
        let arrival = Arrival {
            step: self.trainer.steps_done(),
            traits: traits.iter().map(|one| one.name.clone()).collect(),
            shifts: moved.iter().map(|own| mean(own).unwrap_or(0.0)).collect(),
        };
        self.history.arrivals.push(arrival.clone());
        self.watch.tell(Event::Train(TrainEvent::Arrival(arrival)));
        Ok(())
    }

    fn tell_state(&mut self) {
        // What happened is small beside the moments.
        let history = serde_json::to_vec(&self.history).unwrap_or_default();
        let length = (history.len() as u32).to_le_bytes();
        let model = self.session.sha256.as_bytes();
        let trainer = self.trainer.state().to_bytes();
        self.watch.tell(Event::Train(TrainEvent::State {
            state: [model, &length, &history, &trainer].concat(),
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
