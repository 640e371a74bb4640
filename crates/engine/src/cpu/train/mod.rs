//! The fast kernels of training: the executor's vector instructions and threads. Activations are f32 throughout.

#[cfg(test)]
mod agreement;
pub(super) mod attention;
pub(super) mod elements;
pub(super) mod product;
pub(super) mod project;

use super::activations::Quantised;
use super::kernels::Kernels;
use super::tasks::Tasks;
use super::{Projection, add, rotate};
use crate::index::TokenId;
use crate::op::{Activation, Rotation};
use crate::train::kernels::{
    AttentionDerivatives, AttentionShape, AttentionValues, NormWeights, TrainingKernels,
};
use crate::types::Precision;
use attention::Part;
use product::Strided;
use std::sync::{Mutex, PoisonError};
use trimtab_checkpoint::WeightRows;

/// Numbers that are worked through sooner than handed to another thread.
const FEW: usize = 1 << 14;

/// Kernels on the processor, with as many threads as an executor there has.
#[derive(Debug)]
pub struct CpuTraining {
    kernels: Kernels,
    tasks: Tasks,
}

impl Default for CpuTraining {
    fn default() -> Self {
        Self {
            kernels: Kernels::best(),
            tasks: Tasks::new(),
        }
    }
}

impl CpuTraining {
    /// One instruction set's, for tests of each.
    #[cfg(test)]
    fn with(kernels: Kernels) -> Self {
        Self {
            kernels,
            tasks: Tasks::new(),
        }
    }

    fn projection(&self) -> Projection<'_> {
        Projection {
            kernels: &self.kernels,
            tasks: &self.tasks,
            precision: Precision::Exact,
        }
    }

    /// Numbers of a task of whole rows of `width`, out of `length` numbers in all.
    fn rows_a_task(&self, length: usize, width: usize) -> usize {
        let rows = (length / width).div_ceil(self.tasks.pieces());
        rows.max(1) * width
    }

    /// Calls `task` with parts of `out` that are whole rows of `width`, and the number of the first number of each.
    fn rows(&self, out: &mut [f32], width: usize, task: impl Fn(usize, &mut [f32]) + Sync) {
        let size = self.rows_a_task(out.len(), width);
        let shared = out.len() > FEW;
        self.tasks
            .run(out, size, shared, |index, out| task(index * size, out));
    }

    /// Computes all parts of attention, on several threads.
    fn parts(
        &self,
        shape: &AttentionShape<'_>,
        task: impl Fn(&mut Part) + Sync,
    ) -> impl Iterator<Item = Part> {
        let parts: Vec<_> = Part::all(shape).map(Mutex::new).collect();
        self.tasks.each(parts.len(), |index| {
            task(&mut parts[index].lock().unwrap_or_else(PoisonError::into_inner));
        });
        let own = |part: Mutex<Part>| part.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.into_iter().map(own)
    }
}

/// Turns every head of `x` by its row's position, forwards (`direction` 1) or back (−1).
fn turn(x: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation, direction: f32) {
    let width = x.len() / positions.len();
    let mut angles = Vec::with_capacity(by.frequencies.len());
    for (x, position) in x.chunks_mut(width).zip(positions) {
        angles.clear();
        let at = by.at(*position);
        angles.extend(at.map(|(sin, cos)| (direction * sin, cos)));
        rotate(x, head_dim, &angles);
    }
}

impl TrainingKernels for CpuTraining {
    fn name(&self) -> String {
        format!("CPU, {}, {}", self.kernels.name, self.tasks)
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        self.kernels.dot(a, b)
    }

    fn project(&self, matrices: &[&WeightRows], x: &[f32]) -> Vec<Vec<f32>> {
        let projection = self.projection();
        let mut projected = Vec::new();
        projection.run(matrices, x, &mut Quantised::default(), &mut projected);
        let mut rest = &projected[..];
        let mut results = Vec::with_capacity(matrices.len());
        for matrix in matrices {
            let count = x.len() / matrix.cols;
            let (own, others) = rest.split_at(matrix.rows * count);
            let mut rows = vec![0.0; own.len()];
            match count {
                1 => rows.copy_from_slice(own),
                _ => projection.exchange(own, count, &mut rows, false),
            }
            results.push(rows);
            rest = others;
        }
        results
    }

