//! The wgpu executor: the kernels of `shaders/`, natively and in the browser.
//!
//! Everything is built before the first token. A batch writes one small uniform buffer, makes one
//! submission and reads one buffer back.

mod attention;
mod buffers;
mod compile;
#[cfg(test)]
mod contracts;
mod device;
mod fuse;
mod graph;
mod layout;
mod parts;
mod profile;
pub(crate) mod shader;
mod step;
mod upload;
pub mod variant;
mod weights;

use crate::error::EngineError;
use crate::executor::{Batch, BatchRecord, Capture, Captured, ChangeSlot, Execute, Limits, Row};
use crate::index::{Layer, Place, SequenceIndex, TokenId};
use crate::op::ForwardPass;
use crate::record::MAX_DIRECTIONS;
use crate::steering::{ComposedChange, LayerTable};
use crate::types::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use attention::AttentionShape;
use buffers::{Buffers, CHANGE_HEADER, StateBuffers, Words};
use compile::Dispatch;
pub use device::Assumptions;
use device::Device;
use futures_channel::oneshot;
use graph::{Extent, Graph, GraphShape, Matrix};
use parts::Parts;
use profile::Moved;
pub use profile::{KernelTime, Profile, Work};
use std::collections::VecDeque;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};
use upload::Uploader;
use variant::Variant;
use weights::GpuWeights;

/// Rows of a batch. A software adapter takes a second or two for sixteen, which is as long as a
/// progress bar may stand still.
const ROWS: usize = 64;
const SOFTWARE_ROWS: usize = 16;
const IN_FLIGHT: usize = 4;
/// The shortest context worth having when memory is short.
const SHORTEST_CONTEXT: usize = 256;

#[derive(Debug)]
pub struct GpuExecutor {
    device: Device,
    limits: Limits,
    state: StateBuffers,
    graph: Graph<Dispatch>,
    precision: Precision,
    variant: Variant,
    parts: Option<Parts>,
    staging: Vec<wgpu::Buffer>,
    directions: usize,
    layer_rows: usize,
    width: usize,
    vocab: usize,
    words: Words,
    /// Query heads, key/value heads, width of each.
    head_shape: [usize; 3],
    /// The data of the output head, the largest buffer there is.
    head: wgpu::Buffer,
    /// Sizes of the numbers that kernels without a matrix have to move.
    moved: Moved,
    queued: VecDeque<Queued>,
    /// Batches submitted so far; names the staging buffer of the next one.
    submitted: usize,
    dispatches: usize,
    /// Reused for every step's bytes.
    step: Vec<u8>,
}

/// A batch on its way.
#[derive(Debug)]
struct Queued {
    batch: Batch,
    directions: usize,
    staging: usize,
    records: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
    captured: Option<(
        wgpu::Buffer,
        oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
    )>,
    submission: wgpu::SubmissionIndex,
}

