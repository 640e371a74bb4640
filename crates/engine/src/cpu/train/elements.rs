//! Backward of what works on each number or each row by itself, and the forward of norms, in loops that become vector
//! instructions. The formulas are in [`crate::reference`].

use super::super::dot::DotProduct;
use super::super::exponential::exp;
use crate::op::{Activation, NormKind};
use crate::train::kernels::NormWeights;

/// `dx ← dx · activation′(x)`
#[inline(always)]
pub fn activated_backward(by: Activation, x: &[f32], dx: &mut [f32]) {
    let both = dx.iter_mut().zip(x);
    match by {
        Activation::Silu => both.for_each(|(dx, x)| {
            let sigmoid = 1.0 / (1.0 + exp(-x));
            *dx *= sigmoid * (1.0 + x * (1.0 - sigmoid));
        }),
        Activation::GeluTanh => both.for_each(|(dx, x)| {
            let root = (2.0 / std::f32::consts::PI).sqrt();
            let inner = root * (x + 0.044_715 * x * x * x);
            // (1 + tanh z) / 2, whose derivative is 2 s (1 − s).
            let s = 1.0 / (1.0 + exp(-2.0 * inner));
            let slope = root * (1.0 + 3.0 * 0.044_715 * x * x);
            *dx *= s + x * 2.0 * s * (1.0 - s) * slope;
        }),
    }
}

/// The mean, where it is taken away, and the scale of a row.
#[inline(always)]
fn centred<D: DotProduct>(x: &mut [f32], by: &NormWeights<'_>) -> f32 {
    let count = x.len() as f32;
    if by.kind == NormKind::Layer {
        let mean = x.iter().sum::<f32>() / count;
        x.iter_mut().for_each(|x| *x -= mean);
    }
    let [[squares]] = D::f32([&*x], [&*x]);
    1.0 / (squares / count + by.epsilon).sqrt()
}

/// Normalises every `w` numbers of `x` in place.
#[inline(always)]
pub fn norm<D: DotProduct>(x: &mut [f32], by: &NormWeights<'_>) {
    for row in x.chunks_mut(by.gain.len()) {
        let scale = centred::<D>(row, by);
        for (x, gain) in row.iter_mut().zip(by.gain) {
            *x = *x * scale * gain;
        }
        if let Some(bias) = by.bias {
            row.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
        }
    }
}

/// Makes of the derivative by what [`norm`] left the derivative by its `x`, in place.
#[inline(always)]
pub fn norm_backward<D: DotProduct>(x: &[f32], dx: &mut [f32], by: &NormWeights<'_>) {
    let width = by.gain.len();
    let count = width as f32;
    let mut own = vec![0.0; width];
    for (x, dx) in x.chunks(width).zip(dx.chunks_mut(width)) {
        own.copy_from_slice(x);
        let scale = centred::<D>(&mut own, by);
        for (dx, gain) in dx.iter_mut().zip(by.gain) {
            *dx *= gain;
        }
        let mean = match by.kind {
            NormKind::RootMeanSquare => 0.0,
            NormKind::Layer => dx.iter().sum::<f32>() / count,
        };
        let [[along]] = D::f32([&*dx], [&own]);
        let along = scale * scale * along / count;
        for (dx, c) in dx.iter_mut().zip(&own) {
            *dx = scale * (*dx - mean - c * along);
        }
    }
}

/// `factor · e^(x − largest)` in the place of each logit.
#[inline(always)]
pub fn scaled_exponentials(logits: &mut [f32], largest: f32, factor: f32) {
    for logit in logits {
        *logit = factor * exp(*logit - largest);
    }
}
