//! wasm's 128-bit SIMD, with the byte dot product of relaxed SIMD where the module was built for it.

use super::super::activations::Inputs;
use super::super::project;
use super::vector::Vector;
use super::{BLOCK, Block8, DotProduct, Rows8, Rows16, Tile, Weights4};
use std::arch::wasm32::*;
use std::ops::Range;
use trimtab_checkpoint::encoding::{BlockForm, Values};
use trimtab_checkpoint::{Encoding, WeightRows};

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

/// The weights of a block, four by four.
type Fours = [v128; BLOCK / 4];

#[inline(always)]
fn store(out: &mut [f32; BLOCK], fours: Fours) {
    let (out, _) = out.as_chunks_mut::<4>();
    for (out, four) in out.iter_mut().zip(fours) {
        unsafe { v128_store(out.as_mut_ptr().cast(), four) };
    }
}

/// A 4-bit block as f32: `scale · nibble + min`, rounded twice.
#[inline(always)]
fn fours4(bytes: &[u8; BLOCK / 2], scale: f32, min: f32) -> Fours {
    let bytes = unsafe { v128_load(bytes.as_ptr().cast()) };
    let (scale, min) = (f32x4_splat(scale), f32x4_splat(min));
    let (low, high) = (v128_and(bytes, u8x16_splat(15)), u8x16_shr(bytes, 4));
    let eights = [
        u16x8_extend_low_u8x16(low),
        u16x8_extend_high_u8x16(low),
        u16x8_extend_low_u8x16(high),
        u16x8_extend_high_u8x16(high),
    ];
    floats(eights).map(|x| f32x4_add(f32x4_mul(scale, x), min))
}

/// An 8-bit block as f32: `scale · byte`.
#[inline(always)]
fn fours8(bytes: &[u8; BLOCK], scale: f32, _: f32) -> Fours {
    let scale = f32x4_splat(scale);
    signed_fours(bytes).map(|x| f32x4_mul(scale, x))
}

#[inline(always)]
fn signed_fours(bytes: &[u8; BLOCK]) -> Fours {
    let bytes: *const i8 = bytes.as_ptr().cast();
    floats([0, 8, 16, 24].map(|at| unsafe { i16x8_load_extend_i8x8(bytes.add(at)) }))
}

/// The stored integers of a block, `high` bits of each behind the nibbles ([`BlockForm::integers`]): its two halves.
#[inline(always)]
fn stored(high: usize, bytes: &[u8]) -> [v128; 2] {
    let nibbles = unsafe { v128_load(bytes[..16].as_ptr().cast()) };
    let low = [v128_and(nibbles, u8x16_splat(15)), u8x16_shr(nibbles, 4)];
    if high == 0 {
        return low;
    }
    let mut halves = low;
    for (half, stored) in halves.iter_mut().enumerate() {
        let word = bytes[16 + half * (high - 1) * 4..].first_chunk();
        let word = i32x4_splat(i32::from_le_bytes(word.copied().unwrap_or_default()));
        // Lanes cannot be shifted by numbers of their own: each keeps its bits of one of four shifted words.
        let mut bits = i32x4_splat(0);
        for lane in 0..4 {
            let at = ((half * 4 + lane) * high % 8) as u32;
            let here = i32x4(
                -i32::from(lane == 0),
                -i32::from(lane == 1),
                -i32::from(lane == 2),
                -i32::from(lane == 3),
            );
            bits = v128_or(bits, v128_and(u32x4_shr(word, at), here));
        }
        let bits = v128_and(bits, u8x16_splat((1 << high) - 1));
        *stored = v128_or(*stored, i32x4_shl(bits, 4));
    }
    halves
}

#[inline(always)]
fn floats(eights: [v128; BLOCK / 8]) -> Fours {
    let mut fours = [f32x4_splat(0.0); BLOCK / 4];
    for (fours, eight) in fours.as_chunks_mut::<2>().0.iter_mut().zip(eights) {
        fours[0] = f32x4_convert_i32x4(i32x4_extend_low_i16x8(eight));
        fours[1] = f32x4_convert_i32x4(i32x4_extend_high_i16x8(eight));
    }
    fours
}

