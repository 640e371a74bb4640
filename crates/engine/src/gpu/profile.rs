//! Where a decoded token's time goes on an adapter, kernel by kernel, beside what the adapter can do at most.

use super::compile::{Dispatch, Pipelines};
use super::graph::{Matrix, Over, Piece};
use super::readback::Readback;
use super::shader::{Kernel, constants};
use super::{Buffers, Device, GpuExecutor};
use crate::error::EngineError;
use crate::executor::{Batch, Execute, Head, Row, TokenSource};
use crate::index::{Position, SequenceIndex, TokenId};
use crate::sampling::Sampler;
use std::ops::AddAssign;

/// Multiply-adds of one invocation of `shaders/peak.wgsl`, and workgroups of 64 of them.
const ROUNDS: u32 = 256;
const PEAK_WORKGROUPS: u32 = 1024;
const PEAK_RUNS: usize = 3;

/// The least that a dispatch has to read and to multiply.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub bytes: f64,
    pub products: f64,
}

/// Sizes in bytes of the numbers that are moved beside matrices.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    pub cached_number: f64,
    pub activation: f64,
    pub embedding_row: f64,
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.products += other.products;
    }
}

/// All dispatches of one kernel in one decoded token, means over the tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelTime {
    /// Its file in `shaders/`, and its epilogue where it has one.
    pub kernel: &'static str,
    pub dispatches: usize,
    pub seconds: f64,
    pub work: Work,
    /// The time that reading or multiplying, whichever takes longer, would take at the adapter's peak, over the time taken.
    pub roofline: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub tokens: usize,
    /// Tokens in the cache.
    pub context: usize,
    pub kernels: Vec<KernelTime>,
    /// Measured by `shaders/peak.wgsl`.
    pub bytes_per_second: f64,
    pub products_per_second: f64,
    /// Of one token from the first kernel's start to the last one's end, each in a pass of its own.
    pub seconds: f64,
}

/// Timestamps around passes.
struct Stopwatch<'a> {
    device: &'a Device,
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    count: u32,
}

impl<'a> Stopwatch<'a> {
    fn new(device: &'a Device, passes: usize) -> Self {
        let count = 2 * passes as u32;
        let create = |usage| {
            device.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("timestamps"),
                size: u64::from(count) * 8,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            device,
            queries: device.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count,
            }),
            resolved: create(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: create(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            count,
        }
    }

    /// Runs each dispatch in a pass of its own; seconds from the first's start: start and end of each.
    async fn time(
        &self,
        dispatches: &[(&Dispatch, [u32; 2])],
    ) -> Result<Vec<[f64; 2]>, EngineError> {
        let mut encoder = self
            .device
            .device
            .create_command_encoder(&Default::default());
        for (index, (dispatch, workgroups)) in (0..).zip(dispatches) {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: None,
                timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                    query_set: &self.queries,
                    beginning_of_pass_write_index: Some(2 * index),
                    end_of_pass_write_index: Some(2 * index + 1),
                }),
            });
            dispatch.record(&mut pass, *workgroups);
        }
        encoder.resolve_query_set(&self.queries, 0..self.count, &self.resolved, 0);
        let bytes = self.staging.size();
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, bytes);
        let submission = self.device.queue.submit([encoder.finish()]);
        let stamps = Readback::begin(&self.staging, bytes);
        let polled = self.device.device.poll(wgpu::PollType::Wait {
            submission_index: Some(submission),
            timeout: None,
        });
        self.device.check("the profile")?;
        if polled.is_err() {
            return Err(EngineError::Device {
                what: "to be profiled".into(),
                reason: "its timestamps never came back".into(),
            });
        }
        let unit = f64::from(self.device.queue.get_timestamp_period()) * 1e-9;
        let decode = |words: &[u32]| {
            let stamps: Vec<u64> = words
                .chunks_exact(2)
                .map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32)
                .collect();
            let since = |stamp: u64| stamp.saturating_sub(stamps[0]) as f64 * unit;
            stamps
                .chunks_exact(2)
                .take(dispatches.len())
                .map(|pair| [since(pair[0]), since(pair[1])])
                .collect()
        };
        stamps.read(self.device, decode).await
    }
}

