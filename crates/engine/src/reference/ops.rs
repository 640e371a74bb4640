//! Operations as their formulas say, one row after another. A backward belongs beside each.

use super::matrix::dot;
use crate::executor::Row;
use crate::index::TokenId;
use crate::op::Activation;
use crate::positions::rotation;
use trimtab_checkpoint::WeightRows;

/// The rows of `matrix` (`[vocab, d]`) that belong to `tokens`: `[n, d]`.
pub fn embed(matrix: &WeightRows, tokens: &[TokenId]) -> Vec<f32> {
    let mut out = vec![0.0; tokens.len() * matrix.cols];
    for (row, token) in out.chunks_mut(matrix.cols).zip(tokens) {
        matrix.dequantise_row(token.0 as usize, row);
    }
    out
}

/// `x / √(mean x² + ε) · gain` for every row of `x` (`[n, w]`); `gain` is `[w]`.
pub fn norm(x: &[f32], gain: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(gain.len()) {
        let scale = 1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt();
        out.extend(row.iter().zip(gain).map(|(x, g)| x * scale * g));
    }
    out
}

/// Turns every head of `x` (`[n, heads · head_dim]`) by its row's position: element `i` pairs with `i + head_dim / 2`
/// (Hugging Face's `rotate_half`).
pub fn rotate(x: &mut [f32], rows: &[Row], head_dim: usize, theta: f32) {
    let half = head_dim / 2;
    let width = x.len() / rows.len();
    for (row, x) in rows.iter().zip(x.chunks_mut(width)) {
        for pair in 0..half {
            let (sin, cos) = rotation(pair, head_dim, row.position.0, theta);
            for head in x.chunks_mut(head_dim) {
                let (a, b) = (head[pair], head[pair + half]);
                head[pair] = a * cos - b * sin;
                head[pair + half] = b * cos + a * sin;
            }
        }
    }
}

/// `gate = activation(gate) · up`, element by element.
pub fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    let activate = |x: f32| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    };
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = activate(*gate) * up;
    }
}

/// `sum = sum + x`, element by element.
pub fn add(sum: &mut [f32], x: &[f32]) {
    sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += x);
}
