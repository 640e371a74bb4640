//! The wgpu executor: the kernels of `shaders/`, natively and in the browser.
//!
//! Everything is built before the first token, but for the cache, which grows with the text. A batch writes one small uniform
//! buffer, makes one submission and reads one buffer back.

mod attention;
mod buffers;
mod cache;
mod compile;
#[cfg(test)]
mod contracts;
mod device;
mod fuse;
mod graph;
mod layout;
mod load;
mod needs;
mod parts;
mod plain;
mod plan;
mod profile;
mod readback;
pub(crate) mod shader;
mod step;
mod upload;
pub mod variant;
mod weights;

use crate::error::EngineError;
use crate::executor::{Batch, BatchRecord, Captured, ChangeSlot, Execute, Limits, Row};
use crate::index::{Layer, Place, SequenceIndex, Site, TokenId};
use crate::record::MAX_DIRECTIONS;
use crate::steering::{ComposedChange, LayerChange, LayerTable};
use crate::types::Precision;
use buffers::{Buffers, CHANGE_HEADER, StateBuffers, Words, change_words};
use cache::{PagedCache, Reserved};
use compile::Dispatch;
pub use device::Assumptions;
use device::Device;
use graph::{Extent, Graph, Slot};
use load::buffer_in;
pub use needs::of_weights as bytes_of_weights;
use parts::Parts;
use profile::Moved;
pub use profile::{KernelTime, Profile, Work};
use readback::Readback;
use std::collections::VecDeque;
use step::Directions;
use variant::Variant;
use weights::GpuWeights;

#[derive(Debug)]
pub struct GpuExecutor {
    device: Device,
    limits: Limits,
    state: StateBuffers,
    cache: PagedCache,
    weights: GpuWeights,
    graph: Graph<Dispatch>,
    precision: Precision,
    variant: Variant,
    parts: Option<Parts>,
    staging: Vec<wgpu::Buffer>,
    directions: Directions,
    /// Which change slots change something inside blocks.
    inside: Vec<bool>,
    layer_rows: usize,
    /// Of the places, in their order.
    widths: [usize; 3],
    vocab: usize,
    words: Words,
    /// Query heads, key/value heads, width of each.
    head_shape: [usize; 3],
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
    directions: Directions,
    records: Readback,
    captured: Option<Readback>,
    submission: wgpu::SubmissionIndex,
}

impl GpuExecutor {
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

    /// Makes room for `batch` in the cache and tells the kernels what is wanted of it.
    async fn prepare(&mut self, batch: &Batch) -> Result<(Extent, Reserved), EngineError> {
        let reserved = self.cache.reserve(&self.device, batch).await?;
        if reserved.moved {
            let (state, cache, weights) = (&self.state, &self.cache, &self.weights);
            self.graph.rebind(
                &self.device.device,
                |slot| matches!(slot, Slot::Keys(_) | Slot::Values(_)),
                |slot| buffer_in(slot, state, cache, weights),
            );
        }
        let inside = |row: &Row| row.change.is_some_and(|slot| self.inside[slot.0 as usize]);
        let found = |row: &Row| (self.cache.page(row), inside(row));
        let head_rows = step::encode(batch, self.directions, found, &mut self.step) as u32;
        let [_, reads @ ..] = self.directions.at;
        let captures = step::captures(batch) & !(1 << Place::Residual as u32);
        self.device
            .queue
            .write_buffer(&self.state.step, 0, &self.step);
        let extent = Extent {
            rows: batch.rows.len() as u32,
            head_rows,
            splits: self.parts.map_or(1, |parts| parts.splits(batch)),
            inside: captures != 0 || reads != [0; 2] || batch.rows.iter().any(inside),
        };
        Ok((extent, reserved))
    }

