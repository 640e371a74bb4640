//! AVX2 with FMA and F16C, and with AVX-VNNI's byte dot product.
//!
//! Every function is inlined into a caller that was compiled for the instructions it uses; `super::super::kernels`
//! calls those only where the processor has them.

use super::super::activations::Inputs;
use super::super::project;
use super::vector::Vector;
use super::{BLOCK, DotProduct, Rows8, Rows16, Tile, Weights4, panels};
use std::arch::x86_64::*;
use std::ops::Range;
use trimtab_checkpoint::encoding::{BlockForm, Values};
use trimtab_checkpoint::{Encoding, WeightRows};

#[derive(Debug)]
pub struct Avx2;
/// AVX2 and AVX-VNNI.
#[derive(Debug)]
pub struct AvxVnni;

/// The sum of products of unsigned and signed bytes in each 32-bit lane.
trait ByteDot {
    /// # Safety
    /// The processor has the instructions of the implementation.
    unsafe fn dot(unsigned: __m256i, signed: __m256i) -> __m256i;
}

impl ByteDot for Avx2 {
    #[inline(always)]
    unsafe fn dot(unsigned: __m256i, signed: __m256i) -> __m256i {
        // Pairs stay below 2 · 15 · 127: no saturation.
        unsafe { _mm256_madd_epi16(_mm256_maddubs_epi16(unsigned, signed), _mm256_set1_epi16(1)) }
    }
}

impl ByteDot for AvxVnni {
    #[inline(always)]
    unsafe fn dot(unsigned: __m256i, signed: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_avx_epi32(_mm256_setzero_si256(), unsigned, signed) }
    }
}

#[inline(always)]
pub unsafe fn load_f32(values: &[f32; 8]) -> __m256 {
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline(always)]
unsafe fn sum_lanes(x: __m256) -> f32 {
    unsafe {
        let half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
        let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
        _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)))
    }
}

/// [`sum_lanes`] of eight sums in a third of the instructions, to the same bits.
#[inline(always)]
unsafe fn sum_lanes_of_eight(x: &[__m256; 8]) -> __m256 {
    unsafe {
        // [0 1 2 3 of a, of b], then [0 1 of a, of c, of b, of d], then one number each.
        let mut halves = [_mm256_setzero_ps(); 4];
        for (i, half) in halves.iter_mut().enumerate() {
            let (a, b) = (x[2 * i], x[2 * i + 1]);
            let low = _mm256_permute2f128_ps::<0x20>(a, b);
            *half = _mm256_add_ps(low, _mm256_permute2f128_ps::<0x31>(a, b));
        }
        let mut pairs = [_mm256_setzero_ps(); 2];
        for (i, pair) in pairs.iter_mut().enumerate() {
            let (a, b) = (halves[2 * i], halves[2 * i + 1]);
            let low = _mm256_shuffle_ps::<0b01_00_01_00>(a, b);
            *pair = _mm256_add_ps(low, _mm256_shuffle_ps::<0b11_10_11_10>(a, b));
        }
        let even = _mm256_shuffle_ps::<0b10_00_10_00>(pairs[0], pairs[1]);
        let odd = _mm256_shuffle_ps::<0b11_01_11_01>(pairs[0], pairs[1]);
        let sums = _mm256_add_ps(even, odd);
        _mm256_permutevar8x32_ps(sums, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7))
    }
}

/// The sum over the lanes of each of `sums`.
#[inline(always)]
pub unsafe fn all_lanes<const N: usize>(sums: [__m256; N]) -> [f32; N] {
    let mut out = [0.0; N];
    let (eights, rest) = sums.as_chunks::<8>();
    let (out_eights, out_rest) = out.as_chunks_mut::<8>();
    for (out, sums) in out_eights.iter_mut().zip(eights) {
        unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sum_lanes_of_eight(sums)) };
    }
    for (out, sum) in out_rest.iter_mut().zip(rest) {
        *out = unsafe { sum_lanes(*sum) };
    }
    out
}