/// The products of rows `rows` of `matrix` with one row of activations, each block made f32 by `unpack` (of its bytes, scale and
/// minimum) and multiplied at once: the bits of [`project::floats`] without a row of weights that is written and read again.
#[inline(always)]
fn one_row<const BYTES: usize>(
    matrix: &WeightRows,
    rows: Range<usize>,
    values: &[f32],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES], f32, f32) -> Fours,
) {
    let width = matrix.cols / BLOCK;
    let (bytes, _) = matrix.data.as_chunks::<BYTES>();
    let (values, _) = values.as_chunks::<BLOCK>();
    let (mut scales, mut mins) = ([0.0; project::CHUNK], [0.0; project::CHUNK]);
    for (row, out) in rows.zip(out) {
        *out = 0.0;
        for blocks in project::chunks(matrix) {
            let count = blocks.len();
            let (scales, mins) = (&mut scales[..count], &mut mins[..count]);
            project::scales_and_mins::<Simd128>(matrix, row, &blocks, scales, mins);
            let bytes = &bytes[row * width..][blocks.clone()];
            let mut sums = [f32x4_splat(0.0); 2];
            let numbers = scales.iter().zip(&*mins);
            for ((bytes, values), (scale, min)) in bytes.iter().zip(&values[blocks]).zip(numbers) {
                let (values, _) = values.as_chunks::<4>();
                for (at, weights) in unpack(bytes, *scale, *min).into_iter().enumerate() {
                    let sum = &mut sums[at % 2];
                    *sum = multiply_add(weights, load_f32(&values[at]), *sum);
                }
            }
            let [a, b] = sums;
            *out += sum_lanes(f32x4_add(a, b));
        }
    }
}

#[inline(always)]
fn sum_lanes(x: v128) -> f32 {
    let pairs = f32x4_add(x, i32x4_shuffle::<2, 3, 0, 1>(x, x));
    f32x4_extract_lane::<0>(pairs) + f32x4_extract_lane::<1>(pairs)
}

