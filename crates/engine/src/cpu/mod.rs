//! The CPU executor: integer or f32 inner products over the weights as stored, in vector instructions,
//! on as many threads as there are (in the browser: one).

mod activations;
mod aligned;
mod attention;
mod dot;
mod exponential;
mod kernels;
mod predict;
mod project;
#[doc(hidden)]
pub mod projection_bench;
mod tasks;
#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
pub mod team;
mod transpose;

use crate::architecture::{Architecture, Positions};
use crate::error::EngineError;
use crate::executor::Row;
use crate::host::{HostExecutor, HostModel, Observer, limits};
use crate::host_weights::{BlockWeights, Weights};
use crate::index::{Layer, TokenId};
use crate::positions::rotation;
use crate::record::Prediction;
use crate::types::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use activations::{Inputs, Quantised};
use aligned::Aligned;
use attention::{CacheShape, KeyValueCache};
use kernels::Kernels;
use predict::Predictors;
use tasks::Tasks;
use trimtab_checkpoint::{ByteSource, Encoding, ModelConfig, WeightFile, WeightRows};

/// Rows of one batch: enough to reuse each weight that was unpacked, few enough to pause between two and for a browser
/// tab's memory.
const ROWS: usize = if cfg!(target_family = "wasm") {
    64
} else {
    128
};
/// Rows whose logits are computed together: enough to reuse the head's weights, few enough for a browser tab's memory.
const HEAD_ROWS: usize = if cfg!(target_family = "wasm") { 8 } else { 64 };

pub type CpuExecutor = HostExecutor<CpuModel>;

#[derive(Debug)]
pub struct CpuModel {
    config: ModelConfig,
    architecture: Architecture,
    precision: Precision,
    kernels: Kernels,
    tasks: Tasks,
    weights: Weights,
    cache: KeyValueCache,
    workspace: Workspace,
    predictors: Predictors,
}

/// What a batch is computed in, allocated once.
#[derive(Debug)]
struct Workspace {
    /// The residual stream, `[n, d]`.
    h: Vec<f32>,
    /// Whatever enters a projection, `[n, …]`.
    x: Aligned<f32>,
    quantised: Quantised,
    /// Sines and cosines, `[n, head_dim / 2]`.
    rotations: Vec<(f32, f32)>,
    /// What a stack of matrices gives, `[their rows, n]`.
    projected: Vec<f32>,
    /// `[n, heads · head_dim]`
    q: Aligned<f32>,
    k: Aligned<f32>,
    v: Aligned<f32>,
    logits: Aligned<f32>,
    /// The residual stream of the rows that are predicted together.
    headed_h: Vec<f32>,
}

impl CpuExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        architecture: Architecture,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        let weights = Weights::load(config, &architecture, weights, progress).await?;
        let quantised = weights.matrices().all(|matrix| matrix.encoding.has_scale());
        let precision = match options.precision {
            Precision::Fast if quantised => Precision::Fast,
            _ => Precision::Exact,
        };
        let limits = limits(config, options, ROWS);
        let kernels = Kernels::best();
        let tasks = Tasks::new();
        let info = EngineInfo {
            backend: Backend::Cpu,
            precision,
            adapter: format!("CPU, {}, {}", kernels.name, tasks),
            software: false,
            context: limits.context,
            sequences: limits.sequences,
            device_bytes: weights.bytes(),
        };
        let shape = CacheShape {
            blocks: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        let model = CpuModel {
            config: config.clone(),
            architecture,
            precision,
            kernels,
            tasks,
            weights,
            // Rounding to f16 is far below that of 8-bit activations, and far above what "exact" promises.
            cache: KeyValueCache::new(shape, limits.sequences, precision == Precision::Fast),
            workspace: Workspace::new(config),
            predictors: Predictors::default(),
        };
        Ok((Self::new(model, config, limits), info))
    }
}

impl HostModel for CpuModel {
    const ROWS: usize = ROWS;
    const HEAD_ROWS: usize = HEAD_ROWS;

    fn forward(&mut self, rows: &[Row], tokens: &[TokenId], observer: &mut Observer<'_>) {
        let d = self.config.hidden_size;
        let Positions::Rotary { theta } = self.architecture.positions;
        let workspace = &mut self.workspace;
        workspace.h.resize(rows.len() * d, 0.0);
        workspace.rotations.clear();
        for ((row, token), h) in rows.iter().zip(tokens).zip(workspace.h.chunks_mut(d)) {
            self.weights.embedding.dequantise_row(token.0 as usize, h);
            self.cache.reserve(row);
            let head_dim = self.config.head_dim;
            let angles =
                (0..head_dim / 2).map(|pair| rotation(pair, head_dim, row.position.0, theta));
            workspace.rotations.extend(angles);
        }
        for layer in 0..=self.config.layers {
            if let Some(block) = layer.checked_sub(1) {
                self.block(block, rows);
            }
            let kernels = self.kernels;
            observer.boundary(Layer(layer as u32), &mut self.workspace.h, |a, b| {
                kernels.dot(a, b)
            });
        }
    }

