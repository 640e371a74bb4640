//! Operations as their formulas say, one row after another. Their backward is in [`super::backward`].

use super::matrix::dot;
use crate::executor::Row;
use crate::index::TokenId;
use crate::op::{Activation, NormKind, Rotation};
use trimtab_checkpoint::WeightRows;

/// `scale` times the rows of `matrix` (`[vocab, d]`) that belong to `tokens`: `[n, d]`.
pub fn embed(matrix: &WeightRows, tokens: &[TokenId], scale: f32) -> Vec<f32> {
    let mut out = vec![0.0; tokens.len() * matrix.cols];
    for (row, token) in out.chunks_mut(matrix.cols).zip(tokens) {
        matrix.dequantise_row(token.0 as usize, row);
        row.iter_mut().for_each(|x| *x *= scale);
    }
    out
}

/// Adds to every row of `x` (`[n, d]`) the row of `matrix` (`[context, d]`) that belongs to its position.
pub fn add_position(x: &mut [f32], rows: &[Row], matrix: &WeightRows) {
    let mut learned = vec![0.0; matrix.cols];
    for (row, x) in rows.iter().zip(x.chunks_mut(matrix.cols)) {
        matrix.dequantise_row(row.position.0 as usize, &mut learned);
        add(x, &learned, 1.0);
    }
}

/// The norm of every `w` neighbouring numbers of `x`; `gain` and `bias` are `[w]`. See [`NormKind`].
pub fn norm(
    x: &[f32],
    kind: NormKind,
    gain: &[f32],
    bias: Option<&[f32]>,
    epsilon: f32,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks(gain.len()) {
        let count = row.len() as f32;
        let mean = match kind {
            NormKind::RootMeanSquare => 0.0,
            NormKind::Layer => row.iter().sum::<f32>() / count,
        };
        let centred: Vec<f32> = row.iter().map(|x| x - mean).collect();
        let scale = 1.0 / (dot(&centred, &centred) / count + epsilon).sqrt();
        let bias = bias
            .into_iter()
            .flatten()
            .copied()
            .chain(std::iter::repeat(0.0));
        let numbers = centred.iter().zip(gain).zip(bias);
        out.extend(numbers.map(|((x, gain), bias)| x * scale * gain + bias));
    }
    out
}

/// Turns every head of `x` (`[n, heads · head_dim]`) by its row's position; see [`Rotation`].
pub fn rotate(x: &mut [f32], rows: &[Row], head_dim: usize, rotation: &Rotation) {
    let positions = rows.iter().map(|row| row.position.0);
    rotate_at(x, positions, head_dim, rotation);
}

/// The same, by a position for each row.
pub fn rotate_at(
    x: &mut [f32],
    positions: impl ExactSizeIterator<Item = u32>,
    head_dim: usize,
    rotation: &Rotation,
) {
    let width = x.len() / positions.len();
    let partner = rotation.frequencies.len();
    for (position, x) in positions.zip(x.chunks_mut(width)) {
        for (pair, (sin, cos)) in rotation.at(position).enumerate() {
            for head in x.chunks_mut(head_dim) {
                let (a, b) = (head[pair], head[pair + partner]);
                head[pair] = a * cos - b * sin;
                head[pair + partner] = b * cos + a * sin;
            }
        }
    }
}

/// `gate = activation(gate)`, element by element.
pub fn activate(activation: Activation, gate: &mut [f32]) {
    let activate = |x: f32| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
    };
    gate.iter_mut().for_each(|gate| *gate = activate(*gate));
}

/// `gate = activation(gate) · up`, element by element.
pub fn gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    activate(activation, gate);
    gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up);
}

/// `sum = sum + scale · x`, element by element.
pub fn add(sum: &mut [f32], x: &[f32], scale: f32) {
    let both = sum.iter_mut().zip(x);
    both.for_each(|(sum, x)| *sum += scale * x);
}