impl Vector for v128 {
    const LANES: usize = 4;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        f32x4_splat(x)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { v128_load(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { v128_store(to.cast(), self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, sum: Self) -> Self {
        multiply_add(self, by, sum)
    }
}

impl DotProduct for Simd128 {
    const NAME: &'static str = if cfg!(feature = "relaxed-simd") {
        "wasm relaxed SIMD"
    } else {
        "wasm SIMD"
    };
    const TILE: Tile = Tile::Narrow;
    type Vector = v128;

    #[inline(always)]
    fn q4<const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N] {
        let blocks = weights.nibbles.len();
        let scales = &weights.scales[..blocks];
        let (values, groups) = (&inputs.values[..blocks], &inputs.scales[..blocks]);
        let mut sums = [f32x4_splat(0.0); N];
        for (block, nibbles) in weights.nibbles.iter().enumerate() {
            let bytes = unsafe { v128_load(nibbles.as_ptr().cast()) };
            let scale = f32x4_splat(scales[block]);
            for i in 0..N {
                let (values, groups) = (&values[block][i], &groups[block][i]);
                let products = f32x4_convert_i32x4(block_dot(bytes, values));
                let scale = f32x4_mul(load_f32(groups), scale);
                sums[i] = multiply_add(products, scale, sums[i]);
            }
        }
        for (mins, of_inputs) in weights.mins.iter().zip(inputs.sums) {
            let (mins, _) = mins.as_chunks::<4>();
            for (sum, of_input) in sums.iter_mut().zip(of_inputs) {
                let (of_input, _) = of_input.as_chunks::<4>();
                *sum = multiply_add(load_f32(&mins[0]), load_f32(&of_input[0]), *sum);
                *sum = multiply_add(load_f32(&mins[1]), load_f32(&of_input[1]), *sum);
            }
        }
        sums.map(sum_lanes)
    }

    #[inline(always)]
    fn q8<const S: usize, const N: usize>(
        weights: &[[i8; BLOCK]],
        scales: &[[f32; S]],
        inputs: Rows16<'_, N>,
    ) -> [f32; N] {
        let blocks = weights.len();
        let scales = &scales[..blocks];
        let (values, input_scales) = (&inputs.values[..blocks], &inputs.scales[..blocks]);
        let mut sums = [f32x4_splat(0.0); N];
        for (block, bytes) in weights.iter().enumerate() {
            let bytes: *const i8 = bytes.as_ptr();
            let weights = [0, 8, 16, 24].map(|at| unsafe { i16x8_load_extend_i8x8(bytes.add(at)) });
            for i in 0..N {
                let (values, input_scale) = (&values[block][i], input_scales[block][i]);
                let values: *const v128 = values.as_ptr().cast();
                let [a, b, c, d] = [0, 1, 2, 3].map(|part| {
                    i32x4_dot_i16x8(weights[part], unsafe { v128_load(values.add(part)) })
                });
                let mut products = [i32x4_add(a, b), i32x4_add(c, d)];
                if S == 1 {
                    products[0] = i32x4_add(products[0], products[1]);
                }
                for (product, scale) in products.into_iter().zip(scales[block]) {
                    let scale = f32x4_splat(scale * input_scale);
                    sums[i] = multiply_add(f32x4_convert_i32x4(product), scale, sums[i]);
                }
            }
        }
        sums.map(sum_lanes)
    }

    #[inline(always)]
    fn project_f32(matrix: &WeightRows, rows: Range<usize>, inputs: &Inputs<'_>, out: &mut [f32]) {
        match (inputs.rows(), matrix.encoding) {
            (1, Encoding::Q4_0 | Encoding::Q4_1) => {
                one_row(matrix, rows, inputs.values, out, fours4)
            }
            (1, Encoding::Q8_0) => one_row(matrix, rows, inputs.values, out, fours8),
            _ => project::floats::<Self, 3, 2>(matrix, rows, inputs, out),
        }
    }

    #[inline(always)]
    fn f32<const R: usize, const N: usize>(
        weights: [&[f32]; R],
        inputs: [&[f32]; N],
    ) -> [[f32; N]; R] {
        let length = weights[0].len();
        let weight_chunks = weights.map(|row| &row[..length].as_chunks::<4>().0[..length / 8 * 2]);
        let input_chunks = inputs.map(|row| &row[..length].as_chunks::<4>().0[..length / 8 * 2]);
        // Two chains a sum hide the latency of the additions.
        let mut sums = [[[f32x4_splat(0.0); 2]; N]; R];
        for index in 0..length / 8 {
            for half in 0..2 {
                let values = input_chunks.map(|chunks| load_f32(&chunks[2 * index + half]));
                for (sums, chunks) in sums.iter_mut().zip(&weight_chunks) {
                    let weights = load_f32(&chunks[2 * index + half]);
                    for (sum, values) in sums.iter_mut().zip(values) {
                        sum[half] = multiply_add(weights, values, sum[half]);
                    }
                }
            }
        }
        let rest = length / 8 * 8..length;
        let mut results = [[0.0; N]; R];
        for ((results, sums), weights) in results.iter_mut().zip(sums).zip(weights) {
            for ((result, [a, b]), input) in results.iter_mut().zip(sums).zip(inputs) {
                *result = sum_lanes(f32x4_add(a, b));
                let rest = weights[rest.clone()].iter().zip(&input[rest.clone()]);
                *result += rest.map(|(w, x)| w * x).sum::<f32>();
            }
        }
        results
    }

    #[inline(always)]
    fn unpack4(bytes: &[[u8; BLOCK / 2]], scales: &[f32], mins: &[f32], out: &mut [[f32; BLOCK]]) {
        for (((out, bytes), scale), min) in out.iter_mut().zip(bytes).zip(scales).zip(mins) {
            store(out, fours4(bytes, *scale, *min));
        }
    }

    #[inline(always)]
    fn integers(form: BlockForm, bytes: &[u8], out: &mut [[i8; BLOCK]]) {
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(form.bytes())) {
            let stored = stored(form.bits - 4, bytes);
            for (half, stored) in stored.into_iter().enumerate() {
                let integers = match form.values {
                    Values::Minimum => stored,
                    Values::Offset(offset) => i8x16_sub(stored, i8x16_splat(offset)),
                    Values::Table(table) => {
                        i8x16_swizzle(unsafe { v128_load(table.as_ptr().cast()) }, stored)
                    }
                };
                unsafe { v128_store(out.as_mut_ptr().add(16 * half).cast(), integers) };
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
            let mut fours = signed_fours(bytemuck::cast_ref(bytes));
            for (at, four) in fours.iter_mut().enumerate() {
                *four = f32x4_mul(f32x4_splat(scales[at * S / 8]), *four);
            }
            store(out, fours);
        }
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
