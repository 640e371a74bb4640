//! AVX-512 with VNNI: pairs of blocks, and 24 sums at a time in f32.
//!
//! Every function is inlined into a caller that was compiled for the instructions it uses; `super::super::kernels`
//! calls those only where the processor has them.

use super::super::activations::Inputs;
use super::super::project;
use super::avx2::{add_rest, all_lanes, integers, load_f32, transposed, widen};
use super::vector::Vector;
use super::{BLOCK, DotProduct, Rows8, Rows16, Tile, Weights4};
use std::arch::x86_64::*;
use std::ops::Range;
use trimtab_checkpoint::WeightRows;
use trimtab_checkpoint::encoding::BlockForm;

#[derive(Debug)]
pub struct Avx512Vnni;

/// The lower and the upper half's sum.
#[inline(always)]
unsafe fn fold(x: __m512) -> __m256 {
    unsafe {
        let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
        _mm256_add_ps(_mm512_castps512_ps256(x), high)
    }
}

#[inline(always)]
unsafe fn q4<const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N] {
    let blocks = weights.nibbles.len();
    let scales = &weights.scales[..blocks];
    // Activations of an odd block are paired with zeros.
    let pairs = blocks.div_ceil(2);
    let values = inputs.values.as_flattened().as_chunks::<2>().0;
    let values = &values.as_chunks::<N>().0[..pairs];
    let groups = inputs.scales.as_flattened().as_chunks::<2>().0;
    let groups = &groups.as_chunks::<N>().0[..pairs];
    unsafe {
        let mask = _mm512_set1_epi8(15);
        // The upper half of a pair's bytes gives the high nibbles.
        let shifts = _mm512_inserti64x4::<1>(_mm512_setzero_si512(), _mm256_set1_epi16(4));
        let places = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1);
        let mut sums = [_mm512_setzero_ps(); N];
        for (pair, (values, groups)) in values.iter().zip(groups).enumerate() {
            let block = 2 * pair;
            let nibbles = weights.nibbles.as_ptr().add(block);
            let (bytes, both) = if block + 1 < blocks {
                let scales = scales.as_ptr().add(block).cast();
                (
                    _mm256_loadu_si256(nibbles.cast()),
                    _mm_castpd_ps(_mm_load_sd(scales)),
                )
            } else {
                (
                    _mm256_zextsi128_si256(_mm_loadu_si128(nibbles.cast())),
                    _mm_set_ss(scales[block]),
                )
            };
            let bytes = _mm512_broadcast_i64x4(bytes);
            let nibbles = _mm512_and_si512(_mm512_srlv_epi16(bytes, shifts), mask);
            let scale = _mm512_permutexvar_ps(places, _mm512_castps128_ps512(both));
            for i in 0..N {
                let (values, groups) = (&values[i], &groups[i]);
                let values = _mm512_loadu_si512(values.as_ptr().cast());
                let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), nibbles, values);
                let groups = _mm256_loadu_pd(groups.as_ptr().cast());
                let groups = _mm512_castpd_ps(_mm512_broadcast_f64x4(groups));
                let scale = _mm512_mul_ps(groups, scale);
                sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sums[i]);
            }
        }
        let mut folded = [_mm256_setzero_ps(); N];
        for (folded, sum) in folded.iter_mut().zip(sums) {
            *folded = fold(sum);
        }
        for (min, of_inputs) in weights.mins.iter().zip(inputs.sums) {
            let min = load_f32(min);
            for (sum, of_input) in folded.iter_mut().zip(of_inputs) {
                *sum = _mm256_fmadd_ps(min, load_f32(of_input), *sum);
            }
        }
        all_lanes(folded)
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
        let mut sums = [_mm512_setzero_ps(); N];
        for (block, bytes) in weights.iter().enumerate() {
            let weights = _mm512_cvtepi8_epi16(_mm256_loadu_si256(bytes.as_ptr().cast()));
            // A register holds both halves.
            let (first, last) = (scales[block][0], scales[block][S - 1]);
            let scale = match S {
                1 => _mm512_set1_ps(first),
                _ => _mm512_mask_blend_ps(0xff00, _mm512_set1_ps(first), _mm512_set1_ps(last)),
            };
            for i in 0..N {
                let (values, input_scale) = (&values[block][i], input_scales[block][i]);
                let values = _mm512_loadu_si512(values.as_ptr().cast());
                let product = _mm512_madd_epi16(weights, values);
                // In this order: a product of two splats would be computed as one number and then spread.
                let product =
                    _mm512_mul_ps(_mm512_cvtepi32_ps(product), _mm512_set1_ps(input_scale));
                sums[i] = _mm512_fmadd_ps(product, scale, sums[i]);
            }
        }
        let mut folded = [_mm256_setzero_ps(); N];
        for (folded, sum) in folded.iter_mut().zip(sums) {
            *folded = fold(sum);
        }
        all_lanes(folded)
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
        let mut sums = [[_mm512_setzero_ps(); N]; R];
        for at in (0..whole).step_by(16) {
            let mut values = [_mm512_setzero_ps(); N];
            for (value, input) in values.iter_mut().zip(&inputs) {
                *value = _mm512_loadu_ps(input.as_ptr().add(at));
            }
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                let weights = _mm512_loadu_ps(weights.as_ptr().add(at));
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = _mm512_fmadd_ps(weights, value, *sum);
                }
            }
        }
        let mut folded = [[_mm256_setzero_ps(); N]; R];
        for (folded, sums) in folded.iter_mut().zip(sums) {
            for (folded, sum) in folded.iter_mut().zip(sums) {
                *folded = fold(sum);
            }
        }
        let (eights, rest) = folded.as_flattened().as_chunks::<8>();
        let (out, out_rest) = results.as_flattened_mut().as_chunks_mut::<8>();
        for (out, sums) in out.iter_mut().zip(eights) {
            *out = all_lanes(*sums);
        }
        for (out, sum) in out_rest.iter_mut().zip(rest) {
            [*out] = all_lanes([*sum]);
        }
    }
    add_rest(&mut results, whole, weights, inputs);
    results
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
            let (scale, min) = (_mm512_set1_ps(*scale), _mm512_set1_ps(*min));
            let bytes = _mm_loadu_si128(bytes.as_ptr().cast());
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            for (out, half) in out.as_chunks_mut::<16>().0.iter_mut().zip([low, high]) {
                let weights = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(half));
                let weights = _mm512_add_ps(_mm512_mul_ps(scale, weights), min);
                _mm512_storeu_ps(out.as_mut_ptr(), weights);
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
            let halves = bytes.as_chunks::<16>().0;
            let out = out.as_chunks_mut::<16>().0.iter_mut();
            for (at, (out, half)) in out.zip(halves).enumerate() {
                let scale = _mm512_set1_ps(scales[at * S / 2]);
                let half = _mm512_cvtepi8_epi32(_mm_loadu_si128(half.as_ptr().cast()));
                let weights = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(half));
                _mm512_storeu_ps(out.as_mut_ptr(), weights);
            }
        }
    }
}

impl Vector for __m512 {
    const LANES: usize = 16;
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, self) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, by: Self, sum: Self) -> Self {
        unsafe { _mm512_fmadd_ps(self, by, sum) }
    }
}

impl DotProduct for Avx512Vnni {
    const NAME: &'static str = "AVX-512 VNNI";
    const TILE: Tile = Tile::Wide;
    type Vector = __m512;
    const PAIRS: bool = true;

    #[inline(always)]
    fn q4<const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N] {
        unsafe { q4(weights, inputs) }
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
    fn project_f32(matrix: &WeightRows, rows: Range<usize>, inputs: &Inputs<'_>, out: &mut [f32]) {
        project::floats::<Self, 6, 4>(matrix, rows, inputs, out);
    }

    #[inline(always)]
    fn f32<const R: usize, const N: usize>(
        weights: [&[f32]; R],
        inputs: [&[f32]; N],
    ) -> [[f32; N]; R] {
        unsafe { f32(weights, inputs) }
    }

    #[inline(always)]
    fn unpack4(bytes: &[[u8; BLOCK / 2]], scales: &[f32], mins: &[f32], out: &mut [[f32; BLOCK]]) {
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
