//! e^x in arithmetic that a compiler turns into vector instructions, and what is made of it.

use crate::op::Activation;

/// `e^x` to within two units in the last place, for finite `x`; below −87 and above 88 as at those ends
/// (Cephes' `expf`: reduction by multiples of ln 2, then a polynomial).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest integer in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        0.166_666_65,
        0.5,
    ] {
        p = p * r + coefficient;
    }
    let y = p * r * r + r + 1.0;
    let power = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32 - 127) << 23;
    y * f32::from_bits(power as u32)
}

#[inline(always)]
fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    // (1 + tanh z) / 2 = 1 / (1 + e^−2z)
    x / (1.0 + exp(-2.0 * inner))
}

/// `gate ← activation(gate) · up`
#[inline(always)]
pub fn gated(activation: Activation, gate: &mut [f32], up: &[f32]) {
    let both = gate.iter_mut().zip(up);
    match activation {
        Activation::Silu => both.for_each(|(gate, up)| *gate = silu(*gate) * up),
        Activation::GeluTanh => both.for_each(|(gate, up)| *gate = gelu(*gate) * up),
    }
}

/// `gate ← activation(gate)`
#[inline(always)]
pub fn activated(activation: Activation, gate: &mut [f32]) {
    match activation {
        Activation::Silu => gate.iter_mut().for_each(|gate| *gate = silu(*gate)),
        Activation::GeluTanh => gate.iter_mut().for_each(|gate| *gate = gelu(*gate)),
    }
}

/// `Σ e^(x − largest)`, in f64 from parts that f32 sums well.
#[inline(always)]
pub fn sum_of_exponentials(values: &[f32], largest: f32) -> f64 {
    let part = |values: &[f32]| {
        let (chunks, rest) = values.as_chunks::<16>();
        let mut sums = [0.0_f32; 16];
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += exp(x - largest);
            }
        }
        let rest: f32 = rest.iter().map(|x| exp(x - largest)).sum();
        f64::from(sums.iter().sum::<f32>() + rest)
    };
    values.chunks(1024).map(part).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_the_last_places() {
        for step in -870_000..880_000 {
            let x = step as f32 * 1e-4;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 2.4e-7, "e^{x} is off by {error:e}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn gates_are_the_activation_times_up() {
        for x in [-30.0, -2.0, -0.1, 0.0, 0.3, 5.0, 60.0_f32] {
            let silu = x / (1.0 + (-x).exp());
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            let gelu = 0.5 * x * (1.0 + inner.tanh());
            for (activation, want) in [(Activation::Silu, silu), (Activation::GeluTanh, gelu)] {
                let mut gate = [x];
                gated(activation, &mut gate, &[2.0]);
                assert!(
                    (gate[0] - 2.0 * want).abs() < 1e-5 * (1.0 + want.abs()),
                    "{activation:?} {x}"
                );
            }
        }
    }
}
