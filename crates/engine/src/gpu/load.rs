//! From a model's file to an executor: weights uploaded, buffers made, kernels compiled.

use super::GpuExecutor;
use super::attention::AttentionShape;
use super::buffers::{Buffers, Shared, StateBuffers, Words, widths};
use super::cache::PagedCache;
use super::device::{Assumptions, Device};
use super::fuse;
use super::graph::Slot;
use super::parts::Parts;
use super::plan::GraphShape;
use super::profile::{Moved, Work};
use super::step::Directions;
use super::upload::Uploader;
use super::variant::Variant;
use super::weights::GpuWeights;
use crate::error::EngineError;
use crate::host::limits;
use crate::memory::{MemoryNeeds, MemoryThere, SHORTEST_CONTEXT};
use crate::op::ForwardPass;
use crate::types::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use std::collections::VecDeque;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

/// Rows of a batch. A software adapter takes a second or two for sixteen, which is as long as a
/// progress bar may stand still.
const ROWS: usize = 64;
const SOFTWARE_ROWS: usize = 16;

impl GpuExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        pass: &ForwardPass,
        file: &WeightFile<S>,
        options: EngineOptions,
        assumptions: Assumptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        check_shape(config)?;
        let fused = fuse::fuse(pass, config.head_dim);
        let device = Device::open(assumptions).await?;
        let there = MemoryThere {
            total: None,
            largest_buffer: Some(device.largest_buffer()),
        };
        let needs = MemoryNeeds::of_file(config, Backend::Gpu, options.precision, file)?;
        if let Some(shortage) = needs.shortage(there) {
            return Err(shortage.into());
        }
        let rows = if device.software { SOFTWARE_ROWS } else { ROWS };
        let mut limits = limits(config, options, rows);
        let buffers = Buffers::new(&device.device);
        let mut uploader = Uploader::new(&device, &buffers, file, progress);
        let weights = GpuWeights::upload(&mut uploader, config, pass, fused.as_ref()).await?;
        let weight_bytes = buffers.bytes();
        let precision = if weights.all_quantised() {
            options.precision
        } else {
            Precision::Exact
        };
        let variant = match device.variant.exists(precision, device.halves) {
            true => device.variant,
            false => Variant::likely(device.software),
        };
        let attention = AttentionShape::of(config, precision, variant.few.workgroups);
        let parts = match variant.few.merged && fused.is_some() {
            true => Parts::of(config, precision, variant.few.workgroups, attention),
            false => None,
        };
        let shared = match fused {
            Some(_) => Shared::Merged(parts),
            None => Shared::Plain,
        };
        let (state, cache, state_bytes) = loop {
            let buffers = Buffers::new(&device.device);
            let make = || {
                let largest = device.largest_buffer();
                let cache = PagedCache::new(&buffers, config, &limits, attention, largest)?;
                let state = StateBuffers::new(&buffers, config, &limits, pass, shared);
                Some((state, cache))
            };
            let what = format!("a context of {} tokens", limits.context);
            match device.allocate(&what, make).await {
                Ok(Some((state, cache))) => break (state, cache, buffers.bytes()),
                _ if limits.context / 2 >= SHORTEST_CONTEXT => limits.context /= 2,
                Ok(None) => return Err(EngineError::OutOfMemory { what }),
                Err(error) => return Err(error),
            }
        };
        state.initialise(&device.queue, pass, limits.context);
        let [embedding, head] = weights.pieces();
        let plan = GraphShape {
            config,
            pass,
            fused: fused.as_ref(),
            limits: &limits,
            precision,
            variant,
            parts,
            packed_dot: device.packed_dot,
            matrix: &|matrix| weights.matrix(matrix).shape,
            embedding,
            head,
        }
        .plan();
        let graph = plan.compile(&device.device, |planned| {
            let slots = planned.slots.iter();
            let buffers = slots.filter_map(|&slot| buffer_in(slot, &state, &cache, &weights));
            let mut work = Work::default();
            for matrix in planned.matrices() {
                work += weights.matrix(matrix).work();
            }
            (buffers.collect(), work)
        })?;
        device.check("the kernels")?;
        let staging_buffers = Buffers::new(&device.device);
        let layer_rows = config.layers + 1;
        let words = Words::of(config);
        let staging = (0..limits.in_flight)
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
            cache,
            graph,
            precision,
            variant,
            parts,
            staging,
            directions: Directions::default(),
            inside: vec![false; limits.change_slots],
            layer_rows,
            widths: widths(config),
            vocab: config.vocab_size,
            words,
            head_shape: [config.heads, config.kv_heads, config.head_dim],
            moved: Moved {
                cached_number: attention.number_bytes(),
                activation: match precision {
                    // A number, or a byte, and its share of what lies beside a block (`shaders/include/encode.wgsl`).
                    Precision::Exact => 4.0 + 0.5,
                    Precision::Fast => 1.0 + 1.0,
                },
                embedding_row: weights.embedding_row_bytes(),
            },
            weights,
            queued: VecDeque::new(),
            submitted: 0,
            dispatches: 0,
            step: Vec::new(),
        };
        Ok((executor, info))
    }
}

/// The buffer in a slot: there is one in each.
pub fn buffer_in<'a>(
    slot: Slot,
    state: &'a StateBuffers,
    cache: &'a PagedCache,
    weights: &'a GpuWeights,
) -> Option<&'a wgpu::Buffer> {
    let cached = state.slot(slot).or_else(|| cache.slot(slot));
    cached.or_else(|| weights.slot(slot))
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
