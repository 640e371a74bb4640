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

use crate::architecture::{Architecture, Norm, Positions};
use crate::divergence::divergence;
use crate::engine::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use crate::error::EngineError;
use crate::executor::{Batch, BatchRecord, ChangeSlot, Execute, Head, Limits, Row, TokenSource};
use crate::host_weights::{BlockWeights, Weights};
use crate::index::{Layer, SequenceIndex, TokenId};
use crate::record::{Readings, TokenRecord};
use crate::reference::rotation;
use crate::steering::{ComposedChange, LayerChange, LayerTable, MAX_CLAMPS};
use activations::{Inputs, Quantised};
use aligned::Aligned;
use attention::{CacheShape, KeyValueCache};
use kernels::Kernels;
use predict::Predictors;
use std::collections::VecDeque;
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

#[derive(Debug)]
pub struct CpuExecutor {
    config: ModelConfig,
    architecture: Architecture,
    precision: Precision,
    limits: Limits,
    kernels: Kernels,
    tasks: Tasks,
    weights: Weights,
    cache: KeyValueCache,
    directions: Vec<LayerTable>,
    changes: Vec<Option<ComposedChange>>,
    /// For each sequence, which tokens the repetition penalty counts: `[vocab]`.
    seen: Vec<Vec<bool>>,
    sampled: Vec<Option<TokenId>>,
    workspace: Workspace,
    predictors: Predictors,
    /// `[vocab]`, of the row before those that are predicted together; empty unless needed.
    last_logits: Vec<f32>,
    finished: VecDeque<BatchRecord>,
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
    /// The rows' tokens, `[n]`.
    tokens: Vec<TokenId>,
    /// Which rows ask for the head, and the residual stream of those that are predicted together.
    headed: Vec<usize>,
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
        if architecture.norm != Norm::Rms || architecture.qk_norm {
            return Err(EngineError::UnsupportedModel {
                reason: "its normalisation is not supported yet".into(),
            });
        }
        let weights = Weights::load(config, &architecture, weights, progress).await?;
        let quantised = weights.matrices().all(|matrix| matrix.encoding.has_scale());
        let precision = match options.precision {
            Precision::Fast if quantised => Precision::Fast,
            _ => Precision::Exact,
        };
        let sequences = options.sequences;
        let limits = Limits {
            rows: ROWS,
            head_rows: ROWS,
            sequences,
            context: options
                .context
                .unwrap_or(config.context)
                .min(config.context),
            change_slots: 2 * sequences + 2,
            in_flight: 4,
        };
        let kernels = Kernels::best();
        let tasks = Tasks::new();
        let info = EngineInfo {
            backend: Backend::Cpu,
            precision,
            adapter: format!("CPU, {}, {}", kernels.name, tasks),
            software: false,
            context: limits.context,
            sequences,
            device_bytes: weights.bytes(),
        };
        let shape = CacheShape {
            blocks: config.layers,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
        };
        let executor = Self {
            config: config.clone(),
            architecture,
            precision,
            limits,
            kernels,
            tasks,
            weights,
            // Rounding to f16 is far below that of 8-bit activations, and far above what "exact" promises.
            cache: KeyValueCache::new(shape, sequences, precision == Precision::Fast),
            directions: Vec::new(),
            changes: vec![None; limits.change_slots],
            seen: vec![vec![false; config.vocab_size]; sequences],
            sampled: vec![None; sequences],
            workspace: Workspace::new(config),
            predictors: Predictors::default(),
            last_logits: Vec::new(),
            finished: VecDeque::new(),
        };
        Ok((executor, info))
    }

    /// Runs the blocks over `rows` with their `tokens`, leaves the residual stream after the last
    /// block in the workspace and fills `records` and `residual` (`[n, L+1, d]`, where captured).
    fn forward(
        &mut self,
        rows: &[Row],
        tokens: &[TokenId],
        records: &mut [TokenRecord],
        residual: &mut [f32],
    ) {
        let d = self.config.hidden_size;
        let layers = self.config.layers;
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
        for layer in 0..=layers {
            for (index, (row, h)) in rows.iter().zip(self.workspace.h.chunks_mut(d)).enumerate() {
                if let Some(change) = row
                    .change
                    .and_then(|slot| self.changes[slot.0 as usize].as_ref())
                {
                    apply(&self.kernels, &change.layers[layer], row.position.0 == 0, h);
                }
                for (direction, table) in self.directions.iter().enumerate() {
                    let at = direction * (layers + 1) + layer;
                    records[index].readings.values[at] =
                        self.kernels.dot(h, table.row(Layer(layer as u32)));
                }
                if !residual.is_empty() {
                    residual[(index * (layers + 1) + layer) * d..][..d].copy_from_slice(h);
                }
            }
            if layer < layers {
                self.block(layer, rows);
            }
        }
    }

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
            tokens: Vec::with_capacity(ROWS),
            headed: Vec::with_capacity(ROWS),
            headed_h: Vec::with_capacity(HEAD_ROWS * config.hidden_size),
        }
    }
}

impl Execute for CpuExecutor {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn set_directions(&mut self, directions: &[LayerTable]) -> Result<(), EngineError> {
        self.directions = directions.to_vec();
        Ok(())
    }

