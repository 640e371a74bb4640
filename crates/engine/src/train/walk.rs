//! The operations of a list forwards, noting what their backward needs.
//!
//! An operation overwrites what it writes to, so that a tensor is shared between the walk and its notes and copied only where
//! one that is noted would be overwritten.

use super::adapter::Adapter;
use super::changes::{Changes, Clamped, Penalty};
use super::example::Rows;
use super::kernels::{AttentionShape, AttentionValues, NormWeights, TrainingKernels};
use super::model::BaseModel;
use crate::index::{Site, TokenId};
use crate::op::{Attention, Factor, Norm, Op, Rotation, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// `[rows, width]`
pub(super) type Tensor = Arc<Vec<f32>>;

/// The tensors of a list of operations, or the derivatives by them, where there are any.
#[derive(Debug, Default)]
pub(super) struct Tensors<T>([Option<T>; Value::COUNT]);

impl<T> Tensors<T> {
    pub fn with(value: Value, tensor: T) -> Self
    where
        T: Default,
    {
        let mut tensors = Self::default();
        tensors.set(value, tensor);
        tensors
    }

    pub fn set(&mut self, value: Value, tensor: T) {
        self.0[value as usize] = Some(tensor);
    }

    pub fn get(&self, value: Value) -> &T {
        let tensor = self.0[value as usize].as_ref();
        tensor.expect("a family's list reads only what it has written")
    }

    pub fn take(&mut self, value: Value) -> T {
        let tensor = self.0[value as usize].take();
        tensor.expect("a family's list reads only what it has written")
    }
}

impl Tensors<Vec<f32>> {
    /// Adds the derivative by one reading of a value to those by its other readings.
    pub fn add(&mut self, value: Value, by: Vec<f32>) {
        match &mut self.0[value as usize] {
            Some(sum) => add(sum, &by, 1.0),
            none => *none = Some(by),
        }
    }
}

/// What the backward of one operation needs.
#[derive(Debug)]
pub(super) enum Noted {
    Nothing,
    /// What a norm or an activation read.
    Input(Tensor),
    Gate {
        gate: Tensor,
        up: Tensor,
    },
    Attention {
        queries: Tensor,
        keys: Tensor,
        values: Tensor,
        log_sums: Vec<f32>,
    },
    /// What a projection with adapters read, and `A` times it for each module by its number.
    Adapted {
        input: Tensor,
        inner: BTreeMap<usize, Vec<f32>>,
    },
    Boundary {
        clamped: Option<Clamped>,
        /// The projection's change from the base model of each row, where it is penalised.
        shifts: Option<Vec<f32>>,
    },
}

/// A penalty on its way through a micro-batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Penalised<'a> {
    pub penalty: &'a Penalty,
    /// The base model's projection of each row.
    pub base: &'a [f32],
    /// One divided by the response tokens over which a step's loss is averaged.
    pub share: f32,
}

/// Everything that a walk reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk<'a> {
    pub model: &'a BaseModel,
    pub kernels: &'a dyn TrainingKernels,
    /// `None`: the base model.
    pub adapter: Option<&'a Adapter>,
    pub changes: &'a Changes,
    pub penalised: Option<Penalised<'a>>,
    pub rows: &'a Rows,
}

/// `sum += scale · x`
pub(super) fn add(sum: &mut [f32], x: &[f32], scale: f32) {
    let both = sum.iter_mut().zip(x);
    both.for_each(|(sum, x)| *sum += scale * x);
}

/// `[height, width]` from `[width, height]`.
pub(super) fn transposed(x: &[f32], height: usize) -> Vec<f32> {
    let columns = 0..height;
    columns
        .flat_map(|column| x.iter().skip(column).step_by(height).copied())
        .collect()
}

/// Part of a module's `B` (`[outputs, r]`), its rows `rows`, transposed: `[r, rows]`.
pub(super) fn rows_of_b(b: &[f32], rows: Range<usize>, rank: usize) -> Vec<f32> {
    transposed(&b[rows.start * rank..rows.end * rank], rank)
}

impl<'a> Walk<'a> {
    /// Goes through `ops` from the first to the last. With `notes`, what their backward needs is added to these, an entry each.
    pub fn forward(
        &self,
        ops: &[Op],
        values: &mut Tensors<Tensor>,
        mut notes: Option<&mut Vec<Noted>>,
    ) {
        for op in ops {
            let noted = self.forward_one(op, values, notes.is_some());
            if let Some(notes) = &mut notes {
                notes.push(noted);
            }
        }
    }

