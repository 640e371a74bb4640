//! Plain Rust, for processors without an implementation of their own, and the others' oracle.

use super::{BLOCK, Block8, DotProduct, GROUPS, Row8, Row16, Weights4};
use half::f16;

#[derive(Debug)]
pub struct Portable;

/// The signed bytes as the dot product reads them.
#[inline(always)]
pub fn arrange(values: [i8; BLOCK]) -> Block8 {
    values
}

impl DotProduct for Portable {
    const NAME: &'static str = "portable";

    #[inline(always)]
    fn q4<const N: usize>(weights: Weights4<'_>, inputs: [Row8<'_>; N]) -> [f32; N] {
        inputs.map(|input| {
            let mut sum = 0.0;
            for (block, (nibbles, scale)) in weights.nibbles.iter().zip(weights.scales).enumerate()
            {
                let values = &input.values[block];
                for group in 0..GROUPS {
                    let product: i32 = (4 * group..4 * group + 4)
                        .map(|i| {
                            i32::from(nibbles[i] & 15) * i32::from(values[i])
                                + i32::from(nibbles[i] >> 4) * i32::from(values[i + BLOCK / 2])
                        })
                        .sum();
                    sum += scale * input.scales[block][group] * product as f32;
                }
            }
            let mins = weights.mins.as_flattened().iter();
            let sums = input.sums.as_flattened();
            sum + mins.zip(sums).map(|(min, sum)| min * sum).sum::<f32>()
        })
    }

    #[inline(always)]
    fn q8<const N: usize>(
        weights: &[[i8; BLOCK]],
        scales: &[f32],
        inputs: [Row16<'_>; N],
    ) -> [f32; N] {
        inputs.map(|input| {
            let blocks = weights
                .iter()
                .zip(scales)
                .zip(input.values)
                .zip(input.scales);
            blocks
                .map(|(((weights, scale), values), input_scale)| {
                    let products = weights.iter().zip(values);
                    let sum: i32 = products.map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                    scale * input_scale * sum as f32
                })
                .sum()
        })
    }

    #[inline(always)]
    fn f32<const N: usize>(weights: &[f32], inputs: [&[f32]; N]) -> [f32; N] {
        inputs.map(|input| {
            let (weight_chunks, weight_rest) = weights.as_chunks::<16>();
            let (chunks, rest) = input.as_chunks::<16>();
            let mut sums = [0.0_f32; 16];
            for (w, x) in weight_chunks.iter().zip(chunks) {
                for ((sum, w), x) in sums.iter_mut().zip(w).zip(x) {
                    *sum += w * x;
                }
            }
            let rest: f32 = weight_rest.iter().zip(rest).map(|(w, x)| w * x).sum();
            sums.iter().sum::<f32>() + rest
        })
    }

    #[inline(always)]
    fn widen(halves: &[[u8; 2]], out: &mut [f32]) {
        for (out, half) in out.iter_mut().zip(halves) {
            *out = f16::from_le_bytes(*half).to_f32();
        }
    }
}
