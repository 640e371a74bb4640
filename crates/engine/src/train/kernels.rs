//! What training asks of an executor: each operation over whole sequences, and its backward.
//!
//! `dx` stands for the derivative of the loss by `x` throughout. Base weights are frozen, so that no operation has a
//! derivative by a gain, a bias or a matrix.

use crate::index::TokenId;
use crate::op::{Activation, Attention, NormKind, Rotation};
use std::fmt::Debug;
use std::ops::Range;
use trimtab_checkpoint::WeightRows;

/// A norm with its weights. See [`crate::op::Norm`].
#[derive(Clone, Copy, Debug)]
pub struct NormWeights<'a> {
    pub kind: NormKind,
    /// `[w]`
    pub gain: &'a [f32],
    /// `[w]`
    pub bias: Option<&'a [f32]>,
    pub epsilon: f32,
}

/// How heads lie in a row, and which rows see each other.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape<'a> {
    pub heads: usize,
    /// Neighbouring `heads / kv_heads` query heads share keys and values.
    pub kv_heads: usize,
    pub head_dim: usize,
    /// The rows of each sequence, in the order of their positions from 0 on. No row sees another sequence's.
    pub sequences: &'a [Range<usize>],
    pub by: Attention,
}

impl AttentionShape<'_> {
    /// Query heads that share keys and values.
    pub const fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// What attention was computed from and what came out.
#[derive(Clone, Copy, Debug)]
pub struct AttentionValues<'a> {
    /// `[n, heads · head_dim]`, rotated.
    pub queries: &'a [f32],
    /// `[n, kv_heads · head_dim]`, rotated.
    pub keys: &'a [f32],
    /// `[n, kv_heads · head_dim]`
    pub values: &'a [f32],
}

/// Derivatives by the inputs of attention, each of its input's shape.
#[derive(Clone, Debug, Default)]
pub struct AttentionDerivatives {
    pub queries: Vec<f32>,
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

/// Forward and backward of each operation. An implementation computes; the order of things is the walk's.
pub trait TrainingKernels: Debug {
    /// In words, for whoever asks where training runs.
    fn name(&self) -> String;

    /// The inner product.
    fn dot(&self, a: &[f32], b: &[f32]) -> f32;

    /// `x · Wᵀ` for each of `matrices`, all `[rows, cols]` with the same `cols`: `x` is `[n, cols]`, each result `[n, rows]`.
    fn project(&self, matrices: &[&WeightRows], x: &[f32]) -> Vec<Vec<f32>>;

    /// `dx += dy · W` for each matrix with its `dy` (`[n, rows]`), from the weights as they are stored; `dx` is `[n, cols]`.
    fn project_backward(&self, by: &[(&WeightRows, &[f32])], dx: &mut [f32]);

    /// `a · bᵀ`: `a` is `[m, depth]`, `b` `[n, depth]`, the result `[m, n]`.
    fn product_with_transposed(&self, a: &[f32], b: &[f32], depth: usize) -> Vec<f32>;

    /// `sum += a · b`: `a` is `[m, depth]`, `b` `[depth, n]`, `sum` `[m, n]`.
    fn add_product(&self, a: &[f32], b: &[f32], depth: usize, sum: &mut [f32]);

    /// `sum += aᵀ · b`: `a` is `[depth, m]`, `b` `[depth, n]`, `sum` `[m, n]`.
    fn add_transposed_product(&self, a: &[f32], b: &[f32], depth: usize, sum: &mut [f32]);

    /// The norm of every `w` neighbouring numbers of `x`.
    fn norm(&self, x: &[f32], by: &NormWeights<'_>) -> Vec<f32>;

    /// The derivative by the `x` that [`Self::norm`] was given.
    fn norm_backward(&self, x: &[f32], dy: &[f32], by: &NormWeights<'_>) -> Vec<f32>;

    /// Turns every head of `x` (`[n, heads · head_dim]`) by its row's position.
    fn rotate(&self, x: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation);

    /// Makes of the derivative by what was turned the derivative by what it was before: the rotation the other way round.
    fn rotate_backward(&self, dx: &mut [f32], positions: &[u32], head_dim: usize, by: &Rotation);

    /// Attention within each sequence: the heads (`[n, heads · head_dim]`), and for each row and head the logarithm of what
    /// its exponentials added up to, `L = m + log l` (`[n, heads]`).
    fn attend(&self, of: &AttentionValues<'_>, shape: &AttentionShape<'_>) -> (Vec<f32>, Vec<f32>);

    /// Derivatives by the inputs of [`Self::attend`], from those by its heads and from its `L`.
    fn attend_backward(
        &self,
        of: &AttentionValues<'_>,
        shape: &AttentionShape<'_>,
        log_sums: &[f32],
        d_heads: &[f32],
    ) -> AttentionDerivatives;

    /// `activation(gate) · up`, element by element.
    fn gate(&self, by: Activation, gate: &[f32], up: &[f32]) -> Vec<f32>;

    /// Derivatives by `gate` and by `up` of [`Self::gate`].
    fn gate_backward(
        &self,
        by: Activation,
        gate: &[f32],
        up: &[f32],
        dy: &[f32],
    ) -> (Vec<f32>, Vec<f32>);

    /// `activation(x)`, element by element.
    fn activate(&self, by: Activation, x: &[f32]) -> Vec<f32>;

    /// The derivative by the `x` of [`Self::activate`].
    fn activate_backward(&self, by: Activation, x: &[f32], dy: &[f32]) -> Vec<f32>;

    /// Negative log-likelihoods of `targets` (`[n]`, nats) under `logits` (`[n, vocabulary]`), in whose place their
    /// derivatives by the logits are put, times `weight`.
    fn cross_entropy(&self, logits: &mut [f32], targets: &[TokenId], weight: f32) -> Vec<f32>;
}
