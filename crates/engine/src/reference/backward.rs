//! Backward of the operations of [`super::ops`], each as the derivative of its formula.
//!
//! `dy` is the derivative of the loss by what came out, and what is returned that by what went in.

use super::matrix::dot;
use crate::index::TokenId;
use crate::op::{Activation, NormKind, Rotation};
use crate::train::kernels::NormWeights;

/// With `c = x − mean x` (or `x`), `s = 1/√(mean c² + ε)` and `g = dy · gain`: `dx = s · (g − mean g − c · s² · mean (g · c))`,
/// where `mean g` is there for the layer norm only, whose `c` is centred. `x` and `dy` are `[n, w]`.
pub fn norm(x: &[f32], dy: &[f32], by: &NormWeights<'_>) -> Vec<f32> {
    let width = by.gain.len();
    let count = width as f32;
    let mut dx = Vec::with_capacity(x.len());
    for (x, dy) in x.chunks(width).zip(dy.chunks(width)) {
        let scaled: Vec<f32> = dy.iter().zip(by.gain).map(|(dy, gain)| dy * gain).collect();
        let (mean, mean_scaled) = match by.kind {
            NormKind::RootMeanSquare => (0.0, 0.0),
            NormKind::Layer => (
                x.iter().sum::<f32>() / count,
                scaled.iter().sum::<f32>() / count,
            ),
        };
        let centred: Vec<f32> = x.iter().map(|x| x - mean).collect();
        let scale = 1.0 / (dot(&centred, &centred) / count + by.epsilon).sqrt();
        let along = scale * scale * dot(&scaled, &centred) / count;
        let both = scaled.iter().zip(&centred);
        dx.extend(both.map(|(g, c)| scale * (g - mean_scaled - c * along)));
    }
    dx
}

/// The rotation by `−θ`, with the same amplitude: the transposed matrix. `dx` is `[n, heads · head_dim]`.
pub fn rotate(dx: &mut [f32], positions: &[u32], head_dim: usize, rotation: &Rotation) {
    let width = dx.len() / positions.len();
    let partner = rotation.frequencies.len();
    for (position, dx) in positions.iter().zip(dx.chunks_mut(width)) {
        for (pair, (sin, cos)) in rotation.at(*position).enumerate() {
            for head in dx.chunks_mut(head_dim) {
                let (a, b) = (head[pair], head[pair + partner]);
                head[pair] = a * cos + b * sin;
                head[pair + partner] = b * cos - a * sin;
            }
        }
    }
}

/// `activation(x)` and its derivative.
fn with_slope(activation: Activation, x: f32) -> (f32, f32) {
    match activation {
        Activation::Silu => {
            let sigmoid = 1.0 / (1.0 + (-x).exp());
            (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
        }
        Activation::GeluTanh => {
            let root = (2.0 / std::f32::consts::PI).sqrt();
            let tanh = (root * (x + 0.044_715 * x * x * x)).tanh();
            let inner = root * (1.0 + 3.0 * 0.044_715 * x * x);
            let slope = 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner;
            (0.5 * x * (1.0 + tanh), slope)
        }
    }
}

/// Of `activation(gate) · up`, by `gate` and by `up`.
pub fn gate(activation: Activation, gate: &[f32], up: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let all = gate.iter().zip(up).zip(dy);
    all.map(|((gate, up), dy)| {
        let (activated, slope) = with_slope(activation, *gate);
        (dy * up * slope, dy * activated)
    })
    .unzip()
}

pub fn activate(activation: Activation, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let both = x.iter().zip(dy);
    both.map(|(x, dy)| dy * with_slope(activation, *x).1)
        .collect()
}

/// Of `−log softmax(logits)[target]`, the value and `softmax(logits) − [target]` times `weight`, which replaces the logits
/// (`[vocabulary]`).
pub fn cross_entropy(logits: &mut [f32], target: TokenId, weight: f32) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = logits.iter().map(|logit| f64::from(logit - largest).exp());
    let log_sum = f64::from(largest) + exponentials.sum::<f64>().ln();
    let target = target.0 as usize;
    let loss = log_sum - f64::from(logits[target]);
    for logit in logits.iter_mut() {
        *logit = (f64::from(*logit) - log_sum).exp() as f32 * weight;
    }
    logits[target] -= weight;
    loss as f32
}
