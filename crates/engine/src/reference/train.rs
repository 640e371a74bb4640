//! The readable kernels of training, on one thread: the oracle of the fast ones.

use super::matrix::{dot, project};
use super::{backward, ops, whole_attention};
use crate::index::TokenId;
use crate::op::{Activation, Rotation};
use crate::train::kernels::{
    AttentionDerivatives, AttentionShape, AttentionValues, NormWeights, TrainingKernels,
};
use trimtab_checkpoint::WeightRows;

#[derive(Clone, Copy, Debug, Default)]
pub struct ReferenceTraining;

impl TrainingKernels for ReferenceTraining {
    fn name(&self) -> String {
        "CPU, reference".into()
    }

    fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        dot(a, b)
    }

    fn project(&self, matrices: &[&WeightRows], x: &[f32]) -> Vec<Vec<f32>> {
        matrices.iter().map(|matrix| project(matrix, x)).collect()
    }

    fn project_backward(&self, by: &[(&WeightRows, &[f32])], dx: &mut [f32]) {
        for (matrix, dy) in by {
            let mut weights = vec![0.0; matrix.cols];
            for row in 0..matrix.rows {
                matrix.dequantise_row(row, &mut weights);
                let rows = dx.chunks_mut(matrix.cols).zip(dy.chunks(matrix.rows));
                rows.for_each(|(dx, dy)| ops::add(dx, &weights, dy[row]));
            }
        }
    }

    fn product_with_transposed(&self, a: &[f32], b: &[f32], depth: usize) -> Vec<f32> {
        let rows = a.chunks(depth);
        rows.flat_map(|a| b.chunks(depth).map(move |b| dot(a, b)))
            .collect()
    }

    fn add_product(&self, a: &[f32], b: &[f32], depth: usize, sum: &mut [f32]) {
        let width = b.len() / depth;
        for (a, sum) in a.chunks(depth).zip(sum.chunks_mut(width)) {
            for (a, b) in a.iter().zip(b.chunks(width)) {
                ops::add(sum, b, *a);
            }
        }
    }

    fn add_transposed_product(&self, a: &[f32], b: &[f32], depth: usize, sum: &mut [f32]) {
        let (height, width) = (a.len() / depth, b.len() / depth);
        for (a, b) in a.chunks(height).zip(b.chunks(width)) {
            for (a, sum) in a.iter().zip(sum.chunks_mut(width)) {
                ops::add(sum, b, *a);
            }
        }
    }

    fn norm(&self, x: &[f32], by: &NormWeights<'_>) -> Vec<f32> {
        ops::norm(x, by.kind, by.gain, by.bias, by.epsilon)
    }

    fn norm_backward(&self, x: &[f32], dy: &[f32], by: &NormWeights<'_>) -> Vec<f32> {
        backward::norm(x, dy, by)
    }

    fn rotate(&self, x: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation) {
        ops::rotate_at(x, positions.iter().copied(), head_dim, by);
    }

    fn rotate_backward(&self, dx: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation) {
        backward::rotate(dx, positions, head_dim, by);
    }

    fn attend(&self, of: &AttentionValues<'_>, shape: &AttentionShape<'_>) -> (Vec<f32>, Vec<f32>) {
        whole_attention::attend(of, shape)
    }

    fn attend_backward(
        &self,
        of: &AttentionValues<'_>,
        shape: &AttentionShape<'_>,
        log_sums: &[f32],
        d_heads: &[f32],
    ) -> AttentionDerivatives {
        whole_attention::attend_backward(of, shape, log_sums, d_heads)
    }

    fn gate(&self, by: Activation, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let mut out = gate.to_vec();
        ops::gate(by, &mut out, up);
        out
    }

    fn gate_backward(
        &self,
        by: Activation,
        gate: &[f32],
        up: &[f32],
        dy: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        backward::gate(by, gate, up, dy)
    }

    fn activate(&self, by: Activation, x: &[f32]) -> Vec<f32> {
        let mut out = x.to_vec();
        ops::activate(by, &mut out);
        out
    }

    fn activate_backward(&self, by: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
        backward::activate(by, x, dy)
    }

    fn cross_entropy(&self, logits: &mut [f32], targets: &[TokenId], weight: f32) -> Vec<f32> {
        let rows = logits.chunks_mut(logits.len() / targets.len().max(1));
        rows.zip(targets)
            .map(|(logits, target)| backward::cross_entropy(logits, *target, weight))
            .collect()
    }
}