#[inline(always)]
unsafe fn q4<D: ByteDot, const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N] {
    let blocks = weights.nibbles.len();
    let scales = &weights.scales[..blocks];
    let (values, groups) = (&inputs.values[..blocks], &inputs.scales[..blocks]);
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let mut sums = [_mm256_setzero_ps(); N];
        for (block, nibbles) in weights.nibbles.iter().enumerate() {
            let bytes = _mm_loadu_si128(nibbles.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
            let nibbles = _mm256_and_si256(both, mask);
            let scale = _mm256_set1_ps(scales[block]);
            for i in 0..N {
                let (values, groups) = (&values[block][i], &groups[block][i]);
                let values = _mm256_loadu_si256(values.as_ptr().cast());
                let products = _mm256_cvtepi32_ps(D::dot(nibbles, values));
                let groups = _mm_loadu_ps(groups.as_ptr());
                let scale = _mm256_mul_ps(_mm256_set_m128(groups, groups), scale);
                sums[i] = _mm256_fmadd_ps(products, scale, sums[i]);
            }
        }
        for (min, of_inputs) in weights.mins.iter().zip(inputs.sums) {
            let min = load_f32(min);
            for (sum, of_input) in sums.iter_mut().zip(of_inputs) {
                *sum = _mm256_fmadd_ps(min, load_f32(of_input), *sum);
            }
        }
        all_lanes(sums)
    }
}

#[inline(always)]
unsafe fn q8<const S: usize, const N: usize>(
    weights: &[[i8; BLOCK]],
    scales: &[[f32; S]],
    inputs: Rows16<'_, N>,
) -> [f32; N] {
    let blocks = weights.len();
    let scales = &scales[..blocks];
    let (values, input_scales) = (&inputs.values[..blocks], &inputs.scales[..blocks]);
    unsafe {
        let mut sums = [_mm256_setzero_ps(); N];
        for (block, bytes) in weights.iter().enumerate() {
            let bytes: *const __m128i = bytes.as_ptr().cast();
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.add(1)));
            let scales = &scales[block];
            for i in 0..N {
                let (values, input_scale) = (&values[block][i], input_scales[block][i]);
                let values: *const __m256i = values.as_ptr().cast();
                let mut products = [
                    _mm256_madd_epi16(low, _mm256_loadu_si256(values)),
                    _mm256_madd_epi16(high, _mm256_loadu_si256(values.add(1))),
                ];
                if S == 1 {
                    products[0] = _mm256_add_epi32(products[0], products[1]);
                }
                for (product, scale) in products.into_iter().zip(scales) {
                    // In this order: a product of two splats would be computed as one number and then spread.
                    let product =
                        _mm256_mul_ps(_mm256_cvtepi32_ps(product), _mm256_set1_ps(input_scale));
                    sums[i] = _mm256_fmadd_ps(product, _mm256_set1_ps(*scale), sums[i]);
                }
            }
        }
        all_lanes(sums)
    }
}

#[inline(always)]
unsafe fn f32<const R: usize, const N: usize>(
    weights: [&[f32]; R],
    inputs: [&[f32]; N],
) -> [[f32; N]; R] {
    let length = weights[0].len();
    let weights = weights.map(|row| &row[..length]);
    let inputs = inputs.map(|row| &row[..length]);
    let whole = length / 16 * 16;
    let mut results = [[0.0; N]; R];
    unsafe {
        // Two chains a sum hide the latency of the multiply-add.
        let mut sums = [[[_mm256_setzero_ps(); N]; R]; 2];
        for at in (0..whole).step_by(16) {
            for (half, sums) in sums.iter_mut().enumerate() {
                let at = at + 8 * half;
                let mut values = [_mm256_setzero_ps(); N];
                for (value, input) in values.iter_mut().zip(&inputs) {
                    *value = _mm256_loadu_ps(input.as_ptr().add(at));
                }
                for (sums, weights) in sums.iter_mut().zip(&weights) {
                    let weights = _mm256_loadu_ps(weights.as_ptr().add(at));
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum = _mm256_fmadd_ps(weights, value, *sum);
                    }
                }
            }
        }
        for (row, results) in results.iter_mut().enumerate() {
            let mut both = [_mm256_setzero_ps(); N];
            for (i, both) in both.iter_mut().enumerate() {
                *both = _mm256_add_ps(sums[0][row][i], sums[1][row][i]);
            }
            *results = all_lanes(both);
        }
    }
    add_rest(&mut results, whole, weights, inputs);
    results
}