    fn project_backward(&self, by: &[(&WeightRows, &[f32])], dx: &mut [f32]) {
        let Some((first, _)) = by.first() else {
            return;
        };
        let (cols, count) = (first.cols, dx.len() / first.cols);
        // Pieces of whole blocks, about as wide as each other.
        let pieces = cols.div_ceil(project::WIDTH);
        let pieces = pieces.next_multiple_of(self.tasks.pieces().min(cols.div_ceil(96)));
        let width = cols
            .div_ceil(pieces)
            .next_multiple_of(32)
            .min(project::WIDTH);
        let pieces = cols.div_ceil(width);
        // [piece][n, width], the last one narrower.
        let mut sums = vec![0.0; pieces * width * count];
        self.tasks
            .run(&mut sums, width * count, true, |piece, sums| {
                let columns = piece * width..cols.min((piece + 1) * width);
                let own = &mut sums[..columns.len() * count];
                self.kernels.project_backward(by, columns, own);
            });
        for (piece, sums) in sums.chunks(width * count).enumerate() {
            let columns = piece * width..cols.min((piece + 1) * width);
            let rows = dx.chunks_mut(cols).zip(sums.chunks(columns.len()));
            for (dx, sums) in rows {
                add(&mut dx[columns.clone()], sums, 1.0);
            }
        }
    }

    fn product_with_transposed(&self, a: &[f32], b: &[f32], depth: usize) -> Vec<f32> {
        let (rows, width) = (a.len() / depth, b.len() / depth);
        let mut out = vec![0.0; rows * width];
        let size = self.rows_a_task(out.len(), width);
        let shared = a.len() * width > FEW;
        self.tasks.run(&mut out, size, shared, |index, out| {
            let a = &a[index * size / width * depth..][..out.len() / width * depth];
            self.kernels.product_with_transposed(a, b, depth, out);
        });
        out
    }

    fn add_product(&self, a: &[f32], b: &[f32], depth: usize, sum: &mut [f32]) {
        let width = b.len() / depth;
        self.rows(sum, width, |first, sum| {
            let a = Strided {
                values: &a[first / width * depth..],
                row: depth,
                column: 1,
            };
            self.kernels.add_product(a, b, depth, sum);
        });
    }

    fn add_transposed_product(&self, a: &[f32], b: &[f32], depth: usize, sum: &mut [f32]) {
        let (height, width) = (a.len() / depth, b.len() / depth);
        let size = self.rows_a_task(sum.len(), width);
        let shared = a.len() * width > FEW;
        self.tasks.run(sum, size, shared, |index, sum| {
            let a = Strided {
                values: &a[index * size / width..],
                row: 1,
                column: height,
            };
            self.kernels.add_product(a, b, depth, sum);
        });
    }

    fn norm(&self, x: &[f32], by: &NormWeights<'_>) -> Vec<f32> {
        let mut out = x.to_vec();
        self.rows(&mut out, by.gain.len(), |_, out| self.kernels.norm(out, by));
        out
    }

    fn norm_backward(&self, x: &[f32], dy: &[f32], by: &NormWeights<'_>) -> Vec<f32> {
        let mut dx = dy.to_vec();
        self.rows(&mut dx, by.gain.len(), |first, dx| {
            self.kernels.norm_backward(&x[first..][..dx.len()], dx, by);
        });
        dx
    }

    fn rotate(&self, x: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation) {
        turn(x, positions, head_dim, by, 1.0);
    }

    fn rotate_backward(&self, dx: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation) {
        turn(dx, positions, head_dim, by, -1.0);
    }

