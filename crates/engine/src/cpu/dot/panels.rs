//! Products of 4-bit weights with f32 activations by AVX2 and FMA. Sixteen rows of weights are unpacked side by side, column after column, and
//! stay in the nearest cache while all activations pass: a lane is a row, so that no sum goes across lanes, and twelve sums
//! fill the registers.
//!
//! The result has the same bits however many rows of activations go together: each sum adds the columns of a
//! [`CHAIN`] in order, and then the chains.
//!
//! Every function is inlined into a caller that was compiled for the instructions it uses.

use super::super::activations::Inputs;
use super::BLOCK;
use std::arch::x86_64::*;
use std::ops::Range;
use trimtab_checkpoint::{Encoding, WeightRows};

/// Rows of weights side by side.
const ROWS: usize = super::PANEL;
/// Columns that are unpacked together: 12 KiB.
const COLUMNS: usize = 192;
/// Columns that one sum takes up before it is added to the others: so short that a single row of activations has three under
/// way, which hides the latency of the multiply-add.
const CHAIN: usize = 64;
/// Rows of activations whose sums fit the registers.
const TOGETHER: usize = 6;
/// Rows of activations whose sums are kept while a panel's columns pass.
const SUMS: usize = 128;

/// A number for each row of a panel.
type Lanes = [f32; ROWS];

#[repr(align(64))]
struct Panel([Lanes; COLUMNS]);

#[repr(align(64))]
struct Sums([Lanes; SUMS]);

/// `x · Wᵀ` for rows `rows` of `matrix`, which is Q4_0 or Q4_1: `out` is `[rows, n]`, `n` the rows of `inputs`.
#[inline(always)]
pub unsafe fn project(
    matrix: &WeightRows,
    rows: Range<usize>,
    inputs: &Inputs<'_>,
    out: &mut [f32],
) {
    let (count, cols) = (inputs.rows(), inputs.cols);
    let mut panel = Panel([[0.0; ROWS]; COLUMNS]);
    let mut sums = Sums([[0.0; ROWS]; SUMS]);
    for (start, out) in rows.clone().step_by(ROWS).zip(out.chunks_mut(ROWS * count)) {
        let last = rows.end - 1;
        // Past the last row: that row again, whose sums nobody takes.
        let mut places = [last; ROWS];
        for (i, place) in places.iter_mut().enumerate() {
            *place = last.min(start + i);
        }
        for first in (0..count).step_by(SUMS) {
            let values = &inputs.values[first * cols..count.min(first + SUMS) * cols];
            let sums = &mut sums.0[..values.len() / cols];
            sums.fill([0.0; ROWS]);
            for start in (0..cols).step_by(COLUMNS) {
                let columns = start..cols.min(start + COLUMNS);
                let panel = &mut panel.0[..columns.len()];
                unsafe {
                    unpack(matrix, &places, &columns, panel);
                    add_products(panel, &values[start..], cols, sums);
                }
            }
            unsafe { store(sums, out, first, count) };
        }
    }
}

/// Adds the products of `panel` with the activations `values`, whose rows begin `stride` numbers apart, to `sums`.
#[inline(always)]
unsafe fn add_products(panel: &[Lanes], values: &[f32], stride: usize, sums: &mut [Lanes]) {
    let mut at = 0;
    let mut groups = sums.len().div_ceil(TOGETHER);
    while groups > 0 {
        // As even as can be: a few sums alone would wait for one another.
        let width = (sums.len() - at).div_ceil(groups);
        let (values, sums) = (&values[at * stride..], &mut sums[at..]);
        unsafe {
            match width {
                1 => add_chains::<1, 3>(panel, values, stride, sums),
                2 => add_chains::<2, 3>(panel, values, stride, sums),
                3 => add_chains::<3, 2>(panel, values, stride, sums),
                4 => add_chains::<4, 1>(panel, values, stride, sums),
                5 => add_chains::<5, 1>(panel, values, stride, sums),
                _ => add_chains::<6, 1>(panel, values, stride, sums),
            }
        }
        at += width;
        groups -= 1;
    }
}

/// The products of `N` rows of activations, `C` chains at once where there are so many.
#[inline(always)]
unsafe fn add_chains<const N: usize, const C: usize>(
    panel: &[Lanes],
    values: &[f32],
    stride: usize,
    sums: &mut [Lanes],
) {
    let mut rows = [values; N];
    for (i, row) in rows.iter_mut().enumerate() {
        *row = &values[i * stride..][..panel.len()];
    }
    let sums = &mut sums[..N];
    let mut start = 0;
    while start + C * CHAIN <= panel.len() {
        unsafe { chains::<N, C>(panel, rows, start, CHAIN, sums) };
        start += C * CHAIN;
    }
    while start < panel.len() {
        let length = CHAIN.min(panel.len() - start);
        unsafe { chains::<N, 1>(panel, rows, start, length, sums) };
        start += length;
    }
}