/// Adds the products from element `start` on to `sums`.
#[inline(always)]
pub fn add_rest<const R: usize, const N: usize>(
    sums: &mut [[f32; N]; R],
    start: usize,
    weights: [&[f32]; R],
    inputs: [&[f32]; N],
) {
    if start < weights[0].len() {
        for (sums, weights) in sums.iter_mut().zip(weights) {
            for (sum, input) in sums.iter_mut().zip(inputs) {
                let rest = weights[start..].iter().zip(&input[start..]);
                *sum += rest.map(|(w, x)| w * x).sum::<f32>();
            }
        }
    }
}

#[inline(always)]
unsafe fn unpack4(
    bytes: &[[u8; BLOCK / 2]],
    scales: &[f32],
    mins: &[f32],
    out: &mut [[f32; BLOCK]],
) {
    for (((out, bytes), scale), min) in out.iter_mut().zip(bytes).zip(scales).zip(mins) {
        unsafe {
            let (scale, min) = (_mm256_set1_ps(*scale), _mm256_set1_ps(*min));
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            let eights = [
                low,
                _mm_unpackhi_epi64(low, low),
                high,
                _mm_unpackhi_epi64(high, high),
            ];
            for (out, eight) in out.as_chunks_mut::<8>().0.iter_mut().zip(eights) {
                let weights = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight));
                let weights = _mm256_add_ps(_mm256_mul_ps(scale, weights), min);
                _mm256_storeu_ps(out.as_mut_ptr(), weights);
            }
        }
    }
}

#[inline(always)]
unsafe fn unpack8<const S: usize>(
    bytes: &[[i8; BLOCK]],
    scales: &[[f32; S]],
    out: &mut [[f32; BLOCK]],
) {
    for ((out, bytes), scales) in out.iter_mut().zip(bytes).zip(scales) {
        unsafe {
            let eights = bytes.as_chunks::<8>().0;
            let out = out.as_chunks_mut::<8>().0.iter_mut();
            for (at, (out, eight)) in out.zip(eights).enumerate() {
                let scale = _mm256_set1_ps(scales[at * S / 4]);
                let eight = _mm256_cvtepi8_epi32(_mm_loadl_epi64(eight.as_ptr().cast()));
                let weights = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(eight));
                _mm256_storeu_ps(out.as_mut_ptr(), weights);
            }
        }
    }
}

/// See [`DotProduct::integers`].
#[inline(always)]
pub unsafe fn integers(form: BlockForm, bytes: &[u8], out: &mut [[i8; BLOCK]]) {
    let high = form.bits - 4;
    // Where the higher bits of each group of four integers are in the words after the nibbles.
    let words = out.iter_mut().zip(bytes.chunks_exact(form.bytes()));
    unsafe {
        let nibble = _mm256_set1_epi8(15);
        let places = _mm256_mullo_epi32(
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            _mm256_set1_epi32(high as i32),
        );
        let shifts = _mm256_and_si256(places, _mm256_set1_epi32(7));
        let above = _mm256_set1_epi8((1 << high) - 1);
        for (out, bytes) in words {
            let low = _mm_loadu_si128(bytes.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16(low, 4), low);
            let mut integers = _mm256_and_si256(both, nibble);
            if high > 0 {
                let word = |at: usize| {
                    let word = bytes[16 + at..].first_chunk().copied().unwrap_or_default();
                    _mm_set1_epi32(i32::from_le_bytes(word))
                };
                let words = _mm256_set_m128i(word((high - 1) * 4), word(0));
                let bits = _mm256_and_si256(_mm256_srlv_epi32(words, shifts), above);
                integers = _mm256_or_si256(integers, _mm256_slli_epi16(bits, 4));
            }
            integers = match form.values {
                Values::Minimum => integers,
                Values::Offset(offset) => _mm256_sub_epi8(integers, _mm256_set1_epi8(offset)),
                Values::Table(table) => {
                    let table = _mm_loadu_si128(table.as_ptr().cast());
                    _mm256_shuffle_epi8(_mm256_set_m128i(table, table), integers)
                }
            };
            _mm256_storeu_si256(out.as_mut_ptr().cast(), integers);
        }
    }
}