impl GpuExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        pass: &ForwardPass,
        weights: &WeightFile<S>,
        options: EngineOptions,
        assumptions: Assumptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        check_shape(config)?;
        let fused = fuse::fuse(pass)?;
        let device = Device::open(assumptions).await?;
        let rows = if device.software { SOFTWARE_ROWS } else { ROWS };
        let mut limits = Limits {
            rows,
            head_rows: rows,
            sequences: options.sequences,
            context: options
                .context
                .unwrap_or(config.context)
                .min(config.context),
            change_slots: 2 * options.sequences + 2,
            in_flight: IN_FLIGHT,
            forks: false,
        };
        let buffers = Buffers::new(&device.device);
        let mut uploader = Uploader::new(&device, &buffers, weights, progress);
        let gpu_weights = GpuWeights::upload(&mut uploader, config, pass, &fused).await?;
        let weight_bytes = buffers.bytes();
        let precision = if gpu_weights.all_quantised() {
            options.precision
        } else {
            Precision::Exact
        };
        let variant = match device.variant.exists(precision, device.halves) {
            true => device.variant,
            false => Variant::likely(device.software),
        };
        let attention = AttentionShape::of(config, precision, variant.few.workgroups);
        let parts = match variant.few.merged {
            true => Parts::of(config, precision, variant.few.workgroups, attention),
            false => None,
        };
        let (state, state_bytes) = loop {
            let buffers = Buffers::new(&device.device);
            let what = format!("a context of {} tokens", limits.context);
            let cache = limits.sequences * limits.context * config.kv_heads * config.head_dim;
            let cache = attention.cache_words(cache) * 4;
            let fits = cache as u64 <= device.device.limits().max_storage_buffer_binding_size;
            let made = match fits {
                true => {
                    device
                        .allocate(&what, || {
                            StateBuffers::new(&buffers, config, &limits, attention, parts)
                        })
                        .await
                }
                false => Err(EngineError::OutOfMemory { what }),
            };
            match made {
                Ok(state) => break (state, buffers.bytes()),
                Err(error) if limits.context / 2 < SHORTEST_CONTEXT => return Err(error),
                Err(_) => limits.context /= 2,
            }
        };
        state.initialise(&device.queue, config, fused.theta, limits.context);
        let plan = GraphShape {
            config,
            activation: fused.activation,
            limits: &limits,
            precision,
            variant,
            parts,
            packed_dot: device.packed_dot,
            matrix: &|matrix| gpu_weights.matrix(matrix).shape,
        }
        .plan();
        let graph = plan.compile(&device.device, |planned| {
            let slots = planned.slots.iter();
            let buffers =
                slots.filter_map(|&slot| state.slot(slot).or_else(|| gpu_weights.slot(slot)));
            let mut work = Work::default();
            for matrix in planned.matrices() {
                work += gpu_weights.matrix(matrix).work();
            }
            (buffers.collect(), work)
        })?;
        device.check("the kernels")?;
        let staging_buffers = Buffers::new(&device.device);
        let layer_rows = config.layers + 1;
        let words = Words::of(config);
        let staging = (0..IN_FLIGHT)
            .map(|_| staging_buffers.staging("staging", limits.rows * words.record))
            .collect();
        let info = EngineInfo {
            backend: Backend::Gpu,
            precision,
            adapter: device.name.clone(),
            software: device.software,
            context: limits.context,
            sequences: limits.sequences,
            device_bytes: weight_bytes + state_bytes + staging_buffers.bytes(),
        };
        let executor = Self {
            device,
            limits,
            state,
            graph,
            precision,
            variant,
            parts,
            staging,
            directions: 0,
            layer_rows,
            width: config.hidden_size,
            vocab: config.vocab_size,
            words,
            head_shape: [config.heads, config.kv_heads, config.head_dim],
            head: gpu_weights.matrix(Matrix::Head).data.clone(),
            moved: Moved {
                cached_number: attention.number_bytes(),
                activation: match precision {
                    // A number, or a byte, and its share of what lies beside a block (`shaders/include/encode.wgsl`).
                    Precision::Exact => 4.0 + 0.5,
                    Precision::Fast => 1.0 + 1.0,
                },
                embedding_row: gpu_weights.embedding_row_bytes(),
            },
            queued: VecDeque::new(),
            submitted: 0,
            dispatches: 0,
            step: Vec::new(),
        };
        Ok((executor, info))
    }

    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The variants that a short timing chooses among, the likely first.
    pub fn candidates(&self) -> Vec<Variant> {
        let candidates = Variant::candidates(self.device.software).iter().copied();
        candidates
            .filter(|variant| variant.exists(self.precision, self.device.halves))
            .collect()
    }

    /// Dispatches recorded since loading.
    pub fn dispatches(&self) -> usize {
        self.dispatches
    }

    /// Queues `passes` times the work of `batch`, to be timed; what comes back belongs to the last of them.
    pub(crate) fn submit_passes(&mut self, batch: &Batch, passes: u32) -> Result<(), EngineError> {
        if self.queued.len() >= self.limits.in_flight || batch.rows.len() > self.limits.rows {
            return Err(EngineError::Usage("too much was queued at once".into()));
        }
        self.device.check("the last step")?;
        let head_rows = step::encode(batch, self.directions, &mut self.step) as u32;
        let extent = Extent {
            rows: batch.rows.len() as u32,
            head_rows,
            splits: self.parts.map_or(1, |parts| parts.splits(batch)),
        };
        self.device
            .queue
            .write_buffer(&self.state.step, 0, &self.step);
        let mut encoder = self
            .device
            .device
            .create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for _ in 0..passes {
                self.dispatches += self.graph.record(&mut pass, extent);
            }
        }
        let staging = self.submitted % self.staging.len();
        let bytes = (batch.rows.len() * self.words.record * 4) as u64;
        encoder.copy_buffer_to_buffer(&self.state.records, 0, &self.staging[staging], 0, bytes);
        let captured = step::captures(batch).then(|| {
            let bytes = self.state.captured.size();
            let buffer = Buffers::new(&self.device.device).staging("captured", bytes as usize / 4);
            encoder.copy_buffer_to_buffer(&self.state.captured, 0, &buffer, 0, bytes);
            buffer
        });
        let submission = self.device.queue.submit([encoder.finish()]);
        let records = map(&self.staging[staging], bytes);
        let captured = captured.map(|buffer| {
            let mapped = map(&buffer, buffer.size());
            (buffer, mapped)
        });
        let (batch, directions) = (batch.clone(), self.directions);
        self.queued.push_back(Queued {
            batch,
            directions,
            staging,
            records,
            captured,
            submission,
        });
        self.submitted += 1;
        Ok(())
    }

    fn write<T: bytemuck::NoUninit>(&self, buffer: &wgpu::Buffer, word: usize, values: &[T]) {
        self.device
            .queue
            .write_buffer(buffer, word as u64 * 4, bytemuck::cast_slice(values));
    }
}