    fn predict(&mut self, rows: &[Row], headed: &[usize], seen: &[Vec<bool>]) -> Vec<Prediction> {
        let d = self.config.hidden_size;
        let Workspace {
            h,
            x,
            quantised,
            projected,
            logits,
            headed_h: inputs,
            ..
        } = &mut self.workspace;
        inputs.clear();
        for &index in headed {
            inputs.extend_from_slice(&h[index * d..][..d]);
        }
        let epsilon = self.config.norm_epsilon;
        normalise(&self.kernels, inputs, &self.weights.final_norm, epsilon, x);
        let projection = Projection {
            kernels: &self.kernels,
            tasks: &self.tasks,
            precision: self.precision,
        };
        let head = self
            .weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding);
        projection.run(&[head], x, quantised, projected);
        projection.transpose(projected, headed.len(), logits);
        let vocab = self.config.vocab_size;
        let predictors = &mut self.predictors;
        predictors.expect(headed.len());
        let kernels = &self.kernels;
        self.tasks.run(logits, vocab, true, |at, own| {
            let row = &rows[headed[at]];
            predictors.predict(at, kernels, own, row, &seen[row.sequence.index()]);
        });
        (0..headed.len())
            .filter_map(|at| predictors.take(at))
            .collect()
    }

    fn logits(&self) -> &[f32] {
        &self.workspace.logits
    }
}

impl CpuModel {
    /// Zero-based block `block` on the residual stream.
    fn block(&mut self, block: usize, rows: &[Row]) {
        let Self {
            config,
            architecture,
            precision,
            kernels,
            tasks,
            weights,
            cache,
            workspace,
            ..
        } = self;
        let BlockWeights {
            attention_norm,
            q,
            k,
            v,
            qkv_bias,
            o,
            ffn_norm,
            gate,
            up,
            down,
        } = &weights.blocks[block];
        let Workspace {
            h,
            x,
            quantised,
            rotations,
            projected,
            q: queries,
            k: keys,
            v: values,
            ..
        } = workspace;
        let head_dim = config.head_dim;
        let projection = Projection {
            kernels,
            tasks,
            precision: *precision,
        };

        normalise(kernels, h, attention_norm, config.norm_epsilon, x);
        projection.run(&[q, k, v], x, quantised, projected);
        let count = rows.len();
        let (of_q, rest) = projected.split_at(q.rows * count);
        let (of_k, of_v) = rest.split_at(k.rows * count);
        for (to, from) in [(&mut *queries, of_q), (keys, of_k), (values, of_v)] {
            projection.transpose(from, count, to);
        }
        if let Some(biases) = qkv_bias {
            for (x, bias) in [&mut *queries, keys, values].into_iter().zip(biases) {
                x.chunks_mut(bias.len()).for_each(|row| add(row, bias));
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let rotations = &rotations[index * head_dim / 2..][..head_dim / 2];
            let keys = &mut keys[index * k.rows..][..k.rows];
            rotate(&mut queries[index * q.rows..][..q.rows], rotations);
            rotate(keys, rotations);
            cache.write(block, row, keys, &values[index * v.rows..][..v.rows]);
        }
        let (kv_heads, group) = (config.kv_heads, config.heads / config.kv_heads);
        x.resize(count * q.rows);
        // A short context is read sooner than a task is handed over.
        let keys_read: usize = rows.iter().map(|row| row.position.0 as usize + 1).sum();
        let width = group * head_dim;
        tasks.run(x, width, keys_read * q.rows > 1 << 15, |index, out| {
            let (row, kv_head) = (&rows[index / kv_heads], index % kv_heads);
            let queries = &queries[index * width..][..width];
            kernels.attend(cache, block, kv_head, row, queries, out);
        });
        projection.run(&[o], x, quantised, projected);
        projection.add_transposed(projected, count, h);

        normalise(kernels, h, ffn_norm, config.norm_epsilon, x);
        projection.run(&[gate, up], x, quantised, projected);
        let (of_gate, of_up) = projected.split_at_mut(gate.rows * count);
        // Element by element, so that the order does not matter.
        tasks.zip(of_gate, of_up, count > 4, |gate, up| {
            kernels.gated(architecture.activation, gate, up);
        });
        projection.transpose(of_gate, count, x);
        projection.run(&[down], x, quantised, projected);
        projection.add_transposed(projected, count, h);
    }
}

/// How a batch goes through weight matrices.
struct Projection<'a> {
    kernels: &'a Kernels,
    tasks: &'a Tasks,
    precision: Precision,
}

