//! Plain Rust, for processors without an implementation of their own, and the others' oracle.

use super::super::activations::Inputs;
use super::super::project;
use super::vector::Vector;
use super::{BLOCK, Block8, DotProduct, GROUPS, Rows8, Rows16, Tile, Weights4};
use half::f16;
use std::ops::Range;
use trimtab_checkpoint::WeightRows;

#[derive(Debug)]
pub struct Portable;

/// The signed bytes as the dot product reads them.
#[inline(always)]
pub fn arrange(values: [i8; BLOCK]) -> Block8 {
    values
}

impl Vector for [f32; 8] {
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        [x; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { from.cast::<Self>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { to.cast::<Self>().write_unaligned(self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, sum: Self) -> Self {
        std::array::from_fn(|i| self[i] * by[i] + sum[i])
    }
}

impl DotProduct for Portable {
    const NAME: &'static str = "portable";
    const TILE: Tile = Tile::Narrow;
    type Vector = [f32; 8];

    #[inline(always)]
    fn q4<const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N] {
        std::array::from_fn(|i| {
            let mut sum = 0.0;
            for (block, (nibbles, scale)) in weights.nibbles.iter().zip(weights.scales).enumerate()
            {
                let values = &inputs.values[block][i];
                for group in 0..GROUPS {
                    let product: i32 = (4 * group..4 * group + 4)
                        .map(|j| {
                            i32::from(nibbles[j] & 15) * i32::from(values[j])
                                + i32::from(nibbles[j] >> 4) * i32::from(values[j + BLOCK / 2])
                        })
                        .sum();
                    sum += scale * inputs.scales[block][i][group] * product as f32;
                }
            }
            let mins = weights.mins.as_flattened().iter();
            let sums = inputs.sums.iter().flat_map(|sums| sums[i]);
            sum + mins.zip(sums).map(|(min, sum)| min * sum).sum::<f32>()
        })
    }

    #[inline(always)]
    fn q8<const S: usize, const N: usize>(
        weights: &[[i8; BLOCK]],
        scales: &[[f32; S]],
        inputs: Rows16<'_, N>,
    ) -> [f32; N] {
        std::array::from_fn(|i| {
            let blocks = weights
                .iter()
                .zip(scales)
                .zip(inputs.values)
                .zip(inputs.scales);
            blocks
                .map(|(((weights, scales), values), input_scales)| {
                    let each = BLOCK / S;
                    let parts = weights.chunks_exact(each).zip(values[i].chunks_exact(each));
                    let sums = parts.map(|(weights, values)| {
                        let products = weights.iter().zip(values);
                        products
                            .map(|(w, x)| i32::from(*w) * i32::from(*x))
                            .sum::<i32>()
                    });
                    let scaled = scales
                        .iter()
                        .zip(sums)
                        .map(|(scale, sum)| scale * input_scales[i] * sum as f32);
                    scaled.sum::<f32>()
                })
                .sum()
        })
    }

    #[inline(always)]
    fn project_f32(matrix: &WeightRows, rows: Range<usize>, inputs: &Inputs<'_>, out: &mut [f32]) {
        project::floats::<Self, 3, 2>(matrix, rows, inputs, out);
    }

    #[inline(always)]
    fn f32<const R: usize, const N: usize>(
        weights: [&[f32]; R],
        inputs: [&[f32]; N],
    ) -> [[f32; N]; R] {
        weights.map(|weights| {
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
        })
    }

    #[inline(always)]
    fn unpack4(bytes: &[[u8; BLOCK / 2]], scales: &[f32], mins: &[f32], out: &mut [[f32; BLOCK]]) {
        for (((out, bytes), scale), min) in out.iter_mut().zip(bytes).zip(scales).zip(mins) {
            for (i, byte) in bytes.iter().enumerate() {
                out[i] = scale * f32::from(byte & 15) + min;
                out[i + BLOCK / 2] = scale * f32::from(byte >> 4) + min;
            }
        }
    }

    #[inline(always)]
    fn unpack8<const S: usize>(
        bytes: &[[i8; BLOCK]],
        scales: &[[f32; S]],
        out: &mut [[f32; BLOCK]],
    ) {
        for ((out, bytes), scales) in out.iter_mut().zip(bytes).zip(scales) {
            for (j, (out, byte)) in out.iter_mut().zip(bytes).enumerate() {
                *out = scales[j * S / BLOCK] * f32::from(*byte);
            }
        }
    }

    #[inline(always)]
    fn widen(halves: &[[u8; 2]], out: &mut [f32]) {
        for (out, half) in out.iter_mut().zip(halves) {
            *out = f16::from_le_bytes(*half).to_f32();
        }
    }
}
