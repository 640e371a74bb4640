//! The CPU executor: integer or f32 inner products over the weights as stored, in vector instructions,
//! on as many threads as there are (in the browser: one).

mod activations;
mod aligned;
mod attention;
mod dot;
mod exponential;
mod fuse;
mod kernels;
mod predict;
mod project;
#[doc(hidden)]
pub mod projection_bench;
mod tasks;
#[cfg(any(not(target_family = "wasm"), feature = "threads"))]
pub mod team;
pub(crate) mod train;
mod transpose;

use crate::adapter::{AdaptedRows, Lies, add_adapted};
use crate::error::EngineError;
use crate::executor::Row;
use crate::host::{HostExecutor, HostModel, Observer, limits};
use crate::index::{SequenceIndex, TokenId};
use crate::memory::{MemoryNeeds, MemoryThere};
use crate::op::{
    Activation, Attention, Factor, ForwardPass, Norm, NormKind, Op, Rotation, RotationId, Value,
};
use crate::record::Prediction;
use crate::types::{Backend, EngineInfo, EngineOptions, LoadProgress, Precision};
use crate::weights::Weights;
use activations::{Inputs, Quantised};
use aligned::Aligned;
use attention::{CacheShape, KeyValueCache};
use fuse::{Step, split_first};
use kernels::Kernels;
use predict::Predictors;
use std::ops::{Index, IndexMut};
use std::sync::Arc;
use tasks::Tasks;
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile, WeightRows};

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
    pass: Arc<ForwardPass>,
    precision: Precision,
    kernels: Kernels,
    tasks: Tasks,
    weights: Arc<Weights>,
    cache: KeyValueCache,
    workspace: Workspace,
    predictors: Predictors,
    /// Of the batch under way.
    adapted: Vec<AdaptedRows>,
}

/// The tensors of a batch and the room that computing them takes, allocated once.
#[derive(Debug)]
struct Workspace {
    /// Each `[n, its width]`.
    values: [Aligned<f32>; Value::COUNT],
    quantised: Quantised,
    rotations: Rotations,
    /// The product of a stack of matrices, `[their rows, n]`.
    projected: Vec<f32>,
    logits: Aligned<f32>,
}

/// Sines and cosines of a batch's positions, `[n, pairs]`, for the last rotation that was asked for.
#[derive(Debug)]
struct Rotations {
    last: Option<RotationId>,
    angles: Vec<(f32, f32)>,
}

impl CpuExecutor {
    pub async fn load<S: ByteSource>(
        config: &ModelConfig,
        pass: ForwardPass,
        weights: &WeightFile<S>,
        options: EngineOptions,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        let there = MemoryThere::of_this_program();
        let needs = MemoryNeeds::of_file(config, Backend::Cpu, options.precision, weights)?;
        if let Some(shortage) = needs.shortage(there) {
            return Err(shortage.into());
        }
        let weights = Weights::load(&pass, weights, progress).await?;
        let quantised = pass
            .projections()
            .all(|matrix| weights[matrix].encoding.is_quantised());
        let precision = match options.precision {
            Precision::Fast if quantised => Precision::Fast,
            _ => Precision::Exact,
        };
        let mut limits = limits(config, options, ROWS);
        limits.context = limits.context.min(needs.longest_context(there));
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
            pass: Arc::new(pass),
            precision,
            kernels,
            tasks,
            weights: Arc::new(weights),
            // Rounding to f16 is far below that of 8-bit activations, and far above what "exact" promises.
            cache: KeyValueCache::new(shape, limits.sequences, precision == Precision::Fast),
            workspace: Workspace::new(config),
            predictors: Predictors::default(),
            adapted: Vec::new(),
        };
        Ok((Self::new(model, config, limits), info))
    }
}

impl HostModel for CpuModel {
    const ROWS: usize = ROWS;
    const HEAD_ROWS: usize = HEAD_ROWS;

    fn forward(&mut self, rows: &[Row], tokens: &[TokenId], observer: &mut Observer<'_>) {
        rows.iter().for_each(|row| self.cache.reserve(row));
        self.workspace.rotations.last = None;
        self.adapted = observer.adapted();
        let pass = Arc::clone(&self.pass);
        self.run(&pass.body, rows, tokens, Some(observer));
    }