#[inline(always)]
pub unsafe fn widen(halves: &[[u8; 2]], out: &mut [f32]) {
    let out = &mut out[..halves.len()];
    unsafe {
        if let (Some(halves), Some(out)) = (halves.last_chunk::<8>(), out.last_chunk_mut::<8>()) {
            widen_eight(halves, out);
        } else {
            for (out, half) in out.iter_mut().zip(halves) {
                let half = _mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*half)));
                *out = _mm_cvtss_f32(_mm_cvtph_ps(half));
            }
        }
        for (out, halves) in out.as_chunks_mut().0.iter_mut().zip(halves.as_chunks().0) {
            widen_eight(halves, out);
        }
    }
}

#[inline(always)]
unsafe fn widen_eight(halves: &[[u8; 2]; 8], out: &mut [f32; 8]) {
    unsafe {
        let halves = _mm_loadu_si128(halves.as_ptr().cast());
        _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves));
    }
}

#[inline(always)]
pub unsafe fn transposed(rows: &[[f32; 8]; 8]) -> [[f32; 8]; 8] {
    let mut out = [[0.0; 8]; 8];
    unsafe {
        let mut loaded = [_mm256_setzero_ps(); 8];
        for (loaded, row) in loaded.iter_mut().zip(rows) {
            *loaded = load_f32(row);
        }
        for (out, column) in out.iter_mut().zip(panels::transposed(loaded)) {
            _mm256_storeu_ps(out.as_mut_ptr(), column);
        }
    }
    out
}

impl Vector for __m256 {
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, sum: Self) -> Self {
        unsafe { _mm256_fmadd_ps(self, by, sum) }
    }
}

macro_rules! dot_product {
    ($type:ty, $name:literal) => {
        impl DotProduct for $type {
            const NAME: &'static str = $name;
            const TILE: Tile = Tile::Narrow;
            type Vector = __m256;

            #[inline(always)]
            fn q4<const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N] {
                unsafe { q4::<Self, N>(weights, inputs) }
            }

            #[inline(always)]
            fn q8<const S: usize, const N: usize>(
                weights: &[[i8; BLOCK]],
                scales: &[[f32; S]],
                inputs: Rows16<'_, N>,
            ) -> [f32; N] {
                unsafe { q8(weights, scales, inputs) }
            }

            #[inline(always)]
            fn project_f32(
                matrix: &WeightRows,
                rows: Range<usize>,
                inputs: &Inputs<'_>,
                out: &mut [f32],
            ) {
                match matrix.encoding {
                    Encoding::Q4_0 | Encoding::Q4_1 => unsafe {
                        panels::project(matrix, rows, inputs, out);
                    },
                    // Wider weights cost more to bring side by side than is won.
                    _ => project::floats::<Self, 3, 2>(matrix, rows, inputs, out),
                }
            }

            #[inline(always)]
            fn f32<const R: usize, const N: usize>(
                weights: [&[f32]; R],
                inputs: [&[f32]; N],
            ) -> [[f32; N]; R] {
                unsafe { f32(weights, inputs) }
            }

            #[inline(always)]
            fn unpack4(
                bytes: &[[u8; BLOCK / 2]],
                scales: &[f32],
                mins: &[f32],
                out: &mut [[f32; BLOCK]],
            ) {
                unsafe { unpack4(bytes, scales, mins, out) }
            }

            #[inline(always)]
            fn integers(form: BlockForm, bytes: &[u8], out: &mut [[i8; BLOCK]]) {
                unsafe { integers(form, bytes, out) }
            }

            #[inline(always)]
            fn unpack8<const S: usize>(
                bytes: &[[i8; BLOCK]],
                scales: &[[f32; S]],
                out: &mut [[f32; BLOCK]],
            ) {
                unsafe { unpack8(bytes, scales, out) }
            }

            #[inline(always)]
            fn transposed(rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
                unsafe { transposed(&rows) }
            }

            #[inline(always)]
            fn widen(halves: &[[u8; 2]], out: &mut [f32]) {
                unsafe { widen(halves, out) }
            }
        }
    };
}

dot_product!(Avx2, "AVX2");
dot_product!(AvxVnni, "AVX2 and AVX-VNNI");
