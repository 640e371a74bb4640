//! The engine: an executor, and the conversations whose caches it holds.

use crate::adapter::{AdapterTerm, AppliedAdapter};
use crate::cpu::CpuExecutor;
use crate::error::EngineError;
use crate::executor::{Batch, BatchRecord, Execute, Head, Limits, Row, TokenSource, Want};
use crate::gpu::{Assumptions, GpuExecutor};
use crate::index::{Layer, Position, SequenceIndex, TokenId};
use crate::op::{ForwardPass, Value};
use crate::reading::Reading;
use crate::record::{MAX_DIRECTIONS, TokenRecord};
#[cfg(not(target_family = "wasm"))]
use crate::reference::ReferenceExecutor;
use crate::sequence::{ActivePlan, CachedToken, ChangeSlots, Sequence};
use crate::steering::{LayerTable, SteeringPlan};
use crate::train::BaseModel;
pub use crate::types::{
    Backend, Clock, EngineInfo, EngineOptions, LoadProgress, Precision, ReadOutcome, ReadRequest,
    Scoring,
};
use crate::weights::Weights;
use std::borrow::Cow;
use std::sync::Arc;
use trimtab_checkpoint::family::Family;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile, adapter};

#[derive(Debug)]
enum Executor {
    Cpu(Box<CpuExecutor>),
    /// The page never asks for it, and need not download it.
    #[cfg(not(target_family = "wasm"))]
    Reference(Box<ReferenceExecutor>),
    Gpu(Box<GpuExecutor>),
}

/// Calls the same method on whichever executor there is.
macro_rules! on_executor {
    ($executor:expr, $name:ident => $call:expr) => {
        match $executor {
            Executor::Cpu($name) => $call,
            #[cfg(not(target_family = "wasm"))]
            Executor::Reference($name) => $call,
            Executor::Gpu($name) => $call,
        }
    };
}

#[cfg(not(target_family = "wasm"))]
fn seconds() -> f64 {
    use std::sync::LazyLock;
    use std::time::Instant;
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGUN.elapsed().as_secs_f64()
}

#[derive(Debug)]
pub struct Engine {
    /// None in a browser until the page lends its own.
    clock: Option<Clock>,
    config: ModelConfig,
    parameters: u64,
    info: EngineInfo,
    executor: Executor,
    sequences: Vec<Sequence>,
    slots: ChangeSlots,
    /// Those that act in every plan.
    adapters: Vec<AdapterTerm>,
    /// Batches submitted and not yet collected.
    in_flight: usize,
}

/// The configuration as the weights have it and as texts of up to `context` tokens need it, and its forward pass.
pub(crate) async fn fitted<S: ByteSource>(
    config: &ModelConfig,
    weights: &WeightFile<S>,
    context: usize,
) -> Result<(ModelConfig, ForwardPass), EngineError> {
    let family = Family::of(config)?;
    // The head of the file, where it is another than the embedding that the configuration names.
    let own_head = config.tied_embeddings && weights.has_own_head(family).await?;
    let config = ModelConfig {
        tied_embeddings: config.tied_embeddings && !own_head,
        // A window that is as long as any text hides nothing.
        sliding_window: config.sliding_window.filter(|window| *window < context),
        ..config.clone()
    };
    family.check_names(&config, weights.names())?;
    let pass = ForwardPass::of(&config)?;
    Ok((config, pass))
}

impl Engine {
    /// Builds an executor and loads the weights into it, tensor by tensor.
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, EngineError> {
        Self::load_assuming(config, weights, options, Assumptions::default(), progress).await
    }