    fn predict(&mut self, rows: &[Row], headed: &[usize], seen: &[Vec<bool>]) -> Vec<Prediction> {
        let (pass, d) = (Arc::clone(&self.pass), self.config.hidden_size);
        let residual = std::mem::take(&mut self.workspace[Value::Residual]);
        self.workspace[Value::Residual].resize(headed.len() * d);
        let inputs = self.workspace[Value::Residual].chunks_mut(d);
        for (input, &index) in inputs.zip(headed) {
            input.copy_from_slice(&residual[index * d..][..d]);
        }
        self.run(&pass.head, rows, &[], None);
        self.workspace[Value::Residual] = residual;
        let predictors = &mut self.predictors;
        predictors.expect(headed.len());
        let (kernels, vocab) = (&self.kernels, self.config.vocab_size);
        let logits = &mut self.workspace.logits;
        self.tasks.run(logits, vocab, true, |at, own| {
            let row = &rows[headed[at]];
            predictors.predict(at, kernels, own, row, &seen[row.sequence.index()]);
        });
        (0..headed.len())
            .filter_map(|at| predictors.take(at))
            .collect()
    }

    fn fork(&mut self, from: SequenceIndex, to: SequenceIndex, length: usize) {
        self.cache.fork(from, to, length);
    }

    fn logits(&self) -> &[f32] {
        &self.workspace.logits
    }
}

impl CpuModel {
    pub(crate) fn pass(&self) -> &Arc<ForwardPass> {
        &self.pass
    }

    pub(crate) fn weights(&self) -> &Arc<Weights> {
        &self.weights
    }