    fn attend(&self, of: &AttentionValues<'_>, shape: &AttentionShape<'_>) -> (Vec<f32>, Vec<f32>) {
        let (width, group) = (shape.head_dim, shape.group());
        let mut heads = vec![0.0; of.queries.len()];
        let mut log_sums = vec![0.0; of.queries.len() / width];
        let parts = self.parts(shape, |part| self.kernels.attend_whole(part, of, shape));
        for part in parts {
            let length = part.sequence.len();
            for head in 0..group {
                let number = (part.kv_head * group + head, shape.heads);
                let own = &part.heads[head * length * width..][..length * width];
                part.scatter(own, number, width, &mut heads);
                let own = &part.log_sums[head * length..][..length];
                part.scatter(own, number, 1, &mut log_sums);
            }
        }
        (heads, log_sums)
    }

    fn attend_backward(
        &self,
        of: &AttentionValues<'_>,
        shape: &AttentionShape<'_>,
        log_sums: &[f32],
        d_heads: &[f32],
    ) -> AttentionDerivatives {
        let (width, group) = (shape.head_dim, shape.group());
        let mut d = AttentionDerivatives {
            queries: vec![0.0; of.queries.len()],
            keys: vec![0.0; of.keys.len()],
            values: vec![0.0; of.values.len()],
        };
        let parts = self.parts(shape, |part| {
            let kernels = &self.kernels;
            kernels.attend_whole_backward(part, of, shape, log_sums, d_heads);
        });
        for part in parts {
            let length = part.sequence.len();
            for head in 0..group {
                let number = (part.kv_head * group + head, shape.heads);
                let own = &part.heads[head * length * width..][..length * width];
                part.scatter(own, number, width, &mut d.queries);
            }
            let number = (part.kv_head, shape.kv_heads);
            part.scatter(&part.keys, number, width, &mut d.keys);
            part.scatter(&part.values, number, width, &mut d.values);
        }
        d
    }

    fn gate(&self, by: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut out = gate.to_vec();
        self.rows(&mut out, 16, |first, out| {
            self.kernels.gated(by, out, &up[first..][..out.len()]);
        });
        out
    }

    fn gate_backward(
        &self,
        by: Activation,
        gate: &[f32],
        up: &[f32],
        dy: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let d_up = self.gate(by, gate, dy);
        let mut d_gate = dy.to_vec();
        self.rows(&mut d_gate, 16, |first, dx| {
            let up = &up[first..][..dx.len()];
            dx.iter_mut().zip(up).for_each(|(dx, up)| *dx *= up);
            let gate = &gate[first..][..dx.len()];
            self.kernels.activated_backward(by, gate, dx);
        });
        (d_gate, d_up)
    }

    fn activate(&self, by: Activation, x: &[f32]) -> Vec<f32> {
        let mut out = x.to_vec();
        self.rows(&mut out, 16, |_, out| self.kernels.activated(by, out));
        out
    }

    fn activate_backward(&self, by: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let mut dx = dy.to_vec();
        self.rows(&mut dx, 16, |first, dx| {
            self.kernels
                .activated_backward(by, &x[first..][..dx.len()], dx);
        });
        dx
    }

    fn cross_entropy(&self, logits: &mut [f32], targets: &[TokenId], weight: f32) -> Vec<f32> {
        let vocabulary = logits.len() / targets.len().max(1);
        // Of each row the largest logit and the sum of the exponentials of what the others are below it. Their logarithm
        // would round away a millionth of every probability.
        let mut sums = vec![0.0; 2 * targets.len()];
        self.tasks.run(&mut sums, 2, true, |row, sums| {
            let logits = &logits[row * vocabulary..][..vocabulary];
            let largest = logits.iter().copied().fold(f32::MIN, f32::max);
            let total = self.kernels.sum_of_exponentials(logits, largest);
            sums.copy_from_slice(&[largest, total as f32]);
        });
        let (sums, _) = sums.as_chunks::<2>();
        let rows = sums.iter().zip(targets).enumerate();
        let losses = rows.map(|(row, ([largest, total], target))| {
            let logit = logits[row * vocabulary + target.0 as usize];
            (f64::from(*largest) - f64::from(logit) + f64::from(*total).ln()) as f32
        });
        let losses = losses.collect();
        self.tasks.run(logits, vocabulary, true, |row, logits| {
            let [largest, total] = sums[row];
            self.kernels
                .scaled_exponentials(logits, largest, weight / total);
            logits[targets[row].0 as usize] -= weight;
        });
        losses
    }
}