impl Execute for GpuExecutor {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn set_directions(&mut self, directions: &[LayerTable]) -> Result<(), EngineError> {
        if directions
            .iter()
            .any(|table| table.place() != Place::Residual)
        {
            return Err(not_here("to read anything but the residual stream"));
        }
        let d = self.width;
        let mut words = vec![0.0_f32; self.layer_rows * d * MAX_DIRECTIONS];
        for (index, table) in directions.iter().enumerate() {
            for layer in 0..self.layer_rows {
                for (i, value) in table.row(Layer(layer as u32)).iter().enumerate() {
                    words[(layer * d + i) * MAX_DIRECTIONS + index] = *value;
                }
            }
        }
        self.write(&self.state.directions, 0, &words);
        self.directions = directions.len();
        Ok(())
    }

    fn set_change(&mut self, slot: ChangeSlot, change: &ComposedChange) -> Result<(), EngineError> {
        if !change.in_blocks.is_empty() {
            return Err(not_here("to change anything but the residual stream"));
        }
        let (d, words) = (self.width, self.words.change);
        for (layer, change) in change.layers.iter().enumerate() {
            let at = (slot.0 as usize * self.layer_rows + layer) * words;
            let adds = f32::from(u8::from(!change.add.is_empty()));
            let mut values = vec![adds, change.clamps.len() as f32, 0.0, 0.0];
            if !change.is_empty() {
                values.extend_from_slice(&change.add);
                values.resize(CHANGE_HEADER + d, 0.0);
                for clamp in &change.clamps {
                    // An open side of a range is a number that no component reaches.
                    values.extend([clamp.low.max(f32::MIN), clamp.high.min(f32::MAX)]);
                    values.extend_from_slice(&clamp.direction);
                }
            }
            self.write(&self.state.changes, at, &values);
        }
        Ok(())
    }

    fn set_seen(&mut self, sequence: SequenceIndex, tokens: &[TokenId]) -> Result<(), EngineError> {
        let words = self.words.seen;
        let mut seen = vec![0_u32; words];
        for token in tokens {
            seen[token.0 as usize / 32] |= 1 << (token.0 % 32);
        }
        self.write(&self.state.seen, sequence.index() * words, &seen);
        Ok(())
    }