    /// As [`Self::load`], but a GPU is not asked about what is assumed of it: so that one adapter can run the kernels
    /// as another would be given them.
    pub async fn load_assuming<S: ByteSource>(
        config: &ModelConfig,
        weights: &WeightFile<S>,
        options: EngineOptions,
        assumptions: Assumptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Self, EngineError> {
        let context = options.context.unwrap_or(config.context);
        let (config, pass) = fitted(config, weights, context).await?;
        let config = &config;
        let weights_of_pass = pass.matrices.iter().chain(&pass.vectors);
        let parameters = weights_of_pass
            .map(|weight| weight.rows as u64 * weight.cols as u64)
            .sum();
        if options.sequences == 0 {
            return Err(EngineError::Usage(
                "an engine needs room for at least one sequence".into(),
            ));
        }
        let (executor, info) = match options.backend {
            Backend::Cpu => {
                let (cpu, info) =
                    CpuExecutor::load(config, pass, weights, options, progress).await?;
                (Executor::Cpu(Box::new(cpu)), info)
            }
            #[cfg(target_family = "wasm")]
            Backend::Reference => {
                return Err(EngineError::Usage(
                    "the reference executor is not part of the page".into(),
                ));
            }
            #[cfg(not(target_family = "wasm"))]
            Backend::Reference => {
                let (reference, info) =
                    ReferenceExecutor::load(config, pass, weights, options, progress).await?;
                (Executor::Reference(Box::new(reference)), info)
            }
            Backend::Gpu => {
                let (gpu, info) =
                    GpuExecutor::load(config, &pass, weights, options, assumptions, progress)
                        .await?;
                (Executor::Gpu(Box::new(gpu)), info)
            }
        };
        let limits = on_executor!(&executor, executor => executor.limits());
        Ok(Self {
            #[cfg(not(target_family = "wasm"))]
            clock: Some(seconds),
            #[cfg(target_family = "wasm")]
            clock: None,
            config: config.clone(),
            parameters,
            info,
            executor,
            sequences: vec![Sequence::default(); limits.sequences],
            slots: ChangeSlots::new(limits.change_slots),
            adapters: Vec::new(),
            in_flight: 0,
        })
    }

    /// By what answers are timed, which decides how far they run ahead of whoever reads them.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    pub(crate) fn now(&self) -> Option<f64> {
        self.clock.map(|clock| clock())
    }

    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Numbers that were trained: those of all weights, a tied head counted once.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// `L + 1`.
    pub fn layer_rows(&self) -> usize {
        self.config.layers + 1
    }

    pub fn last_layer(&self) -> Layer {
        Layer(self.config.layers as u32)
    }

    pub fn limits(&self) -> Limits {
        on_executor!(&self.executor, executor => executor.limits())
    }

    /// The model for training beside this engine, sharing its weights; `None` where these are on a GPU.
    pub fn base_model(&self) -> Option<BaseModel> {
        let (pass, weights) = self.in_host_memory()?;
        Some(BaseModel::new(
            self.config.clone(),
            Arc::clone(pass),
            Arc::clone(weights),
        ))
    }

    /// The GPU's executor, for its instruments; `None` on the CPU.
    pub fn gpu(&self) -> Option<&GpuExecutor> {
        match &self.executor {
            Executor::Gpu(gpu) => Some(gpu),
            _ => None,
        }
    }

    /// As [`Self::gpu`], with nothing under way and sequence 0 forgotten, so that an instrument may use it.
    pub(crate) async fn idle_gpu(&mut self) -> Result<Option<&mut GpuExecutor>, EngineError> {
        self.drain().await?;
        self.clear(SequenceIndex(0))?;
        match &mut self.executor {
            Executor::Gpu(gpu) => Ok(Some(gpu)),
            _ => Ok(None),
        }
    }

    /// Sets the directions to read (normalised here), in the order in which readings report them.
    /// Sequences read before are read again when they are next asked for.
    pub fn set_directions(&mut self, vectors: &[LayerTable]) -> Result<(), EngineError> {
        if vectors.len() > MAX_DIRECTIONS {
            return Err(EngineError::TooManyDirections {
                asked: vectors.len(),
                max: MAX_DIRECTIONS,
            });
        }
        for vector in vectors {
            self.check_table(vector)?;
        }
        let normalised: Vec<_> = vectors.iter().map(LayerTable::normalised).collect();
        on_executor!(&mut self.executor, executor => executor.set_directions(&normalised))?;
        self.sequences
            .iter_mut()
            .for_each(|sequence| sequence.truncate(0));
        Ok(())
    }

    /// Reads a whole sequence; see [`ReadRequest`]. `progress` hears (tokens done, tokens to do). A
    /// caller that wants to do something in between drives a [`Reading`] instead.
    pub async fn read(
        &mut self,
        request: &ReadRequest<'_>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<ReadOutcome, EngineError> {
        let mut reading = Reading::start(self, request).await?;
        progress(reading.done(), request.tokens.len());
        while reading.next(self).await? {
            progress(reading.done(), request.tokens.len());
        }
        Ok(reading.finish(self))
    }

    /// Forgets a sequence.
    pub fn clear(&mut self, sequence: SequenceIndex) -> Result<(), EngineError> {
        self.sequence(sequence)?;
        self.share(sequence, sequence, 0)
    }

    /// Makes `to` hold what `from` holds, without computing or copying it. What is then added to either does not concern
    /// the other.
    pub async fn fork(
        &mut self,
        from: SequenceIndex,
        to: SequenceIndex,
    ) -> Result<(), EngineError> {
        self.drain().await?;
        self.sequence(to)?;
        let length = self.sequence(from)?.tokens.len();
        self.share(from, to, length)
    }