    /// Queues `passes` times the work of `batch`, to be timed; what comes back belongs to the last of them.
    pub(crate) async fn submit_passes(
        &mut self,
        batch: &Batch,
        passes: u32,
    ) -> Result<(), EngineError> {
        if self.queued.len() >= self.limits.in_flight || batch.rows.len() > self.limits.rows {
            return Err(EngineError::Usage("too much was queued at once".into()));
        }
        self.device.check("the last step")?;
        let (extent, reserved) = self.prepare(batch).await?;
        let mut encoder = self
            .device
            .device
            .create_command_encoder(&Default::default());
        self.cache.copy(&mut encoder, &reserved);
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for _ in 0..passes {
                self.dispatches += self.graph.record(&mut pass, extent);
            }
        }
        let staging = self.submitted % self.staging.len();
        let bytes = (batch.rows.len() * self.words.record * 4) as u64;
        encoder.copy_buffer_to_buffer(&self.state.records, 0, &self.staging[staging], 0, bytes);
        let captures = step::captures(batch);
        let captured = (captures != 0).then(|| {
            let places = Place::ALL.into_iter().zip(&self.state.captured);
            let asked = places.filter(|(place, _)| (captures >> *place as u32) & 1 != 0);
            let asked: Vec<_> = asked
                .map(|(place, buffer)| (buffer, self.captured_words(place) * 4))
                .collect();
            let words = asked.iter().map(|(_, bytes)| *bytes as usize / 4).sum();
            let staging = Buffers::new(&self.device.device).staging("captured", words);
            let mut at = 0;
            for (buffer, bytes) in asked {
                encoder.copy_buffer_to_buffer(buffer, 0, &staging, at, bytes);
                at += bytes;
            }
            staging
        });
        let submission = self.device.queue.submit([encoder.finish()]);
        let records = Readback::begin(&self.staging[staging], bytes);
        let captured = captured.map(|buffer| Readback::begin(&buffer, buffer.size()));
        let (batch, directions) = (batch.clone(), self.directions);
        self.queued.push_back(Queued {
            batch,
            directions,
            records,
            captured,
            submission,
        });
        self.submitted += 1;
        Ok(())
    }

    /// 32-bit words that are captured at a place, `[L+1, rows, width]`.
    fn captured_words(&self, place: Place) -> u64 {
        (self.layer_rows * self.limits.rows * self.widths[place as usize]) as u64
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
        self.directions = Directions {
            count: directions.len(),
            at: [0; 3],
        };
        for (index, table) in directions.iter().enumerate() {
            self.directions.at[table.place() as usize] |= 1 << index;
        }
        for (place, width) in Place::ALL.into_iter().zip(self.widths) {
            if self.directions.at[place as usize] == 0 {
                continue;
            }
            let mut words = vec![0.0_f32; self.layer_rows * width * MAX_DIRECTIONS];
            for (index, table) in directions.iter().enumerate() {
                if table.place() == place {
                    let at = words[index..].iter_mut().step_by(MAX_DIRECTIONS);
                    at.zip(table.values())
                        .for_each(|(word, value)| *word = *value);
                }
            }
            self.write(&self.state.directions[place as usize], 0, &words);
        }
        Ok(())
    }

    fn set_change(&mut self, slot: ChangeSlot, change: &ComposedChange) -> Result<(), EngineError> {
        let inside = !change.in_blocks.is_empty();
        self.inside[slot.0 as usize] = inside;
        let nothing = LayerChange::default();
        for (place, width) in Place::ALL.into_iter().zip(self.widths) {
            if place != Place::Residual && !inside {
                continue;
            }
            for layer in 0..self.layer_rows {
                let site = Site {
                    layer: Layer(layer as u32),
                    place,
                };
                let change = change.at(site).unwrap_or(&nothing);
                let adds = f32::from(u8::from(!change.add.is_empty()));
                let mut values = vec![adds, change.clamps.len() as f32, 0.0, 0.0];
                if !change.is_empty() {
                    values.extend_from_slice(&change.add);
                    values.resize(CHANGE_HEADER + width, 0.0);
                    for clamp in &change.clamps {
                        // An open side of a range is a number that no component reaches.
                        values.extend([clamp.low.max(f32::MIN), clamp.high.min(f32::MAX)]);
                        values.extend_from_slice(&clamp.direction);
                    }
                }
                let at = slot.0 as usize * self.layer_rows + layer;
                let buffer = &self.state.changes[place as usize];
                self.write(buffer, at * change_words(width), &values);
            }
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

    fn fork(
        &mut self,
        from: SequenceIndex,
        to: SequenceIndex,
        length: usize,
    ) -> Result<(), EngineError> {
        self.cache.fork(from, to, length);
        Ok(())
    }

    async fn submit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        if batch.rows.iter().any(|row| row.want.capture.attention) {
            return Err(EngineError::Usage(
                "the graphics device does not keep where heads attend to; choose the processor (CPU)".into(),
            ));
        }
        self.submit_passes(batch, 1).await
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
        let (batch, stride) = (&queued.batch, self.words.record);
        let decode = |words: &[u32]| step::decode(batch, words, queued.directions, stride);
        let tokens = queued.records.read(&self.device, decode).await?;
        let captured = match queued.captured {
            None => vec![Captured::default(); batch.rows.len()],
            Some(captured) => {
                let decode = |words: &[u32]| {
                    step::decode_captured(
                        batch,
                        bytemuck::cast_slice(words),
                        self.limits.rows,
                        self.layer_rows,
                        self.widths,
                    )
                };
                let buffer = captured.buffer.clone();
                let captured = captured.read(&self.device, decode).await?;
                buffer.destroy();
                captured
            }
        };
        Ok(BatchRecord { tokens, captured })
    }
}