impl GpuExecutor {
    /// Decodes the token after `context` others of sequence 0 `tokens` times, each kernel timed by itself. Its cache is written over.
    ///
    /// # Errors
    /// Where the adapter has no timestamps.
    pub async fn profile(&mut self, context: usize, tokens: usize) -> Result<Profile, EngineError> {
        if !self
            .device
            .device
            .features()
            .contains(wgpu::Features::TIMESTAMP_QUERY)
        {
            return Err(EngineError::Usage(format!(
                "{} has no timestamps; a profile needs an adapter with `timestamp-query`",
                self.device.name
            )));
        }
        if context >= self.limits().context || tokens == 0 {
            return Err(EngineError::Usage(format!(
                "a profile is of at least one token after fewer than {}",
                self.limits().context
            )));
        }
        let batch = Batch {
            rows: vec![Row {
                sequence: SequenceIndex(0),
                position: Position(context as u32),
                token: TokenSource::Id(TokenId(0)),
                change: None,
                want: Head::Sample(Sampler::GREEDY).into(),
            }],
        };
        let (extent, _) = self.prepare(&batch).await?;
        let dispatches: Vec<_> = self
            .graph
            .dispatches(extent)
            .filter_map(|dispatch| Some((dispatch, dispatch.workgroups(extent)?)))
            .collect();
        let watch = Stopwatch::new(&self.device, dispatches.len());
        // Pages are touched and clocks go up before anything counts.
        watch.time(&dispatches).await?;
        let mut kernels: Vec<KernelTime> = Vec::new();
        let mut seconds = 0.0;
        for _ in 0..tokens {
            let times = watch.time(&dispatches).await?;
            seconds += times.last().map_or(0.0, |[_, end]| *end) / tokens as f64;
            for ((dispatch, _), [start, end]) in dispatches.iter().zip(times) {
                let kernel = dispatch.kernel.label();
                let place = kernels.iter().position(|known| known.kernel == kernel);
                let place = place.unwrap_or_else(|| {
                    kernels.push(KernelTime {
                        kernel,
                        dispatches: 0,
                        seconds: 0.0,
                        work: Work::default(),
                        roofline: 0.0,
                    });
                    kernels.len() - 1
                });
                kernels[place].seconds += (end - start) / tokens as f64;
            }
        }
        for (index, (dispatch, _)) in dispatches.iter().enumerate() {
            let kernel = dispatch.kernel.label();
            if let Some(known) = kernels.iter_mut().find(|known| known.kernel == kernel) {
                known.dispatches += 1;
                known.work += dispatch.work;
                known.work += match dispatch.kernel {
                    Kernel::Attention | Kernel::AttentionOutput => self.attention_work(context + 1),
                    Kernel::Embed => self.embed_work(),
                    // The one before the first block, right after the embedding, has no parts to add up.
                    Kernel::Boundary if index == 1 => self.boundary_work(0),
                    Kernel::Boundary => {
                        let parts = self.parts.map(|parts| parts.of_a_row(extent.splits));
                        self.boundary_work(parts.unwrap_or(0))
                    }
                    Kernel::Sample => self.sample_work(),
                    _ => Work::default(),
                };
            }
        }
        let [bytes_per_second, products_per_second] = self.peaks().await?;
        for kernel in &mut kernels {
            let least = (kernel.work.bytes / bytes_per_second)
                .max(kernel.work.products / products_per_second);
            kernel.roofline = least / kernel.seconds;
        }
        Ok(Profile {
            tokens,
            context,
            kernels,
            bytes_per_second,
            products_per_second,
            seconds,
        })
    }

    /// Of one block over `keys` keys: the cache is read once, by every head that shares it.
    fn attention_work(&self, keys: usize) -> Work {
        let [heads, kv_heads, head_dim] = self.head_shape.map(|size| size as f64);
        let values = 2.0 * keys as f64 * head_dim;
        Work {
            bytes: values * kv_heads * self.moved.cached_number,
            products: values * heads,
        }
    }

    /// A row of the embedding becomes one of the residual stream.
    fn embed_work(&self) -> Work {
        Work {
            bytes: self.moved.embedding_row + 4.0 * self.widths[0] as f64,
            products: self.widths[0] as f64,
        }
    }

    /// A row and its parts are read, with the directions and the gain; the row is written, and its normalised twin.
    fn boundary_work(&self, parts: usize) -> Work {
        let read = 1 + parts + self.directions.count + 1;
        let d = self.widths[0] as f64;
        Work {
            bytes: d * (4.0 * (read + 1) as f64 + self.moved.activation),
            products: d * (self.directions.count + 2) as f64,
        }
    }

    /// The logits are read, and the bits of the tokens that were seen.
    fn sample_work(&self) -> Work {
        Work {
            bytes: self.vocab as f64 * (4.0 + 1.0 / 8.0),
            products: 0.0,
        }
    }

    /// Bytes and multiply-adds a second, the best of a few runs.
    async fn peaks(&self) -> Result<[f64; 2], EngineError> {
        let mut pipelines = Pipelines::new(&self.device.device);
        let result = Buffers::new(&self.device.device).storage("peak", 1);
        let mut peak = |work: &str| {
            let constants = constants! { rounds: ROUNDS, work: work };
            let extent = (PEAK_WORKGROUPS, Over::Rows(1));
            let buffers = [&self.weights.matrix(Matrix::Head(Piece(0))).data, &result];
            pipelines.dispatch(Kernel::Peak, &constants, &buffers, extent, Work::default())
        };
        let (reads, multiplies) = (peak("reads")?, peak("multiplies")?);
        self.device.check("the kernels of the profile")?;
        let workgroups = [PEAK_WORKGROUPS, 1];
        let both = [(&reads, workgroups), (&multiplies, workgroups)];
        let watch = Stopwatch::new(&self.device, both.len());
        let mut best = [f64::INFINITY; 2];
        for _ in 0..PEAK_RUNS {
            for (best, [start, end]) in best.iter_mut().zip(watch.time(&both).await?) {
                *best = best.min(end - start);
            }
        }
        let products = f64::from(PEAK_WORKGROUPS) * 64.0 * f64::from(ROUNDS) * 32.0;
        let head = self.weights.matrix(Matrix::Head(Piece(0))).data.size();
        Ok([head as f64 / best[0], products / best[1]])
    }
}