    /// Makes `to` hold the first `length` tokens of `from`.
    fn share(
        &mut self,
        from: SequenceIndex,
        to: SequenceIndex,
        length: usize,
    ) -> Result<(), EngineError> {
        on_executor!(&mut self.executor, executor => executor.fork(from, to, length))?;
        let mut tokens = self.sequences[from.index()].tokens[..length].to_vec();
        for token in &mut tokens {
            token.record.sequence = to;
        }
        self.sequences[to.index()] = Sequence { tokens };
        Ok(())
    }

    pub(crate) fn sequence(&self, sequence: SequenceIndex) -> Result<&Sequence, EngineError> {
        self.sequences.get(sequence.index()).ok_or_else(|| {
            let count = self.sequences.len();
            EngineError::Usage(format!(
                "sequence {} does not exist: this engine holds {count}",
                sequence.0
            ))
        })
    }

    pub(crate) fn records(&self, sequence: SequenceIndex) -> Vec<TokenRecord> {
        self.sequences[sequence.index()]
            .tokens
            .iter()
            .map(|token| token.record.clone())
            .collect()
    }

    /// Fails unless the table has a vector of the right width for every layer.
    fn check_table(&self, table: &LayerTable) -> Result<(), EngineError> {
        let value = Value::at(table.place());
        Ok(table.check_shape(self.layer_rows(), value.width(&self.config))?)
    }

    /// An adapter of a file, to be named in plans.
    ///
    /// # Errors
    /// An adapter of another model, and an engine on a GPU, where none runs.
    pub fn adapter(&self, file: &adapter::Adapter) -> Result<Arc<AppliedAdapter>, EngineError> {
        let Some((pass, _)) = self.in_host_memory() else {
            return Err(EngineError::Usage(
                "adapters run on the processor, and the model is on the graphics device; choose the CPU".into(),
            ));
        };
        Ok(Arc::new(AppliedAdapter::new(pass, file)?))
    }

    /// From now on these act in every plan, the empty one included, so that the engine's model is the tuned one.
    ///
    /// # Errors
    /// As [`Self::adapter`].
    pub fn set_adapters(&mut self, adapters: Vec<AdapterTerm>) -> Result<(), EngineError> {
        self.check_adapters(&adapters)?;
        self.adapters = adapters;
        Ok(())
    }

    /// Those that act in every plan.
    pub fn adapters(&self) -> &[AdapterTerm] {
        &self.adapters
    }

    /// Forward pass and weights of an executor in host memory.
    fn in_host_memory(&self) -> Option<(&Arc<ForwardPass>, &Arc<Weights>)> {
        match &self.executor {
            Executor::Cpu(cpu) => Some((cpu.model().pass(), cpu.model().weights())),
            #[cfg(not(target_family = "wasm"))]
            Executor::Reference(reference) => {
                Some((reference.model().pass(), reference.model().weights()))
            }
            Executor::Gpu(_) => None,
        }
    }

    fn check_adapters(&self, adapters: &[AdapterTerm]) -> Result<(), EngineError> {
        let fits = |term: &AdapterTerm| {
            let pass = self.in_host_memory();
            pass.is_some_and(|(pass, _)| term.adapter.is_for(pass))
        };
        match adapters.iter().all(fits) {
            true => Ok(()),
            false => Err(EngineError::Usage(
                "an adapter of the plan was made for another model or executor".into(),
            )),
        }
    }

    pub(crate) fn activate(&self, plan: &SteeringPlan) -> Result<ActivePlan, EngineError> {
        for term in &plan.terms {
            self.check_table(&term.vector)?;
        }
        self.check_adapters(&plan.adapters)?;
        // As a rule there are none, and the plan is taken as it is.
        let mut tuned = Cow::Borrowed(plan);
        if !self.adapters.is_empty() {
            let plan = tuned.to_mut();
            plan.adapters.splice(0..0, self.adapters.iter().cloned());
        }
        Ok(ActivePlan::new(
            &tuned,
            self.layer_rows(),
            self.config.hidden_size,
        )?)
    }

    pub(crate) fn check_tokens(
        &self,
        sequence: SequenceIndex,
        tokens: &[TokenId],
    ) -> Result<(), EngineError> {
        self.sequence(sequence)?;
        let vocab = self.config.vocab_size;
        if let Some(token) = tokens.iter().find(|token| token.0 as usize >= vocab) {
            return Err(EngineError::NoSuchToken {
                token: token.0,
                vocab,
            });
        }
        if tokens.len() > self.info.context {
            return Err(EngineError::ContextFull {
                tokens: tokens.len(),
                context: self.info.context,
                unscaled: self.config.rotary.longest() == Some(self.info.context),
                longest: self.config.context <= self.info.context,
            });
        }
        Ok(())
    }