/// Adds `C` chains of `length` columns, from column `start` on; `panel` and `rows` are as long.
#[inline(always)]
unsafe fn chains<const N: usize, const C: usize>(
    panel: &[Lanes],
    rows: [&[f32]; N],
    start: usize,
    length: usize,
    sums: &mut [Lanes],
) {
    debug_assert!(
        start + C * length <= panel.len() && rows.iter().all(|row| row.len() == panel.len())
    );
    unsafe {
        let mut parts = [[[_mm256_setzero_ps(); 2]; N]; C];
        for k in start..start + length {
            for (chain, parts) in parts.iter_mut().enumerate() {
                let k = k + chain * length;
                let weights = panel.as_ptr().add(k).cast::<f32>();
                let weights = [_mm256_load_ps(weights), _mm256_load_ps(weights.add(8))];
                for (parts, row) in parts.iter_mut().zip(&rows) {
                    let value = _mm256_broadcast_ss(&*row.as_ptr().add(k));
                    for (part, weights) in parts.iter_mut().zip(weights) {
                        *part = _mm256_fmadd_ps(weights, value, *part);
                    }
                }
            }
        }
        for parts in parts {
            for (sums, parts) in sums.iter_mut().zip(parts) {
                for (sum, part) in sums.as_chunks_mut::<8>().0.iter_mut().zip(parts) {
                    let sum = sum.as_mut_ptr();
                    _mm256_storeu_ps(sum, _mm256_add_ps(_mm256_loadu_ps(sum), part));
                }
            }
        }
    }
}

/// Writes `sums` to the columns of `out` (`[rows, stride]`) from `first` on; there may be fewer rows than lanes.
#[inline(always)]
unsafe fn store(sums: &[Lanes], out: &mut [f32], first: usize, stride: usize) {
    let (eights, mut rest) = sums.as_chunks::<8>();
    let mut at = first;
    if out.len() == ROWS * stride {
        for eight in eights {
            for half in 0..2 {
                unsafe {
                    let mut lanes = [_mm256_setzero_ps(); 8];
                    for (lanes, sums) in lanes.iter_mut().zip(eight) {
                        *lanes = _mm256_loadu_ps(sums.as_ptr().add(8 * half));
                    }
                    for (i, row) in transposed(lanes).into_iter().enumerate() {
                        let to = &mut out[(8 * half + i) * stride + at..][..8];
                        _mm256_storeu_ps(to.as_mut_ptr(), row);
                    }
                }
            }
            at += 8;
        }
    } else {
        rest = sums;
    }
    for (row, out) in out.chunks_mut(stride).enumerate() {
        for (out, lanes) in out[at..].iter_mut().zip(rest) {
            *out = lanes[row];
        }
    }
}

/// Rows and columns exchanged.
#[inline(always)]
pub unsafe fn transposed(rows: [__m256; 8]) -> [__m256; 8] {
    unsafe {
        let mut left = [_mm256_setzero_si256(); 4];
        let mut right = [_mm256_setzero_si256(); 4];
        for i in 0..4 {
            let (a, b) = (rows[i], rows[i + 4]);
            left[i] = _mm256_castps_si256(_mm256_permute2f128_ps::<0x20>(a, b));
            right[i] = _mm256_castps_si256(_mm256_permute2f128_ps::<0x31>(a, b));
        }
        let (left, right) = (columns(left), columns(right));
        let mut out = [_mm256_setzero_ps(); 8];
        for i in 0..4 {
            out[i] = _mm256_castsi256_ps(left[i]);
            out[4 + i] = _mm256_castsi256_ps(right[i]);
        }
        out
    }
}

/// Four 32-bit columns of eight rows: `pairs` holds row `i` in the lower and row `i + 4` in the upper half.
#[inline(always)]
unsafe fn columns(pairs: [__m256i; 4]) -> [__m256i; 4] {
    unsafe {
        let [a, b, c, d] = pairs;
        let low = [_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d)];
        let high = [_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d)];
        [
            _mm256_unpacklo_epi64(low[0], low[1]),
            _mm256_unpackhi_epi64(low[0], low[1]),
            _mm256_unpacklo_epi64(high[0], high[1]),
            _mm256_unpackhi_epi64(high[0], high[1]),
        ]
    }
}

/// The columns `columns` of the rows `rows` of `matrix` as f32, the same bits as [`WeightRows::dequantise_row`].
#[inline(always)]
unsafe fn unpack(
    matrix: &WeightRows,
    rows: &[usize; ROWS],
    columns: &Range<usize>,
    panel: &mut [Lanes],
) {
    let blocks = columns.start / BLOCK..columns.end / BLOCK;
    unsafe {
        let scales = side_by_side(&matrix.scale, matrix.cols, rows, &blocks);
        let mins = match matrix.encoding {
            Encoding::Q4_1 => side_by_side(&matrix.min, matrix.cols, rows, &blocks),
            _ => scales.map(|lanes| lanes.map(|scale| -8.0 * scale)),
        };
        let mut starts = starts(matrix, rows, columns);
        for (index, panel) in panel.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            unpack4(&mut starts, &scales[index], &mins[index], panel);
        }
    }
}

