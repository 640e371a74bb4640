//! The buffers of one model: made here and counted, filled once, and found by the slot that a kernel names.

use super::graph::Slot;
use super::layout::TILE;
use super::parts::Parts;
use super::plain::value_at;
use super::step::{READINGS_AT, STEP_HEADER, StepRow};
use crate::executor::Limits;
use crate::index::Place;
use crate::op::{ForwardPass, Value};
use crate::record::MAX_DIRECTIONS;
use crate::steering::MAX_CLAMPS;
use std::cell::Cell;
use trimtab_checkpoint::ModelConfig;

/// Words of a layer's change before its addition: whether it adds, how many clamps, two unused.
pub const CHANGE_HEADER: usize = 4;

/// 32-bit words of the records that host and kernels exchange.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// One row's record.
    pub record: usize,
    /// The bits of one sequence's seen tokens.
    pub seen: usize,
}

/// 32-bit words of one layer's change at a place of this width.
pub const fn change_words(width: usize) -> usize {
    CHANGE_HEADER + width + MAX_CLAMPS * (2 + width)
}

/// How wide the places are, in their order.
pub fn widths(config: &ModelConfig) -> [usize; 3] {
    Place::ALL.map(|place| Value::at(place).width(config))
}

impl Words {
    pub fn of(config: &ModelConfig) -> Self {
        Self {
            record: READINGS_AT + MAX_DIRECTIONS * (config.layers + 1),
            seen: config.vocab_size.div_ceil(32),
        }
    }
}

/// Bytes of a buffer that holds so many: a binding needs at least one element of whatever the kernel declares.
pub const fn buffer_bytes(bytes: u64) -> u64 {
    let least = if bytes < 64 { 64 } else { bytes };
    least.next_multiple_of(16)
}

/// Creates buffers on one device and adds up their bytes.
#[derive(Debug)]
pub struct Buffers<'a> {
    device: &'a wgpu::Device,
    bytes: Cell<u64>,
}

impl<'a> Buffers<'a> {
    pub fn new(device: &'a wgpu::Device) -> Self {
        Self {
            device,
            bytes: Cell::new(0),
        }
    }

    /// Bytes of all buffers made so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// A zeroed storage buffer of at least `words` 32-bit words.
    pub fn storage(&self, label: &str, words: usize) -> wgpu::Buffer {
        let usages = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        self.create(label, words * 4, usages)
    }

    pub fn uniform(&self, label: &str, bytes: usize) -> wgpu::Buffer {
        self.create(
            label,
            bytes,
            wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        )
    }

    /// A buffer that the host can map for reading.
    pub fn staging(&self, label: &str, words: usize) -> wgpu::Buffer {
        self.create(
            label,
            words * 4,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        )
    }

    fn create(&self, label: &str, bytes: usize, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let size = buffer_bytes(bytes as u64);
        self.bytes.set(self.bytes.get() + size);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }
}

/// What shares a buffer with the residual stream.
#[derive(Clone, Copy, Debug)]
pub enum Shared {
    /// Parts of batches of few rows, and what lies between two operations of a block.
    Merged(Option<Parts>),
    /// All other values.
    Plain,
}

/// Buffers that the host writes or reads, and those that live between dispatches.
#[derive(Debug)]
pub struct StateBuffers {
    pub step: wgpu::Buffer,
    pub residual: wgpu::Buffer,
    pub records: wgpu::Buffer,
    /// One for each place.
    pub changes: [wgpu::Buffer; 3],
    pub directions: [wgpu::Buffer; 3],
    pub captured: [wgpu::Buffer; 3],
    pub seen: wgpu::Buffer,
    pub sampled: wgpu::Buffer,
    logits: wgpu::Buffer,
    rotations: Vec<wgpu::Buffer>,
    queries: wgpu::Buffer,
    /// Blocks and their scales.
    normalised: [wgpu::Buffer; 2],
    attended: [wgpu::Buffer; 2],
    gated: [wgpu::Buffer; 2],
    /// The number of each layer.
    layers: Vec<wgpu::Buffer>,
}

