//! AVX2 with FMA and F16C, and the byte dot product of VNNI in either of its encodings.
//!
//! Every function is inlined into a caller that was compiled for the instructions it uses; `super::super::kernels`
//! calls those only where the processor has them.

use super::{BLOCK, DotProduct, Row8, Row16, Weights4};
use std::arch::x86_64::*;

#[derive(Debug)]
pub struct Avx2;
/// AVX2 and AVX-VNNI.
#[derive(Debug)]
pub struct AvxVnni;
/// AVX2 and AVX-512's VNNI on 256 bits.
#[derive(Debug)]
pub struct Avx512Vnni;

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

impl ByteDot for Avx512Vnni {
    #[inline(always)]
    unsafe fn dot(unsigned: __m256i, signed: __m256i) -> __m256i {
        unsafe { _mm256_dpbusd_epi32(_mm256_setzero_si256(), unsigned, signed) }
    }
}

#[inline(always)]
unsafe fn load_f32(values: &[f32; 8]) -> __m256 {
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

#[inline(always)]
unsafe fn all_lanes<const N: usize>(sums: [__m256; N]) -> [f32; N] {
    let mut out = [0.0; N];
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = unsafe { sum_lanes(sum) };
    }
    out
}

#[inline(always)]
unsafe fn q4<D: ByteDot, const N: usize>(weights: Weights4<'_>, inputs: [Row8<'_>; N]) -> [f32; N] {
    let blocks = weights.nibbles.len();
    let scales = &weights.scales[..blocks];
    let inputs = inputs.map(|input| Row8 {
        values: &input.values[..blocks],
        scales: &input.scales[..blocks],
        sums: &input.sums[..weights.mins.len()],
    });
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let mut sums = [_mm256_setzero_ps(); N];
        for (block, nibbles) in weights.nibbles.iter().enumerate() {
            let bytes = _mm_loadu_si128(nibbles.as_ptr().cast());
            let both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
            let nibbles = _mm256_and_si256(both, mask);
            let scale = _mm256_set1_ps(scales[block]);
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                let values = _mm256_loadu_si256(input.values[block].as_ptr().cast());
                let products = _mm256_cvtepi32_ps(D::dot(nibbles, values));
                let groups = _mm_loadu_ps(input.scales[block].as_ptr());
                let scale = _mm256_mul_ps(_mm256_set_m128(groups, groups), scale);
                *sum = _mm256_fmadd_ps(products, scale, *sum);
            }
        }
        for (index, min) in weights.mins.iter().enumerate() {
            let min = load_f32(min);
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                *sum = _mm256_fmadd_ps(min, load_f32(&input.sums[index]), *sum);
            }
        }
        all_lanes(sums)
    }
}

#[inline(always)]
unsafe fn q8<const N: usize>(
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
    unsafe {
        let mut sums = [_mm256_setzero_ps(); N];
        for (block, bytes) in weights.iter().enumerate() {
            let bytes: *const __m128i = bytes.as_ptr().cast();
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(bytes.add(1)));
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                let values: *const __m256i = input.values[block].as_ptr().cast();
                let product = _mm256_add_epi32(
                    _mm256_madd_epi16(low, _mm256_loadu_si256(values)),
                    _mm256_madd_epi16(high, _mm256_loadu_si256(values.add(1))),
                );
                let scale = _mm256_set1_ps(scales[block] * input.scales[block]);
                *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(product), scale, *sum);
            }
        }
        all_lanes(sums)
    }
}

#[inline(always)]
unsafe fn f32<const N: usize>(weights: &[f32], inputs: [&[f32]; N]) -> [f32; N] {
    let (weights, rest) = weights.as_chunks::<16>();
    unsafe {
        // Two chains a row hide the latency of the multiply-add.
        let mut sums = [[_mm256_setzero_ps(); 2]; N];
        let chunks = inputs.map(|input| &input.as_chunks::<16>().0[..weights.len()]);
        for (index, weights) in weights.iter().enumerate() {
            let weights = [
                _mm256_loadu_ps(weights.as_ptr()),
                _mm256_loadu_ps(weights.as_ptr().add(8)),
            ];
            for (sums, chunks) in sums.iter_mut().zip(&chunks) {
                for (half, sum) in sums.iter_mut().enumerate() {
                    let values = _mm256_loadu_ps(chunks[index].as_ptr().add(8 * half));
                    *sum = _mm256_fmadd_ps(weights[half], values, *sum);
                }
            }
        }
        let mut results = [0.0; N];
        for ((result, [a, b]), input) in results.iter_mut().zip(sums).zip(inputs) {
            *result = sum_lanes(_mm256_add_ps(a, b));
            let tail = &input[weights.len() * 16..];
            *result += rest.iter().zip(tail).map(|(w, x)| w * x).sum::<f32>();
        }
        results
    }
}

#[inline(always)]
unsafe fn widen(halves: &[[u8; 2]], out: &mut [f32]) {
    let (chunks, rest) = halves.as_chunks::<8>();
    let (out, out_rest) = out[..halves.len()].as_chunks_mut::<8>();
    unsafe {
        for (out, chunk) in out.iter_mut().zip(chunks) {
            let halves = _mm_loadu_si128(chunk.as_ptr().cast());
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
        for (out, half) in out_rest.iter_mut().zip(rest) {
            let half = _mm_cvtsi32_si128(i32::from(u16::from_le_bytes(*half)));
            *out = _mm_cvtss_f32(_mm_cvtph_ps(half));
        }
    }
}

macro_rules! dot_product {
    ($type:ty, $name:literal) => {
        impl DotProduct for $type {
            const NAME: &'static str = $name;

            #[inline(always)]
            fn q4<const N: usize>(weights: Weights4<'_>, inputs: [Row8<'_>; N]) -> [f32; N] {
                unsafe { q4::<Self, N>(weights, inputs) }
            }

            #[inline(always)]
            fn q8<const N: usize>(
                weights: &[[i8; BLOCK]],
                scales: &[f32],
                inputs: [Row16<'_>; N],
            ) -> [f32; N] {
                unsafe { q8(weights, scales, inputs) }
            }

            #[inline(always)]
            fn f32<const N: usize>(weights: &[f32], inputs: [&[f32]; N]) -> [f32; N] {
                unsafe { f32(weights, inputs) }
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
dot_product!(Avx512Vnni, "AVX2 and AVX-512 VNNI");