    /// Makes the sequence hold the longest beginning of `tokens` under `plan` that any sequence already holds, and says how
    /// long that is. `usable` may veto a cached token.
    pub(crate) fn reuse(
        &mut self,
        sequence: SequenceIndex,
        tokens: &[TokenId],
        prompt_length: usize,
        plan: &ActivePlan,
        usable: impl Fn(&Sequence, usize) -> bool,
    ) -> Result<usize, EngineError> {
        let held = |cached: &Sequence| {
            let alike = cached.tokens.iter().zip(tokens).enumerate();
            alike
                .take_while(|&(index, (held, token))| {
                    held.record.token == *token
                        && held.fingerprint == plan.effect(index, prompt_length).fingerprint()
                        && usable(cached, index)
                })
                .count()
        };
        let length = held(&self.sequences[sequence.index()]);
        let others = (0..).map(SequenceIndex).zip(&self.sequences);
        let longest = others.map(|(other, cached)| (held(cached), other)).max();
        match longest.filter(|(longer, _)| *longer > length) {
            Some((longer, from)) => {
                self.share(from, sequence, longer)?;
                Ok(longer)
            }
            None => {
                self.sequences[sequence.index()].truncate(length);
                Ok(length)
            }
        }
    }

    /// Whether the batch in the making can take the token at `index`, too, for the changes that its rows name.
    pub(crate) fn has_room(&self, index: usize, prompt_length: usize, plan: &ActivePlan) -> bool {
        let change = plan.effect(index, prompt_length).change();
        change.is_none_or(|change| self.slots.has_room(change.fingerprint))
    }

    /// A row for the token at `index`, its steering change made resident until the next batch is submitted.
    pub(crate) fn row(
        &mut self,
        sequence: SequenceIndex,
        index: usize,
        token: impl Into<TokenSource>,
        prompt_length: usize,
        plan: &ActivePlan,
        want: Want,
    ) -> Result<Row, EngineError> {
        let change = match plan.effect(index, prompt_length).change() {
            None => None,
            Some(change) => {
                let placed = self.slots.place(change.fingerprint);
                let (slot, resident) = placed.ok_or_else(|| {
                    EngineError::Usage(
                        "one batch names more different pushes than this engine holds".into(),
                    )
                })?;
                if !resident {
                    on_executor!(&mut self.executor, executor => executor.set_change(slot, change))?;
                }
                Some(slot)
            }
        };
        Ok(Row {
            sequence,
            position: Position(index as u32),
            token: token.into(),
            change,
            want,
        })
    }

    /// Tells the executor which tokens the repetition penalty counts.
    pub(crate) fn set_seen(
        &mut self,
        sequence: SequenceIndex,
        tokens: &[TokenId],
    ) -> Result<(), EngineError> {
        on_executor!(&mut self.executor, executor => executor.set_seen(sequence, tokens))
    }

    pub(crate) async fn submit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        self.slots.begin_batch();
        on_executor!(&mut self.executor, executor => executor.submit(batch).await)?;
        self.in_flight += 1;
        Ok(())
    }

    pub(crate) async fn collect(&mut self) -> Result<BatchRecord, EngineError> {
        let record = on_executor!(&mut self.executor, executor => executor.collect().await);
        self.in_flight = self.in_flight.saturating_sub(1);
        let record = record?;
        for token in &record.tokens {
            if token
                .prediction
                .as_ref()
                .is_some_and(|prediction| !prediction.chosen_logprob.is_finite())
            {
                return Err(EngineError::NotFinite {
                    position: token.position.0,
                    backend: self.info.backend,
                });
            }
        }
        Ok(record)
    }

    /// Waits for batches that an abandoned run left behind.
    pub(crate) async fn drain(&mut self) -> Result<(), EngineError> {
        self.slots.begin_batch();
        while self.in_flight > 0 {
            self.collect().await?;
        }
        Ok(())
    }

    /// Notes that `row` now lies in its sequence's cache.
    pub(crate) fn cache(
        &mut self,
        row: &Row,
        mut record: TokenRecord,
        prompt_length: usize,
        plan: &ActivePlan,
    ) {
        let index = row.position.0 as usize;
        let scored = match (row.want.head, &mut record.prediction) {
            (Head::Score(target) | Head::Compare(target), _) => Some(target),
            // A sampled token has been scored by the way.
            (Head::Sample(_), Some(prediction)) => {
                prediction.target_logprob = prediction.chosen_logprob;
                Some(prediction.chosen)
            }
            _ => None,
        };
        let fingerprint = plan.effect(index, prompt_length).fingerprint();
        let sequence = &mut self.sequences[row.sequence.index()];
        sequence.truncate(index);
        sequence.tokens.push(CachedToken {
            fingerprint,
            scored,
            record,
        });
    }
}

impl From<TokenId> for TokenSource {
    fn from(token: TokenId) -> Self {
        Self::Id(token)
    }
}