impl Projection<'_> {
    /// `x · Wᵀ` for each of `matrices`, which have as many columns: `x` is `[n, cols]`, `out` becomes
    /// `[rows of all matrices, n]`.
    fn run(
        &self,
        matrices: &[&WeightRows],
        x: &[f32],
        quantised: &mut Quantised,
        out: &mut Vec<f32>,
    ) {
        let cols = matrices[0].cols;
        let quantised = match self.precision {
            Precision::Exact => None,
            Precision::Fast => {
                let sixteen = |matrix: &&WeightRows| matrix.encoding == Encoding::Q8_0;
                let wide = matrices.iter().any(sixteen);
                let eight = !matrices.iter().all(sixteen);
                self.kernels.quantise(quantised, x, cols, eight, wide);
                Some(&*quantised)
            }
        };
        let inputs = Inputs {
            values: x,
            cols,
            quantised,
        };
        let count = inputs.rows();
        let rows: usize = matrices.iter().map(|matrix| matrix.rows).sum();
        out.resize(rows * count, 0.0);
        let rows_a_task = self.tasks.share(rows).next_multiple_of(dot::PANEL);
        self.tasks
            .run(out, rows_a_task * count, true, |task, mut out| {
                // A task may begin in one matrix and end in the next.
                let mut start = task * rows_a_task;
                for matrix in matrices {
                    if start < matrix.rows && !out.is_empty() {
                        let end = matrix.rows.min(start + out.len() / count);
                        let (here, rest) = out.split_at_mut((end - start) * count);
                        self.kernels.project(matrix, start..end, &inputs, here);
                        out = rest;
                        start = end;
                    }
                    start -= matrix.rows.min(start);
                }
            });
    }

    /// What comes out (`[w, n]`) as what goes in (`[n, w]`).
    fn transpose(&self, from: &[f32], n: usize, to: &mut Aligned<f32>) {
        to.resize(from.len());
        match n {
            1 => to.copy_from_slice(from),
            _ => self.exchange(from, n, to, false),
        }
    }

    /// Adds what comes out (`[w, n]`) to `sum` (`[n, w]`).
    fn add_transposed(&self, from: &[f32], n: usize, sum: &mut [f32]) {
        match n {
            1 => add(sum, from),
            _ => self.exchange(from, n, sum, true),
        }
    }

    fn exchange(&self, from: &[f32], n: usize, to: &mut [f32], add: bool) {
        let size = transpose::TOGETHER * (from.len() / n);
        // Less is done sooner than handed over.
        self.tasks.run(to, size, from.len() > 1 << 14, |task, to| {
            let first = task * transpose::TOGETHER;
            self.kernels.transpose(from, n, first, to, add);
        });
    }
}

impl Workspace {
    fn new(config: &ModelConfig) -> Self {
        let (q_width, kv_width) = (
            config.heads * config.head_dim,
            config.kv_heads * config.head_dim,
        );
        let widest = config.hidden_size.max(q_width).max(config.ffn_size);
        let stack = (q_width + 2 * kv_width).max(2 * config.ffn_size);
        let floats = |width: usize| Vec::with_capacity(ROWS * width);
        let aligned = |width: usize| Aligned::with_capacity(ROWS * width);
        Self {
            h: floats(config.hidden_size),
            x: aligned(widest),
            quantised: Quantised::with_capacity(ROWS, widest),
            rotations: Vec::with_capacity(ROWS * config.head_dim / 2),
            projected: floats(stack),
            q: aligned(q_width),
            k: aligned(kv_width),
            v: aligned(kv_width),
            logits: Aligned::default(),
            headed_h: Vec::with_capacity(HEAD_ROWS * config.hidden_size),
        }
    }
}

/// RMSNorm of every row of `x` (`[n, d]`) with gain `gain` (`[d]`), into `out`.
fn normalise(kernels: &Kernels, x: &[f32], gain: &[f32], epsilon: f32, out: &mut Aligned<f32>) {
    out.resize(x.len());
    for (row, out) in x.chunks(gain.len()).zip(out.chunks_mut(gain.len())) {
        let scale = 1.0 / (kernels.dot(row, row) / row.len() as f32 + epsilon).sqrt();
        for ((out, x), g) in out.iter_mut().zip(row).zip(gain) {
            *out = x * scale * g;
        }
    }
}

/// Rotates every head of `x` (`[heads, head_dim]`): element `i` pairs with `i + head_dim / 2`.
fn rotate(x: &mut [f32], rotations: &[(f32, f32)]) {
    for head in x.chunks_mut(2 * rotations.len()) {
        let (first, second) = head.split_at_mut(rotations.len());
        for ((a, b), (sin, cos)) in first.iter_mut().zip(second).zip(rotations) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

fn add(sum: &mut [f32], addend: &[f32]) {
    sum.iter_mut().zip(addend).for_each(|(sum, x)| *sum += x);
}