/// Activations `[rows, cols]`: their blocks, sized for exact ones, which are the larger, and the blocks' scales, with room for a
/// sum of squares a tile after them.
fn activations(buffers: &Buffers<'_>, label: &str, rows: usize, cols: usize) -> [wgpu::Buffer; 2] {
    let scales = rows * (2 * cols / 32 + cols.div_ceil(TILE));
    [rows * cols, scales * 4].map(|words| buffers.storage(label, words))
}

impl StateBuffers {
    pub fn new(
        buffers: &Buffers<'_>,
        config: &ModelConfig,
        limits: &Limits,
        pass: &ForwardPass,
        shared: Shared,
    ) -> Self {
        let (d, layer_rows, rows) = (config.hidden_size, config.layers + 1, limits.rows);
        let words = Words::of(config);
        let attention = config.heads * config.head_dim;
        let widths = widths(config);
        let between = rows * (d + widths[1].max(widths[2]));
        let residual = match shared {
            Shared::Merged(parts) => between.max(rows * d + parts.map_or(0, |parts| parts.words())),
            Shared::Plain => value_at(None, rows, config),
        };
        let of_places = |label: &str, words: &dyn Fn(usize) -> usize| {
            widths.map(|width| buffers.storage(label, layer_rows * words(width)))
        };
        Self {
            step: buffers.uniform("step", STEP_HEADER + rows * size_of::<StepRow>()),
            residual: buffers.storage("residual", residual),
            changes: of_places("changes", &|width| {
                limits.change_slots * change_words(width)
            }),
            directions: of_places("directions", &|width| width * MAX_DIRECTIONS),
            records: buffers.storage("records", rows * words.record),
            captured: of_places("captured", &|width| rows * width),
            seen: buffers.storage("seen", limits.sequences * words.seen),
            sampled: buffers.storage("sampled", limits.sequences),
            logits: buffers.storage("logits", limits.head_rows * config.vocab_size),
            rotations: pass
                .rotations
                .iter()
                .map(|rotation| {
                    let words = limits.context * 2 * rotation.frequencies.len();
                    buffers.storage("rotations", words)
                })
                .collect(),
            queries: buffers.storage("queries", rows * attention),
            normalised: activations(buffers, "normalised", rows, d),
            attended: activations(buffers, "attended", rows, attention),
            gated: activations(buffers, "gated", rows, config.ffn_size),
            layers: (0..layer_rows)
                .map(|_| buffers.uniform("layer", 16))
                .collect(),
        }
    }

    /// Fills the buffers that never change: layer numbers and rotations.
    pub fn initialise(&self, queue: &wgpu::Queue, pass: &ForwardPass, context: usize) {
        for (layer, buffer) in (0_u32..).zip(&self.layers) {
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&[layer, 0, 0, 0]));
        }
        for (rotation, buffer) in pass.rotations.iter().zip(&self.rotations) {
            let mut rotations = Vec::with_capacity(context * 2 * rotation.frequencies.len());
            for position in 0..context {
                for (sin, cos) in rotation.at(position as u32) {
                    rotations.extend([cos, sin]);
                }
            }
            queue.write_buffer(buffer, 0, bytemuck::cast_slice(&rotations));
        }
    }

    /// The buffer in a slot; `None` where it belongs to the weights or the cache.
    pub fn slot(&self, slot: Slot) -> Option<&wgpu::Buffer> {
        Some(match slot {
            Slot::Step => &self.step,
            Slot::Layer(layer) => &self.layers[layer],
            Slot::Residual => &self.residual,
            Slot::Changes(place) => &self.changes[place as usize],
            Slot::Directions(place) => &self.directions[place as usize],
            Slot::Records => &self.records,
            Slot::Captured(place) => &self.captured[place as usize],
            Slot::Seen => &self.seen,
            Slot::Sampled => &self.sampled,
            Slot::Logits => &self.logits,
            Slot::Rotations(number) => &self.rotations[number],
            Slot::Queries => &self.queries,
            Slot::Normalised => &self.normalised[0],
            Slot::NormalisedScales => &self.normalised[1],
            Slot::Attended => &self.attended[0],
            Slot::AttendedScales => &self.attended[1],
            Slot::Gated => &self.gated[0],
            Slot::GatedScales => &self.gated[1],
            _ => return None,
        })
    }
}