    fn set_change(&mut self, slot: ChangeSlot, change: &ComposedChange) -> Result<(), EngineError> {
        self.changes[slot.0 as usize] = Some(change.clone());
        Ok(())
    }

    fn set_seen(&mut self, sequence: SequenceIndex, tokens: &[TokenId]) -> Result<(), EngineError> {
        let seen = &mut self.seen[sequence.index()];
        seen.fill(false);
        for token in tokens {
            seen[token.0 as usize] = true;
        }
        Ok(())
    }

    fn submit(&mut self, batch: &Batch) -> Result<(), EngineError> {
        let record = self.compute(batch)?;
        self.finished.push_back(record);
        Ok(())
    }

    async fn collect(&mut self) -> Result<BatchRecord, EngineError> {
        self.finished
            .pop_front()
            .ok_or_else(|| EngineError::Usage("nothing is queued".into()))
    }
}

impl CpuExecutor {
    fn compute(&mut self, batch: &Batch) -> Result<BatchRecord, EngineError> {
        let rows = &batch.rows;
        if rows.len() > self.limits.rows {
            return Err(EngineError::Usage("too much was queued at once".into()));
        }
        let layer_rows = self.config.layers + 1;
        let mut tokens = std::mem::take(&mut self.workspace.tokens);
        tokens.clear();
        for row in rows {
            tokens.push(match row.token {
                TokenSource::Id(token) => token,
                TokenSource::Sampled => self.sampled[row.sequence.index()].ok_or_else(|| {
                    EngineError::Usage("nothing was sampled in this sequence yet".into())
                })?,
            });
        }
        let mut records: Vec<_> = rows
            .iter()
            .zip(&tokens)
            .map(|(row, &token)| TokenRecord {
                sequence: row.sequence,
                position: row.position,
                token,
                readings: Readings {
                    values: vec![0.0; self.directions.len() * layer_rows],
                    layer_rows,
                },
                prediction: None,
            })
            .collect();
        let captured = match batch.capture {
            true => rows.len() * layer_rows * self.config.hidden_size,
            false => 0,
        };
        let mut residual = vec![0.0; captured];
        self.forward(rows, &tokens, &mut records, &mut residual);
        for (row, token) in rows.iter().zip(&tokens) {
            self.seen[row.sequence.index()][token.0 as usize] = true;
        }
        let mut headed = std::mem::take(&mut self.workspace.headed);
        headed.clear();
        headed.extend((0..rows.len()).filter(|&index| rows[index].head != Head::Skip));
        self.last_logits.clear();
        for headed in headed.chunks(HEAD_ROWS) {
            self.predict(rows, headed, &mut records);
        }
        self.workspace.tokens = tokens;
        self.workspace.headed = headed;
        Ok(BatchRecord {
            tokens: records,
            residual,
        })
    }

    /// Fills in the predictions after the rows `headed`, at most [`HEAD_ROWS`].
    fn predict(&mut self, rows: &[Row], headed: &[usize], records: &mut [TokenRecord]) {
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
        let (kernels, seen) = (&self.kernels, &self.seen);
        self.tasks.run(logits, vocab, true, |at, own| {
            let row = &rows[headed[at]];
            predictors.predict(at, kernels, own, row, &seen[row.sequence.index()]);
        });
        for (at, (&index, own)) in headed.iter().zip(logits.chunks(vocab)).enumerate() {
            let row = &rows[index];
            let sequence = row.sequence.index();
            let Some(mut prediction) = predictors.take(at) else {
                continue;
            };
            if matches!(row.head, Head::Compare(_)) {
                let before = match at {
                    0 => &self.last_logits[..],
                    _ => &logits[(at - 1) * vocab..][..vocab],
                };
                prediction.divergence = Some(divergence(before, own));
            }
            if matches!(row.head, Head::Sample(_)) {
                self.sampled[sequence] = Some(prediction.chosen);
            }
            records[index].prediction = Some(prediction);
        }
        // Only where the next row that asks for the head compares itself with the last of these.
        let next = headed.last().and_then(|&last| {
            let mut after = rows[last + 1..].iter();
            after.find(|row| row.head != Head::Skip)
        });
        if next.is_some_and(|row| matches!(row.head, Head::Compare(_))) {
            self.last_logits.clear();
            let last = &logits[(headed.len() - 1) * vocab..];
            self.last_logits.extend_from_slice(last);
        }
    }
}

/// One layer's change on one token's residual `h` (`[d]`).
fn apply(kernels: &Kernels, change: &LayerChange, first_token: bool, h: &mut [f32]) {
    if !change.add.is_empty() {
        add(h, &change.add);
    }
    if first_token || change.clamps.is_empty() {
        return;
    }
    // All components are measured before any of them is changed.
    let mut components = [0.0; MAX_CLAMPS];
    for (component, clamp) in components.iter_mut().zip(&change.clamps) {
        *component = kernels.dot(h, &clamp.direction);
    }
    for (clamp, component) in change.clamps.iter().zip(components) {
        let shift = component.clamp(clamp.low, clamp.high) - component;
        h.iter_mut()
            .zip(&clamp.direction)
            .for_each(|(h, v)| *h += shift * v);
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