/// Where the columns `columns` of each of `rows` begin, which are all there.
#[inline(always)]
fn starts(matrix: &WeightRows, rows: &[usize; ROWS], columns: &Range<usize>) -> [*const u8; ROWS] {
    let row_bytes = matrix.encoding.data_bytes(matrix.cols);
    let (from, to) = (
        matrix.encoding.data_bytes(columns.start),
        matrix.encoding.data_bytes(columns.end),
    );
    // Rows ascend: where the last one's columns are, the others' are, too.
    assert!(to <= row_bytes && (rows[ROWS - 1] + 1) * row_bytes <= matrix.data.len());
    let mut starts = [matrix.data.as_ptr(); ROWS];
    for (start, row) in starts.iter_mut().zip(rows) {
        *start = start.wrapping_add(row.wrapping_mul(row_bytes).wrapping_add(from));
    }
    starts
}

/// Halves of a whole panel's blocks as f32, by block.
type Widened = [Lanes; 8];

/// The halves of `blocks` (at most eight) in the rows `rows` of a matrix's scales or minima.
#[inline(always)]
unsafe fn side_by_side(
    part: &[u8],
    cols: usize,
    rows: &[usize; ROWS],
    blocks: &Range<usize>,
) -> Widened {
    let mut widened = [[0.0; ROWS]; 8];
    for (half, rows) in rows.as_chunks::<8>().0.iter().enumerate() {
        unsafe {
            let mut eights = [_mm_setzero_si128(); 8];
            for (eight, row) in eights.iter_mut().zip(rows) {
                let rest = &part[(row * (cols / BLOCK) + blocks.start) * 2..];
                // Numbers behind the last block are of no meaning.
                *eight = match rest.first_chunk::<16>() {
                    Some(bytes) => _mm_loadu_si128(bytes.as_ptr().cast()),
                    None => {
                        let mut bytes = [0_u8; 16];
                        bytes[..rest.len()].copy_from_slice(rest);
                        _mm_loadu_si128(bytes.as_ptr().cast())
                    }
                };
            }
            // Three rounds that each bring the second half of the rows between the first.
            for _ in 0..3 {
                let mut next = [_mm_setzero_si128(); 8];
                for i in 0..4 {
                    next[2 * i] = _mm_unpacklo_epi16(eights[i], eights[i + 4]);
                    next[2 * i + 1] = _mm_unpackhi_epi16(eights[i], eights[i + 4]);
                }
                eights = next;
            }
            for (lanes, eight) in widened.iter_mut().zip(eights) {
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8 * half), _mm256_cvtph_ps(eight));
            }
        }
    }
    widened
}

/// The next sixteen bytes of eight rows, as four columns of 32 bits; moves `starts` behind them.
///
/// # Safety
/// They are there.
#[inline(always)]
unsafe fn words(starts: &mut [*const u8]) -> [__m256i; 4] {
    unsafe {
        let mut pairs = [_mm256_setzero_si256(); 4];
        for (i, pair) in pairs.iter_mut().enumerate() {
            *pair = _mm256_set_m128i(
                _mm_loadu_si128(starts[i + 4].cast()),
                _mm_loadu_si128(starts[i].cast()),
            );
        }
        for start in starts {
            *start = start.add(16);
        }
        columns(pairs)
    }
}

/// `scale · nibble + min`, rounded twice.
#[inline(always)]
unsafe fn unpack4(
    starts: &mut [*const u8; ROWS],
    scales: &Lanes,
    mins: &Lanes,
    panel: &mut [Lanes; BLOCK],
) {
    for half in 0..2 {
        unsafe {
            let scale = _mm256_loadu_ps(scales.as_ptr().add(8 * half));
            let min = _mm256_loadu_ps(mins.as_ptr().add(8 * half));
            let words = words(&mut starts[8 * half..8 * half + 8]);
            // A nibble is left where it is in its word, which makes it a power of two too large; the scale makes up for
            // it exactly. Only the highest is shifted, because its top bit would be a sign.
            for nibble in 0..8 {
                let shift = if nibble < 7 { 4 * nibble } else { 0 };
                let scale = _mm256_mul_ps(scale, _mm256_set1_ps(1.0 / (1_u32 << shift) as f32));
                let mask = _mm256_set1_epi32(15 << shift);
                for (word, bits) in words.into_iter().enumerate() {
                    let bits = match nibble {
                        7 => _mm256_srli_epi32::<28>(bits),
                        _ => _mm256_and_si256(bits, mask),
                    };
                    let weights = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(bits));
                    let k = 4 * word + nibble / 2 + nibble % 2 * (BLOCK / 2);
                    let lanes = panel[k].as_mut_ptr().add(8 * half);
                    _mm256_store_ps(lanes, _mm256_add_ps(weights, min));
                }
            }
        }
    }
}