    fn forward_one(&self, op: &Op, values: &mut Tensors<Tensor>, note: bool) -> Noted {
        let weights = self.model.weights();
        let kernels = self.kernels;
        match op {
            Op::Embed { matrix, scale } => {
                let matrix = &weights[*matrix];
                let mut residual = vec![0.0; self.rows.count() * matrix.cols];
                let rows = residual.chunks_mut(matrix.cols).zip(&self.rows.tokens);
                for (row, TokenId(token)) in rows {
                    matrix.dequantise_row(*token as usize, row);
                    row.iter_mut().for_each(|x| *x *= scale);
                }
                values.set(Value::Residual, residual.into());
                Noted::Nothing
            }
            Op::AddPosition { matrix } => {
                let matrix = &weights[*matrix];
                let mut residual = values.take(Value::Residual);
                let mut learned = vec![0.0; matrix.cols];
                let rows = Arc::make_mut(&mut residual).chunks_mut(matrix.cols);
                for (row, position) in rows.zip(&self.rows.positions) {
                    matrix.dequantise_row(*position as usize, &mut learned);
                    add(row, &learned, 1.0);
                }
                values.set(Value::Residual, residual);
                Noted::Nothing
            }
            Op::Boundary { site, of } => self.boundary(*site, *of, values),
            Op::Norm { of, by, to } => {
                let input = Arc::clone(values.get(*of));
                let out = kernels.norm(&input, &self.norm(by));
                values.set(*to, out.into());
                Noted::Input(input)
            }
            Op::Project { of, by } => self.project(*of, by, values, note),
            Op::Rotate { of, by } => {
                let mut x = values.take(*of);
                let (positions, head_dim) = (&self.rows.positions, self.model.config().head_dim);
                let rotation = self.rotation(*by);
                let own: &mut Vec<f32> = Arc::make_mut(&mut x);
                kernels.rotate(own, positions, head_dim, rotation);
                values.set(*of, x);
                Noted::Nothing
            }
            Op::Attend { by, .. } => {
                let [queries, keys, own] =
                    [Value::Queries, Value::Keys, Value::Values].map(|value| values.take(value));
                let of = AttentionValues {
                    queries: &queries,
                    keys: &keys,
                    values: &own,
                };
                let (heads, log_sums) = kernels.attend(&of, &self.shape(*by));
                values.set(Value::Heads, heads.into());
                Noted::Attention {
                    queries,
                    keys,
                    values: own,
                    log_sums,
                }
            }
            Op::Gate { by } => {
                let (gate, up) = (values.take(Value::Gate), values.take(Value::Up));
                values.set(Value::Gate, kernels.gate(*by, &gate, &up).into());
                Noted::Gate { gate, up }
            }
            Op::Activate { by } => {
                let gate = values.take(Value::Gate);
                values.set(Value::Gate, kernels.activate(*by, &gate).into());
                Noted::Input(gate)
            }
            Op::Add { of, scale } => {
                let mut residual = values.take(Value::Residual);
                let sum: &mut Vec<f32> = Arc::make_mut(&mut residual);
                add(sum, values.get(*of), *scale);
                values.set(Value::Residual, residual);
                Noted::Nothing
            }
            // Its logits are never all there at once: see `super::loss`.
            Op::Head { .. } => Noted::Nothing,
        }
    }

    fn boundary(&self, site: Site, of: Value, values: &mut Tensors<Tensor>) -> Noted {
        let mut clamped = None;
        if self.changes.act_at(site) {
            let mut x = values.take(of);
            let all = Arc::make_mut(&mut x);
            clamped = Some(self.changes.apply(site, self.rows, all, self.kernels));
            values.set(of, x);
        }
        let penalised = self.penalised_at(site);
        let shifts = penalised.map(|Penalised { penalty, base, .. }| {
            let h = values.get(of).chunks(penalty.direction.len());
            let projections = h.map(|h| self.kernels.dot(h, &penalty.direction));
            projections
                .zip(base)
                .map(|(own, base)| own - base)
                .collect()
        });
        Noted::Boundary { clamped, shifts }
    }

    pub(super) fn penalised_at(&self, site: Site) -> Option<Penalised<'a>> {
        let here = |penalised: &Penalised<'_>| site == Site::residual(penalised.penalty.layer);
        self.penalised.filter(here)
    }

    fn project(&self, of: Value, by: &[Factor], values: &mut Tensors<Tensor>, note: bool) -> Noted {
        let weights = self.model.weights();
        let input = Arc::clone(values.get(of));
        let matrices: Vec<_> = by.iter().map(|factor| &weights[factor.matrix]).collect();
        let outputs = self.kernels.project(&matrices, &input);
        let mut inner = BTreeMap::new();
        for (factor, mut out) in by.iter().zip(outputs) {
            let rows = weights[factor.matrix].rows;
            if let Some(bias) = factor.bias {
                out.chunks_mut(rows)
                    .for_each(|row| add(row, &weights[bias], 1.0));
            }
            if let Some((adapter, number, first)) = self.adapter_of(factor) {
                let (module, rank) = (&adapter.modules()[number], adapter.config().rank);
                let inner = inner.entry(number).or_insert_with(|| {
                    let a = adapter.a(module);
                    let mut inner = self
                        .kernels
                        .product_with_transposed(&input, a, module.inputs);
                    let scale = adapter.config().scale();
                    inner.iter_mut().for_each(|x| *x *= scale);
                    inner
                });
                let b = rows_of_b(adapter.b(module), first..first + rows, rank);
                self.kernels.add_product(inner, &b, rank, &mut out);
            }
            values.set(factor.to, out.into());
        }
        match note && !inner.is_empty() {
            true => Noted::Adapted { input, inner },
            false => Noted::Nothing,
        }
    }

    /// The adapter, the number of its module beside that factor, and the first of the module's rows that are the factor's.
    pub(super) fn adapter_of(&self, factor: &Factor) -> Option<(&'a Adapter, usize, usize)> {
        let adapter = self.adapter?;
        let (number, first) = adapter.module_of(factor.matrix)?;
        Some((adapter, number, first))
    }

    pub(super) fn norm(&self, by: &Norm) -> NormWeights<'a> {
        let weights = self.model.weights();
        NormWeights {
            kind: by.kind,
            gain: &weights[by.gain],
            bias: by.bias.map(|bias| &weights[bias]),
            epsilon: by.epsilon,
        }
    }

    pub(super) fn rotation(&self, id: crate::op::RotationId) -> &'a Rotation {
        self.model.pass().rotation(id)
    }

    pub(super) fn shape(&self, by: Attention) -> AttentionShape<'a> {
        let config = self.model.config();
        AttentionShape {
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            sequences: &self.rows.sequences,
            by,
        }
    }
}