    fn fork(&mut self, _: SequenceIndex, _: SequenceIndex, _: usize) -> Result<(), EngineError> {
        Err(not_here("to share what is cached of a text"))
    }

    fn submit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let elsewhere = |row: &Row| Capture {
            residual: false,
            ..row.want.capture
        };
        if batch
            .rows
            .iter()
            .any(|row| elsewhere(row) != Capture::NOTHING)
        {
            return Err(not_here("to capture anything but the residual stream"));
        }
        self.submit_passes(batch, 1)
    }

    async fn collect(&mut self) -> Result<BatchRecord, EngineError> {
        let Some(queued) = self.queued.pop_front() else {
            return Err(EngineError::Usage("nothing is queued".into()));
        };
        // In a browser this does nothing: the mapping resolves by itself.
        let wait = wgpu::PollType::Wait {
            submission_index: Some(queued.submission),
            timeout: None,
        };
        let polled = self.device.device.poll(wait);
        self.device.check("the step")?;
        if let Err(error) = polled {
            return Err(EngineError::DeviceLost {
                reason: error.to_string(),
            });
        }
        self.mapped(queued.records).await?;
        let staging = &self.staging[queued.staging];
        let bytes = (queued.batch.rows.len() * self.words.record * 4) as u64;
        let tokens = read(staging, bytes, |words| {
            step::decode(&queued.batch, words, queued.directions, self.words.record)
        })?;
        let mut captured = vec![Captured::default(); queued.batch.rows.len()];
        if let Some((buffer, mapped)) = queued.captured {
            self.mapped(mapped).await?;
            let rows = queued.batch.rows.len();
            captured = read(&buffer, buffer.size(), |words| {
                step::decode_captured(
                    bytemuck::cast_slice(words),
                    rows,
                    self.limits.rows,
                    self.layer_rows,
                    self.width,
                )
            })?;
            buffer.destroy();
        }
        Ok(BatchRecord { tokens, captured })
    }
}

impl GpuExecutor {
    async fn mapped(
        &self,
        mapping: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
    ) -> Result<(), EngineError> {
        match mapping.await {
            Ok(Ok(())) => Ok(()),
            failed => {
                self.device.check("the result")?;
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the result never came back".into(),
                };
                Err(EngineError::DeviceLost { reason })
            }
        }
    }
}

fn not_here(what: &str) -> EngineError {
    EngineError::Usage(format!(
        "the graphics device does not know how {what}; choose the processor (CPU)"
    ))
}

fn map(buffer: &wgpu::Buffer, bytes: u64) -> oneshot::Receiver<Result<(), wgpu::BufferAsyncError>> {
    let (sender, receiver) = oneshot::channel();
    buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
        // Nobody listens when the run was dropped.
        let _ = sender.send(result);
    });
    receiver
}

/// Lets `decode` see the mapped words, then unmaps.
fn read<T>(
    buffer: &wgpu::Buffer,
    bytes: u64,
    decode: impl FnOnce(&[u32]) -> T,
) -> Result<T, EngineError> {
    let decoded = {
        let view = buffer
            .get_mapped_range(0..bytes)
            .map_err(|error| EngineError::Device {
                what: "to show a result".into(),
                reason: error.to_string(),
            })?;
        decode(bytemuck::cast_slice(&view))
    };
    buffer.unmap();
    Ok(decoded)
}

/// Refuses what the kernels do not cover.
fn check_shape(config: &ModelConfig) -> Result<(), EngineError> {
    let widths = [
        ("width", config.hidden_size, 32),
        ("feed-forward width", config.ffn_size, 32),
        ("head width", config.head_dim, 32),
    ];
    for (what, value, multiple) in widths {
        if value % multiple != 0 {
            let reason = format!("its {what} {value} is not a multiple of {multiple}");
            return Err(EngineError::UnsupportedModel { reason });
        }
    }
    if config.head_dim > 256 {
        let reason = format!("its head width {} is over 256", config.head_dim);
        return Err(EngineError::UnsupportedModel { reason });
    }
    Ok(())
}
