//! A weight matrix times a batch of activations, a range of the matrix's rows at a time.

use super::activations::{Inputs, Quantised};
use super::dot::{BLOCK, DotProduct, SUMS, Weights4};
use std::ops::Range;
use trimtab_checkpoint::{Encoding, WeightRows};

/// Blocks of one row that are worked on together: their scales fit the stack.
const CHUNK: usize = 64;

/// `x · Wᵀ` for rows `rows` of `matrix`: `out` is `[rows, n]`, `n` the rows of `inputs`.
#[inline(always)]
pub fn project<D: DotProduct>(
    matrix: &WeightRows,
    rows: Range<usize>,
    inputs: &Inputs<'_>,
    out: &mut [f32],
) {
    out.fill(0.0);
    // Loops, not closures: a closure would be compiled without the caller's instructions.
    for (row, out) in rows.zip(out.chunks_exact_mut(inputs.rows())) {
        match (inputs.quantised, matrix.encoding) {
            (Some(quantised), Encoding::Q4_0 | Encoding::Q4_1) => {
                row_q4::<D>(matrix, row, quantised, out);
            }
            (Some(quantised), Encoding::Q8_0) => row_q8::<D>(matrix, row, quantised, out),
            _ => row_f32::<D>(matrix, row, inputs, out),
        }
    }
}

/// The blocks of `matrix`'s rows, `CHUNK` at a time.
fn chunks(matrix: &WeightRows) -> impl Iterator<Item = Range<usize>> {
    let blocks = matrix.cols / BLOCK;
    (0..blocks)
        .step_by(CHUNK)
        .map(move |start| start..blocks.min(start + CHUNK))
}

/// The halves of `blocks` in row `row` of a matrix's scales or minima.
#[inline(always)]
fn halves<'a>(
    part: &'a [u8],
    matrix: &WeightRows,
    row: usize,
    blocks: &Range<usize>,
) -> &'a [[u8; 2]] {
    let at = row * (matrix.cols / BLOCK);
    &part.as_chunks::<2>().0[at + blocks.start..at + blocks.end]
}

/// Adds the inner products `$dot` of the inputs `$input` to `$out`, as many at a time (`$widths`, the widest first, then
/// one) as share one pass over the weights.
macro_rules! over_inputs {
    ($out:ident, $i:ident => $input:expr, $rows:ident => $dot:expr, $($widths:literal),+) => {
        let count = $out.len();
        let mut at = 0;
        $(while at + $widths <= count {
            let $rows = std::array::from_fn::<_, $widths, _>(|i| {
                let $i = at + i;
                $input
            });
            for (out, sum) in $out[at..].iter_mut().zip($dot) {
                *out += sum;
            }
            at += $widths;
        })+
        while at < count {
            let $i = at;
            let $rows = [$input];
            let [sum] = $dot;
            $out[at] += sum;
            at += 1;
        }
    };
}

/// [`over_inputs`] of integers. Natively eight rows at once take 0.63 of the time that four take (a prompt of 385 tokens,
/// one thread, AVX-512 VNNI); the f32 loop, which keeps two sums a row, has no registers for so many. Wasm's lanes are
/// half as wide and need twice as many: four.
#[cfg(not(target_arch = "wasm32"))]
macro_rules! over_integers {
    ($($part:tt)+) => { over_inputs!($($part)+, 8, 4, 2) };
}
#[cfg(target_arch = "wasm32")]
macro_rules! over_integers {
    ($($part:tt)+) => { over_inputs!($($part)+, 4, 2) };
}

#[inline(always)]
fn row_q4<D: DotProduct>(matrix: &WeightRows, row: usize, quantised: &Quantised, out: &mut [f32]) {
    let width = matrix.cols / BLOCK;
    let (nibbles, _) = matrix.data.as_chunks::<{ BLOCK / 2 }>();
    for blocks in chunks(matrix) {
        let mut scales = [0.0; CHUNK];
        let scales = &mut scales[..blocks.len()];
        D::widen(halves(&matrix.scale, matrix, row, &blocks), scales);
        let mut mins = [[0.0; SUMS]; CHUNK / SUMS];
        let flat = &mut mins.as_flattened_mut()[..blocks.len()];
        match matrix.encoding {
            Encoding::Q4_1 => D::widen(halves(&matrix.min, matrix, row, &blocks), flat),
            _ => flat
                .iter_mut()
                .zip(&*scales)
                .for_each(|(min, scale)| *min = -8.0 * scale),
        }
        let weights = Weights4 {
            nibbles: &nibbles[row * width..][blocks.clone()],
            scales,
            mins: &mins[..blocks.len().div_ceil(SUMS)],
        };
        over_integers!(out, i => quantised.row8(i, blocks.clone()), rows => D::q4(weights, rows));
    }
}

