//! wasm's 128-bit SIMD, with the byte dot product of relaxed SIMD where the module was built for it.

use super::{BLOCK, Block8, DotProduct, Row8, Row16, Weights4};
use std::arch::wasm32::*;

#[derive(Debug)]
pub struct Simd128;

/// The signed bytes as the dot product reads them.
#[cfg(feature = "relaxed-simd")]
#[inline(always)]
pub fn arrange(values: [i8; BLOCK]) -> Block8 {
    values
}

/// The signed bytes as the dot product reads them: a 16-bit lane of two weight bytes holds weights `2j`,
/// `2j + 16`, `2j + 1` and `2j + 17`, from its lowest nibble up.
#[cfg(not(feature = "relaxed-simd"))]
#[inline(always)]
pub fn arrange(values: [i8; BLOCK]) -> Block8 {
    std::array::from_fn(|i| {
        let (nibble, lane) = (i / 8, i % 8);
        i16::from(values[2 * lane + [0, 16, 1, 17][nibble]])
    })
}

/// `a · b + c`, rounded once or twice as the browser likes where the module may leave that to it.
#[inline(always)]
fn multiply_add(a: v128, b: v128, c: v128) -> v128 {
    #[cfg(feature = "relaxed-simd")]
    return f32x4_relaxed_madd(a, b, c);
    #[cfg(not(feature = "relaxed-simd"))]
    f32x4_add(c, f32x4_mul(a, b))
}

/// The lanes' sums of products of one block, group by group.
#[cfg(feature = "relaxed-simd")]
#[inline(always)]
fn block_dot(bytes: v128, values: &Block8) -> v128 {
    let mask = u8x16_splat(15);
    let (low, high) = (v128_and(bytes, mask), u8x16_shr(bytes, 4));
    let first = unsafe { v128_load(values.as_ptr().cast()) };
    let second = unsafe { v128_load(values.as_ptr().add(16).cast()) };
    let sum = i32x4_relaxed_dot_i8x16_i7x16_add(first, low, i32x4_splat(0));
    i32x4_relaxed_dot_i8x16_i7x16_add(second, high, sum)
}

/// The lanes' sums of products of one block, group by group.
#[cfg(not(feature = "relaxed-simd"))]
#[inline(always)]
fn block_dot(bytes: v128, values: &Block8) -> v128 {
    let mask = u16x8_splat(15);
    let values: *const v128 = values.as_ptr().cast();
    let [a, b, c, d] = unsafe { [0, 1, 2, 3].map(|i| v128_load(values.add(i))) };
    i32x4_add(
        i32x4_add(
            i32x4_dot_i16x8(v128_and(bytes, mask), a),
            i32x4_dot_i16x8(v128_and(u16x8_shr(bytes, 4), mask), b),
        ),
        i32x4_add(
            i32x4_dot_i16x8(v128_and(u16x8_shr(bytes, 8), mask), c),
            i32x4_dot_i16x8(u16x8_shr(bytes, 12), d),
        ),
    )
}

#[inline(always)]
fn load_f32(values: &[f32; 4]) -> v128 {
    unsafe { v128_load(values.as_ptr().cast()) }
}

#[inline(always)]
fn sum_lanes(x: v128) -> f32 {
    let pairs = f32x4_add(x, i32x4_shuffle::<2, 3, 0, 1>(x, x));
    f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<1>(pairs)
}