    /// Goes through `ops`, from whose first the values that they read are known.
    fn run(
        &mut self,
        mut ops: &[Op],
        rows: &[Row],
        tokens: &[TokenId],
        mut observer: Option<&mut Observer<'_>>,
    ) {
        let wants = |observer: &Option<&mut Observer<'_>>, site| {
            observer
                .as_ref()
                .is_some_and(|observer| observer.wants(site))
        };
        while let Some((step, rest)) = split_first(ops, |site| wants(&observer, site)) {
            match step {
                Step::Gated { of, by, activation } => self.project_gated(of, by, activation),
                Step::Added { of, by } => self.project_added(of, by),
                Step::Alone(op) => self.one(op, rows, tokens, observer.as_deref_mut()),
            }
            ops = rest;
        }
    }

    fn one(
        &mut self,
        op: &Op,
        rows: &[Row],
        tokens: &[TokenId],
        observer: Option<&mut Observer<'_>>,
    ) {
        let (config, kernels, weights) = (&self.config, &self.kernels, &self.weights);
        let workspace = &mut self.workspace;
        match op {
            Op::Embed { matrix, scale } => {
                let matrix = &weights[*matrix];
                let h = &mut workspace[Value::Residual];
                h.resize(tokens.len() * matrix.cols);
                for (token, h) in tokens.iter().zip(h.chunks_mut(matrix.cols)) {
                    matrix.dequantise_row(token.0 as usize, h);
                    h.iter_mut().for_each(|h| *h *= scale);
                }
            }
            Op::AddPosition { matrix } => {
                let matrix = &weights[*matrix];
                let mut learned = vec![0.0; matrix.cols];
                let h = workspace[Value::Residual].chunks_mut(matrix.cols);
                for (row, h) in rows.iter().zip(h) {
                    matrix.dequantise_row(row.position.0 as usize, &mut learned);
                    add(h, &learned, 1.0);
                }
            }
            Op::Boundary { site, of } => {
                if let Some(observer) = observer {
                    observer.boundary(*site, &mut workspace[*of], |a, b| kernels.dot(a, b));
                }
            }
            Op::Norm { of, by, to } => {
                let weights = (&weights[by.gain], by.bias.map(|bias| &weights[bias]));
                if of == to {
                    let x = &mut workspace[*of];
                    normalise(kernels, by, weights, x);
                } else {
                    let mut out = std::mem::take(&mut workspace[*to]);
                    let x = &workspace[*of];
                    out.resize(x.len());
                    out.copy_from_slice(x);
                    normalise(kernels, by, weights, &mut out);
                    workspace[*to] = out;
                }
            }
            Op::Project { of, by } => {
                let count = self.project(*of, by);
                let (projection, weights, workspace) = self.projection();
                let mut projected = &workspace.projected[..];
                for factor in by {
                    let (own, others) = projected.split_at(weights[factor.matrix].rows * count);
                    let to = &mut workspace.values[factor.to as usize];
                    projection.transpose(own, count, to);
                    if let Some(bias) = factor.bias {
                        let bias = &weights[bias];
                        to.chunks_mut(bias.len())
                            .for_each(|row| add(row, bias, 1.0));
                    }
                    projected = others;
                }
            }
            Op::Rotate { of, by } => {
                let Workspace {
                    values, rotations, ..
                } = workspace;
                let rotation = self.pass.rotation(*by);
                let angles = rotations.of(rows, *by, rotation);
                let x = &mut values[*of as usize];
                let width = x.len() / rows.len();
                let angles = angles.chunks(rotation.frequencies.len());
                for (x, angles) in x.chunks_mut(width).zip(angles) {
                    rotate(x, config.head_dim, angles);
                }
            }
            Op::Attend { block, by } => self.attend(*block, *by, rows, observer),
            Op::Gate { by } => {
                let up = std::mem::take(&mut workspace[Value::Up]);
                kernels.gated(*by, &mut workspace[Value::Gate], &up);
                workspace[Value::Up] = up;
            }
            Op::Activate { by } => kernels.activated(*by, &mut workspace[Value::Gate]),
            Op::Add { of, scale } => {
                let x = std::mem::take(&mut workspace[*of]);
                add(&mut workspace[Value::Residual], &x, *scale);
                workspace[*of] = x;
            }
            Op::Head { of, matrix, scale } => {
                let (projection, weights, workspace) = self.projection();
                let Workspace {
                    values,
                    quantised,
                    projected,
                    logits,
                    ..
                } = workspace;
                let (matrix, x) = (&weights[*matrix], &values[*of as usize]);
                projection.run(&[matrix], x, quantised, projected);
                projection.transpose(projected, x.len() / matrix.cols, logits);
                if *scale != 1.0 {
                    logits.iter_mut().for_each(|logit| *logit *= scale);
                }
            }
        }
    }

    /// See [`Op::Attend`].
    fn attend(
        &mut self,
        block: usize,
        by: Attention,
        rows: &[Row],
        mut observer: Option<&mut Observer<'_>>,
    ) {
        let Self {
            config,
            kernels,
            tasks,
            cache,
            workspace,
            ..
        } = self;
        let (keys, values) = (&workspace[Value::Keys], &workspace[Value::Values]);
        let width = keys.len() / rows.len();
        let new = keys.chunks(width).zip(values.chunks(width));
        for (row, (keys, values)) in rows.iter().zip(new) {
            cache.write(block, row, keys, values);
        }
        let mut heads = std::mem::take(&mut workspace[Value::Heads]);
        let queries = &workspace[Value::Queries];
        heads.resize(queries.len());
        // A short context is read sooner than a task is handed over.
        let seen = |row: &Row| row.position.0 as usize + 1 - by.first(row.position.0 as usize);
        let keys_read: usize = rows.iter().map(seen).sum();
        let shared = keys_read * (queries.len() / rows.len()) > 1 << 15;
        let kv_heads = config.kv_heads;
        let width = config.heads / kv_heads * config.head_dim;
        tasks.run(&mut heads, width, shared, |index, out| {
            let (row, kv_head) = (&rows[index / kv_heads], index % kv_heads);
            let queries = &queries[index * width..][..width];
            kernels.attend(cache, (block, kv_head), by, row, queries, out);
        });
        workspace[Value::Heads] = heads;
        let queries = workspace[Value::Queries].chunks(width * kv_heads);
        for (index, (row, queries)) in rows.iter().zip(queries).enumerate() {
            if let Some(observer) = &mut observer
                && observer.wants_attention(index)
            {
                let weights = attention::weights(kernels, cache, block, by, row, queries);
                observer.attention(index, &weights);
            }
        }
    }

    fn projection(&mut self) -> (Projection<'_>, &Weights, &mut Workspace) {
        let projection = Projection {
            kernels: &self.kernels,
            tasks: &self.tasks,
            precision: self.precision,
        };
        (projection, &self.weights, &mut self.workspace)
    }

    /// Multiplies `of` with the matrices of `by`, adapters beside them included, into the workspace's `projected`; says how many rows
    /// `of` has.
    fn project(&mut self, of: Value, by: &[Factor]) -> usize {
        let (projection, weights, workspace) = self.projection();
        let matrices: Vec<_> = by.iter().map(|factor| &weights[factor.matrix]).collect();
        let x = &workspace.values[of as usize];
        let (quantised, projected) = (&mut workspace.quantised, &mut workspace.projected);
        projection.run(&matrices, x, quantised, projected);
        let cols = matrices[0].cols;
        let count = x.len() / cols;
        if !self.adapted.is_empty() {
            let mut projected = &mut self.workspace.projected[..];
            let x = &self.workspace.values[of as usize];
            for factor in by {
                let rows = self.weights[factor.matrix].rows;
                let (own, others) = projected.split_at_mut(rows * count);
                let out = (own, Lies::Transposed);
                let matrix = (factor.matrix, rows);
                add_adapted(&self.adapted, matrix, (x, cols), out, |a, b| {
                    self.kernels.dot(a, b)
                });
                projected = others;
            }
        }
        count
    }

    /// See [`Step::Gated`].
    fn project_gated(&mut self, of: Value, by: &[Factor], activation: Activation) {
        let count = self.project(of, by);
        let (projection, _, workspace) = self.projection();
        let half = workspace.projected.len() / 2;
        let (gate, up) = workspace.projected.split_at_mut(half);
        // Element by element, so that the order does not matter.
        projection.tasks.zip(gate, up, count > 4, |gate, up| {
            projection.kernels.gated(activation, gate, up);
        });
        projection.transpose(gate, count, &mut workspace.values[Value::Gate as usize]);
    }

    /// See [`Step::Added`].
    fn project_added(&mut self, of: Value, by: &[Factor]) {
        let count = self.project(of, by);
        let (projection, _, workspace) = self.projection();
        let residual = &mut workspace.values[Value::Residual as usize];
        projection.add_transposed(&workspace.projected, count, residual);
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
                let sixteen = |matrix: &&WeightRows| dot::wide(matrix.encoding);
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

    /// Turns the result of a projection (`[w, n]`) into rows (`[n, w]`).
    fn transpose(&self, from: &[f32], n: usize, to: &mut Aligned<f32>) {
        to.resize(from.len());
        match n {
            1 => to.copy_from_slice(from),
            _ => self.exchange(from, n, to, false),
        }
    }

    /// Adds the result of a projection (`[w, n]`) to `sum` (`[n, w]`).
    fn add_transposed(&self, from: &[f32], n: usize, sum: &mut [f32]) {
        match n {
            1 => add(sum, from, 1.0),
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
        let widths = Value::ALL.map(|value| value.width(config));
        let widest = widths.into_iter().max().unwrap_or(0);
        Self {
            values: widths.map(|width| Aligned::with_capacity(ROWS * width)),
            quantised: Quantised::with_capacity(ROWS, widest),
            rotations: Rotations {
                last: None,
                angles: Vec::with_capacity(ROWS * config.head_dim / 2),
            },
            projected: Vec::with_capacity(ROWS * 2 * widest),
            logits: Aligned::default(),
        }
    }
}

impl Index<Value> for Workspace {
    type Output = Aligned<f32>;

    fn index(&self, value: Value) -> &Aligned<f32> {
        &self.values[value as usize]
    }
}

impl IndexMut<Value> for Workspace {
    fn index_mut(&mut self, value: Value) -> &mut Aligned<f32> {
        &mut self.values[value as usize]
    }
}

impl Rotations {
    fn of(&mut self, rows: &[Row], id: RotationId, rotation: &Rotation) -> &[(f32, f32)] {
        if self.last != Some(id) {
            self.last = Some(id);
            self.angles.clear();
            for row in rows {
                self.angles.extend(rotation.at(row.position.0));
            }
        }
        &self.angles
    }
}

/// Normalises every `w` neighbouring numbers of `x` with a gain and perhaps a bias (`[w]`); see [`NormKind`].
fn normalise(kernels: &Kernels, by: &Norm, (gain, bias): (&[f32], Option<&[f32]>), x: &mut [f32]) {
    for row in x.chunks_mut(gain.len()) {
        let count = row.len() as f32;
        if by.kind == NormKind::Layer {
            let mean = row.iter().sum::<f32>() / count;
            row.iter_mut().for_each(|x| *x -= mean);
        }
        let scale = 1.0 / (kernels.dot(row, row) / count + by.epsilon).sqrt();
        for (x, g) in row.iter_mut().zip(gain) {
            *x = *x * scale * g;
        }
        if let Some(bias) = bias {
            add(row, bias, 1.0);
        }
    }
}

/// Turns every head of `x` (`[heads, head_dim]`); see [`Rotation`].
fn rotate(x: &mut [f32], head_dim: usize, rotations: &[(f32, f32)]) {
    for head in x.chunks_mut(head_dim) {
        let (first, second) = head.split_at_mut(rotations.len());
        for ((a, b), (sin, cos)) in first.iter_mut().zip(second).zip(rotations) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}

/// `sum = sum + scale · addend`
fn add(sum: &mut [f32], addend: &[f32], scale: f32) {
    let both = sum.iter_mut().zip(addend);
    both.for_each(|(sum, x)| *sum += scale * x);
}