#[inline(always)]
fn row_q8<D: DotProduct>(matrix: &WeightRows, row: usize, quantised: &Quantised, out: &mut [f32]) {
    let width = matrix.cols / BLOCK;
    let bytes: &[i8] = bytemuck::cast_slice(&matrix.data);
    let (bytes, _) = bytes.as_chunks::<BLOCK>();
    for blocks in chunks(matrix) {
        let mut scales = [0.0; CHUNK];
        let scales = &mut scales[..blocks.len()];
        D::widen(halves(&matrix.scale, matrix, row, &blocks), scales);
        let weights = &bytes[row * width..][blocks.clone()];
        over_integers!(out, i => quantised.row16(i, blocks.clone()), rows => D::q8(weights, scales, rows));
    }
}

#[inline(always)]
fn row_f32<D: DotProduct>(matrix: &WeightRows, row: usize, inputs: &Inputs<'_>, out: &mut [f32]) {
    for start in (0..matrix.cols).step_by(CHUNK * BLOCK) {
        let columns = start..matrix.cols.min(start + CHUNK * BLOCK);
        let mut weights = [0.0; CHUNK * BLOCK];
        let weights = &mut weights[..columns.len()];
        dequantise::<D>(matrix, row, columns.clone(), weights);
        over_inputs!(
            out,
            i => &inputs.values[i * inputs.cols..][columns.clone()],
            rows => D::f32(weights, rows),
            4, 2
        );
    }
}

/// Columns `columns` of row `row` as f32, the same bits as [`WeightRows::dequantise_row`].
#[inline(always)]
fn dequantise<D: DotProduct>(
    matrix: &WeightRows,
    row: usize,
    columns: Range<usize>,
    out: &mut [f32],
) {
    let start = row * matrix.cols + columns.start;
    let mut scales = [0.0; CHUNK];
    let mut mins = [0.0; CHUNK];
    let blocks = columns.start / BLOCK..columns.end / BLOCK;
    let scales = &mut scales[..blocks.len()];
    let mins = &mut mins[..blocks.len()];
    if matrix.encoding.has_scale() {
        D::widen(halves(&matrix.scale, matrix, row, &blocks), scales);
    }
    match matrix.encoding {
        Encoding::F32 => {
            let (values, _) = matrix.data[start * 4..].as_chunks::<4>();
            for (out, bytes) in out.iter_mut().zip(values) {
                *out = f32::from_le_bytes(*bytes);
            }
        }
        Encoding::F16 => D::widen(&matrix.data[start * 2..].as_chunks().0[..out.len()], out),
        Encoding::Bf16 => {
            let (values, _) = matrix.data[start * 2..].as_chunks::<2>();
            for (out, bytes) in out.iter_mut().zip(values) {
                *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        Encoding::Q8_0 => {
            let (values, _) = matrix.data[start..].as_chunks::<BLOCK>();
            let (out, _) = out.as_chunks_mut::<BLOCK>();
            for ((out, bytes), scale) in out.iter_mut().zip(values).zip(scales) {
                for (out, byte) in out.iter_mut().zip(bytes) {
                    *out = *scale * f32::from(*byte as i8);
                }
            }
        }
        Encoding::Q4_0 | Encoding::Q4_1 => {
            match matrix.encoding {
                Encoding::Q4_1 => D::widen(halves(&matrix.min, matrix, row, &blocks), mins),
                _ => mins
                    .iter_mut()
                    .zip(&*scales)
                    .for_each(|(min, scale)| *min = -8.0 * scale),
            }
            let (values, _) = matrix.data[start / 2..].as_chunks::<{ BLOCK / 2 }>();
            let (out, _) = out.as_chunks_mut::<BLOCK>();
            for (((out, bytes), scale), min) in out.iter_mut().zip(values).zip(scales).zip(mins) {
                for (i, byte) in bytes.iter().enumerate() {
                    out[i] = *scale * f32::from(byte & 15) + *min;
                    out[i + BLOCK / 2] = *scale * f32::from(byte >> 4) + *min;
                }
            }
        }
    }
}
