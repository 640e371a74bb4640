//! Attention over whole sequences at once, without a cache, and its backward (Dao et al., "FlashAttention", 2022, section 3
//! and appendix B.4: the weights are not kept but computed again, from `L = m + log l` of each row).

use super::matrix::dot;
use crate::train::kernels::{AttentionDerivatives, AttentionShape, AttentionValues};

/// Calls `row` for every row and head: the row, the head, and the rows that it sees.
fn each(
    shape: &AttentionShape<'_>,
    mut row: impl FnMut(usize, usize, std::ops::RangeInclusive<usize>),
) {
    for sequence in shape.sequences {
        for index in sequence.clone() {
            let first = sequence.start + shape.by.first(index - sequence.start);
            for head in 0..shape.heads {
                row(index, head, first..=index);
            }
        }
    }
}

/// See [`crate::train::kernels::TrainingKernels::attend`].
pub fn attend(of: &AttentionValues<'_>, shape: &AttentionShape<'_>) -> (Vec<f32>, Vec<f32>) {
    let width = shape.head_dim;
    let mut heads = vec![0.0; of.queries.len()];
    let mut log_sums = vec![0.0; of.queries.len() / width];
    each(shape, |row, head, seen| {
        let at = row * shape.heads + head;
        let shared = |other: usize| other * shape.kv_heads + head / shape.group();
        let query = &of.queries[at * width..][..width];
        let score = |other| shape.by.scale * dot(query, &of.keys[shared(other) * width..][..width]);
        let scores: Vec<f32> = seen.clone().map(score).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials = scores.iter().map(|score| (score - largest).exp());
        log_sums[at] = largest + exponentials.sum::<f32>().ln();
        let out = &mut heads[at * width..][..width];
        for (other, score) in seen.zip(&scores) {
            let weight = (score - log_sums[at]).exp();
            let value = &of.values[shared(other) * width..][..width];
            out.iter_mut()
                .zip(value)
                .for_each(|(out, v)| *out += weight * v);
        }
    });
    (heads, log_sums)
}

/// With the weights `p` of a row and `dp = do · v`: `dv += p do`, `ds = p (dp − Σ p dp)`, `dq += scale ds k`, `dk += scale ds q`.
/// The sum is `do · o`, too, which rounds otherwise than the `dp` that it is taken from: where nearly all weight is on one
/// position, little is left but the rounding. See [`crate::train::kernels::TrainingKernels::attend_backward`].
pub fn attend_backward(
    of: &AttentionValues<'_>,
    shape: &AttentionShape<'_>,
    log_sums: &[f32],
    d_heads: &[f32],
) -> AttentionDerivatives {
    let width = shape.head_dim;
    let mut d = AttentionDerivatives {
        queries: vec![0.0; of.queries.len()],
        keys: vec![0.0; of.keys.len()],
        values: vec![0.0; of.values.len()],
    };
    let add = |sum: &mut [f32], x: &[f32], scale: f32| super::ops::add(sum, x, scale);
    each(shape, |row, head, seen| {
        let at = row * shape.heads + head;
        let shared = |other: usize| (other * shape.kv_heads + head / shape.group()) * width;
        let query = &of.queries[at * width..][..width];
        let d_out = &d_heads[at * width..][..width];
        let weight = |other| {
            let key = &of.keys[shared(other)..][..width];
            (shape.by.scale * dot(query, key) - log_sums[at]).exp()
        };
        let mut weights: Vec<f32> = seen.clone().map(weight).collect();
        // `L` is rounded, so that they add up to one but for a millionth.
        let total: f32 = weights.iter().sum();
        weights.iter_mut().for_each(|weight| *weight /= total);
        let d_weight = |other| dot(d_out, &of.values[shared(other)..][..width]);
        let d_weights: Vec<f32> = seen.clone().map(d_weight).collect();
        let mean = dot(&weights, &d_weights);
        for ((other, weight), d_weight) in seen.zip(weights).zip(d_weights) {
            let other = shared(other);
            let d_score = shape.by.scale * weight * (d_weight - mean);
            add(&mut d.values[other..][..width], d_out, weight);
            let key = &of.keys[other..][..width];
            add(&mut d.queries[at * width..][..width], key, d_score);
            add(&mut d.keys[other..][..width], query, d_score);
        }
    });
    d
}