impl DotProduct for Simd128 {
    const NAME: &'static str = if cfg!(feature = "relaxed-simd") {
        "wasm relaxed SIMD"
    } else {
        "wasm SIMD"
    };

    #[inline(always)]
    fn q4<const N: usize>(weights: Weights4<'_>, inputs: [Row8<'_>; N]) -> [f32; N] {
        let blocks = weights.nibbles.len();
        let scales = &weights.scales[..blocks];
        let inputs = inputs.map(|input| Row8 {
            values: &input.values[..blocks],
            scales: &input.scales[..blocks],
            sums: &input.sums[..weights.mins.len()],
        });
        let mut sums = [f32x4_splat(0.0); N];
        for (block, nibbles) in weights.nibbles.iter().enumerate() {
            let bytes = unsafe { v128_load(nibbles.as_ptr().cast()) };
            let scale = f32x4_splat(scales[block]);
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                let products = f32x4_convert_i32x4(block_dot(bytes, &input.values[block]));
                let scale = f32x4_mul(load_f32(&input.scales[block]), scale);
                *sum = multiply_add(products, scale, *sum);
            }
        }
        for (index, mins) in weights.mins.iter().enumerate() {
            let (mins, _) = mins.as_chunks::<4>();
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                let (of_input, _) = input.sums[index].as_chunks::<4>();
                *sum = multiply_add(load_f32(&mins[0]), load_f32(&of_input[0]), *sum);
                *sum = multiply_add(load_f32(&mins[1]), load_f32(&of_input[1]), *sum);
            }
        }
        sums.map(sum_lanes)
    }

    #[inline(always)]
    fn q8<const N: usize>(
        weights: &[[i8; BLOCK]],
        scales: &[f32],
        inputs: [Row16<'_>; N],
    ) -> [f32; N] {
        let blocks = weights.len();
        let scales = &scales[..blocks];
        let inputs = inputs.map(|input| Row16 {
            values: &input.values[..blocks],
            scales: &input.scales[..blocks],
        });
        let mut sums = [f32x4_splat(0.0); N];
        for (block, bytes) in weights.iter().enumerate() {
            let bytes: *const i8 = bytes.as_ptr();
            let weights = [0, 8, 16, 24].map(|at| unsafe { i16x8_load_extend_i8x8(bytes.add(at)) });
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                let values: *const v128 = input.values[block].as_ptr().cast();
                let [a, b, c, d] = [0, 1, 2, 3].map(|part| {
                    i32x4_dot_i16x8(weights[part], unsafe { v128_load(values.add(part)) })
                });
                let product = i32x4_add(i32x4_add(a, b), i32x4_add(c, d));
                let scale = f32x4_splat(scales[block] * input.scales[block]);
                *sum = multiply_add(f32x4_convert_i32x4(product), scale, *sum);
            }
        }
        sums.map(sum_lanes)
    }

    #[inline(always)]
    fn f32<const N: usize>(weights: &[f32], inputs: [&[f32]; N]) -> [f32; N] {
        let (weights, rest) = weights.as_chunks::<8>();
        let chunks = inputs.map(|input| &input.as_chunks::<8>().0[..weights.len()]);
        // Two chains a row hide the latency of the additions.
        let mut sums = [[f32x4_splat(0.0); 2]; N];
        for (index, weights) in weights.iter().enumerate() {
            let weights = weights.as_chunks::<4>().0;
            let weights = [load_f32(&weights[0]), load_f32(&weights[1])];
            for (sums, chunks) in sums.iter_mut().zip(&chunks) {
                let values = chunks[index].as_chunks::<4>().0;
                sums[0] = multiply_add(weights[0], load_f32(&values[0]), sums[0]);
                sums[1] = multiply_add(weights[1], load_f32(&values[1]), sums[1]);
            }
        }
        let mut results = sums.map(|[a, b]| sum_lanes(f32x4_add(a, b)));
        for (result, input) in results.iter_mut().zip(inputs) {
            let tail = &input[weights.len() * 8..];
            *result += rest.iter().zip(tail).map(|(w, x)| w * x).sum::<f32>();
        }
        results
    }

    /// Shifts a half's exponent and mantissa into an f32's place and corrects the exponent's bias by a product.
    #[inline(always)]
    fn widen(halves: &[[u8; 2]], out: &mut [f32]) {
        let rebias = f32::from_bits((254 - 15) << 23);
        for (out, half) in out.iter_mut().zip(halves) {
            let half = u32::from(u16::from_le_bytes(*half));
            let magnitude = f32::from_bits((half & 0x7fff) << 13) * rebias;
            *out = f32::from_bits(magnitude.to_bits() | (half & 0x8000) << 16);
        }
    }
}
