//! A weight matrix times a batch of activations, a range of the matrix's rows at a time.

use super::activations::{Inputs, Quantised, groups};
use super::dot::{BLOCK, DotProduct, SUMS, Weights4};
use std::ops::Range;
use trimtab_checkpoint::{Encoding, WeightRows};

/// Blocks of one row that are worked on together: their scales fit the stack.
pub const CHUNK: usize = 64;
/// Products that are computed before the next rows of weights are taken up.
const PRODUCTS: usize = 4096;

/// `x · Wᵀ` for rows `rows` of `matrix`: `out` is `[rows, n]`, `n` the rows of `inputs`.
#[inline(always)]
pub fn project<D: DotProduct>(
    matrix: &WeightRows,
    rows: Range<usize>,
    inputs: &Inputs<'_>,
    out: &mut [f32],
) {
    match (inputs.quantised, matrix.encoding.block()) {
        (Some(quantised), Some(_)) => {
            let count = inputs.rows();
            // So many that what comes out for all groups stays in the nearest cache.
            let panel = (PRODUCTS / count).max(1);
            for (start, out) in rows
                .clone()
                .step_by(panel)
                .zip(out.chunks_mut(panel * count))
            {
                let rows = start..rows.end.min(start + panel);
                for (at, width) in groups(count) {
                    let group = Group {
                        quantised,
                        at,
                        count,
                    };
                    match width {
                        1 => integers::<D, 1>(matrix, &rows, &group, out),
                        2 => integers::<D, 2>(matrix, &rows, &group, out),
                        4 => integers::<D, 4>(matrix, &rows, &group, out),
                        _ => integers::<D, 8>(matrix, &rows, &group, out),
                    }
                }
            }
        }
        _ => D::project_f32(matrix, rows, inputs, out),
    }
}

/// The blocks of `matrix`'s rows, `CHUNK` at a time.
pub fn chunks(matrix: &WeightRows) -> impl Iterator<Item = Range<usize>> {
    let blocks = matrix.cols / BLOCK;
    (0..blocks)
        .step_by(CHUNK)
        .map(move |start| start..blocks.min(start + CHUNK))
}

/// The halves of `blocks` in row `row` of a matrix's scales or minima, `each` of them a block.
#[inline(always)]
fn halves<'a>(
    part: &'a [u8],
    matrix: &WeightRows,
    row: usize,
    blocks: &Range<usize>,
    each: usize,
) -> &'a [[u8; 2]] {
    let at = row * (matrix.cols / BLOCK);
    &part.as_chunks::<2>().0[(at + blocks.start) * each..(at + blocks.end) * each]
}

/// A group of rows (see [`groups`]) from row `at` on, out of `count`.
struct Group<'a> {
    quantised: &'a Quantised,
    at: usize,
    count: usize,
}

/// Scales, shifts and unpacked weights of the blocks of a row of weights; room for [`CHUNK`].
struct BlockNumbers {
    scales: [f32; 2 * CHUNK],
    mins: [[f32; SUMS]; CHUNK / SUMS],
    integers: [[i8; BLOCK]; CHUNK],
}

/// The products with the integers of the `N` rows of `group`, which stay in the processor's nearest cache while the
/// weights pass.
#[inline(always)]
fn integers<D: DotProduct, const N: usize>(
    matrix: &WeightRows,
    rows: &Range<usize>,
    group: &Group<'_>,
    out: &mut [f32],
) {
    let mut numbers = BlockNumbers {
        scales: [0.0; 2 * CHUNK],
        mins: [[0.0; SUMS]; CHUNK / SUMS],
        integers: [[0; BLOCK]; CHUNK],
    };
    // Loops, not closures: a closure would be compiled without the caller's instructions.
    for (row, out) in rows.clone().zip(out.chunks_exact_mut(group.count)) {
        let sums = match matrix.encoding {
            Encoding::Q4_0 | Encoding::Q4_1 => row_q4::<D, N>(matrix, row, group, &mut numbers),
            encoding if encoding.scales(BLOCK) == 1 => {
                row_q8::<D, 1, N>(matrix, row, group, &mut numbers)
            }
            _ => row_q8::<D, 2, N>(matrix, row, group, &mut numbers),
        };
        out[group.at..][..N].copy_from_slice(&sums);
    }
}

#[inline(always)]
fn row_q4<D: DotProduct, const N: usize>(
    matrix: &WeightRows,
    row: usize,
    group: &Group<'_>,
    numbers: &mut BlockNumbers,
) -> [f32; N] {
    let width = matrix.cols / BLOCK;
    let (nibbles, _) = matrix.data.as_chunks::<{ BLOCK / 2 }>();
    let mut sums = [0.0; N];
    for blocks in chunks(matrix) {
        let BlockNumbers { scales, mins, .. } = &mut *numbers;
        let scales = &mut scales[..blocks.len()];
        // Sums are padded with zeros, and so must these be.
        if let Some(last) = mins.get_mut(blocks.len() / SUMS) {
            *last = [0.0; SUMS];
        }
        let flat = &mut mins.as_flattened_mut()[..blocks.len()];
        scales_and_mins::<D>(matrix, row, &blocks, scales, flat);
        let weights = Weights4 {
            nibbles: &nibbles[row * width..][blocks.clone()],
            scales,
            mins: &mins[..blocks.len().div_ceil(SUMS)],
        };
        let inputs = group.quantised.rows8::<D, N>(group.at, &blocks);
        for (sum, part) in sums.iter_mut().zip(D::q4(weights, inputs)) {
            *sum += part;
        }
    }
    sums
}

/// Of weights that are signed bytes, or are made such; `S` scales a block.
#[inline(always)]
fn row_q8<D: DotProduct, const S: usize, const N: usize>(
    matrix: &WeightRows,
    row: usize,
    group: &Group<'_>,
    numbers: &mut BlockNumbers,
) -> [f32; N] {
    let mut sums = [0.0; N];
    for blocks in chunks(matrix) {
        let BlockNumbers {
            scales,
            mins,
            integers,
        } = &mut *numbers;
        let scales = &mut scales[..S * blocks.len()];
        let mins = &mut mins.as_flattened_mut()[..blocks.len()];
        scales_and_mins::<D>(matrix, row, &blocks, scales, mins);
        let weights = signed_bytes::<D>(matrix, row, &blocks, integers);
        let inputs = group.quantised.rows16::<N>(group.at, &blocks);
        let products = D::q8::<S, N>(weights, scales.as_chunks().0, inputs);
        for (i, (sum, part)) in sums.iter_mut().zip(products).enumerate() {
            *sum += part;
            if matrix.encoding.has_min() {
                let of_input = group.quantised.sums16(group.at + i, &blocks);
                let [[shift]] = D::f32([mins], [of_input]);
                *sum += shift;
            }
        }
    }
    sums
}

/// The signed numbers of `blocks` in row `row`: where they lie, or unpacked to `integers`.
#[inline(always)]
fn signed_bytes<'a, D: DotProduct>(
    matrix: &'a WeightRows,
    row: usize,
    blocks: &Range<usize>,
    integers: &'a mut [[i8; BLOCK]],
) -> &'a [[i8; BLOCK]] {
    let form = matrix.encoding.block().expect("blocks of integers");
    let at = row * (matrix.cols / BLOCK);
    let bytes = (at + blocks.start) * form.bytes()..(at + blocks.end) * form.bytes();
    let bytes = &matrix.data[bytes];
    if form.bits == 8 {
        return bytemuck::cast_slice::<u8, i8>(bytes).as_chunks().0;
    }
    let integers = &mut integers[..blocks.len()];
    D::integers(form, bytes, integers);
    integers
}

/// Rows of weights as f32, from a cache line on.
#[repr(align(64))]
struct Unpacked<const R: usize>([[f32; CHUNK * BLOCK]; R]);

/// Adds the products with f32 activations, `R` rows of weights times `N` of activations at a time.
#[inline(always)]
pub fn floats<D: DotProduct, const R: usize, const N: usize>(
    matrix: &WeightRows,
    rows: Range<usize>,
    inputs: &Inputs<'_>,
    out: &mut [f32],
) {
    out.fill(0.0);
    let count = inputs.rows();
    let mut weights = Unpacked([[0.0; CHUNK * BLOCK]; R]);
    let weights = &mut weights.0;
    let mut integers = [[0; BLOCK]; CHUNK];
    for start in (0..matrix.cols).step_by(CHUNK * BLOCK) {
        let columns = start..matrix.cols.min(start + CHUNK * BLOCK);
        let mut row = rows.start;
        for out in out.chunks_mut(R * count) {
            let here = out.len() / count;
            for (i, weights) in weights.iter_mut().take(here).enumerate() {
                dequantise::<D>(
                    matrix,
                    row + i,
                    columns.clone(),
                    &mut integers,
                    &mut weights[..columns.len()],
                );
            }
            if here == R {
                let mut unpacked = [&weights[0][..columns.len()]; R];
                for (unpacked, weights) in unpacked.iter_mut().zip(&*weights) {
                    *unpacked = &weights[..columns.len()];
                }
                let at = tiles::<D, R, N>(unpacked, inputs, &columns, 0, out);
                tiles::<D, R, 1>(unpacked, inputs, &columns, at, out);
            } else {
                for (out, weights) in out.chunks_mut(count).zip(&*weights) {
                    let unpacked = [&weights[..columns.len()]];
                    let at = tiles::<D, 1, N>(unpacked, inputs, &columns, 0, out);
                    tiles::<D, 1, 1>(unpacked, inputs, &columns, at, out);
                }
            }
            row += here;
        }
    }
}

/// Adds the products of `R` rows of weights with `N` rows of activations at a time to `out` (`[R, n]`), from row `at` on
/// and as long as there are so many; returns the first row that is left.
#[inline(always)]
fn tiles<D: DotProduct, const R: usize, const N: usize>(
    weights: [&[f32]; R],
    inputs: &Inputs<'_>,
    columns: &Range<usize>,
    mut at: usize,
    out: &mut [f32],
) -> usize {
    let count = inputs.rows();
    while at + N <= count {
        let mut rows = [&inputs.values[at * inputs.cols..][columns.clone()]; N];
        for (i, row) in rows.iter_mut().enumerate().skip(1) {
            *row = &inputs.values[(at + i) * inputs.cols..][columns.clone()];
        }
        for (out, sums) in out.chunks_exact_mut(count).zip(D::f32(weights, rows)) {
            for (out, sum) in out[at..].iter_mut().zip(sums) {
                *out += sum;
            }
        }
        at += N;
    }
    at
}

/// Columns `columns` of row `row` as f32, the same bits as [`WeightRows::dequantise_row`]; `integers` is for its use.
#[inline(always)]
pub fn dequantise<D: DotProduct>(
    matrix: &WeightRows,
    row: usize,
    columns: Range<usize>,
    integers: &mut [[i8; BLOCK]; CHUNK],
    out: &mut [f32],
) {
    let start = row * matrix.cols + columns.start;
    let mut scales = [0.0; 2 * CHUNK];
    let mut mins = [0.0; CHUNK];
    let blocks = columns.start / BLOCK..columns.end / BLOCK;
    let scales = &mut scales[..matrix.encoding.scales(columns.len())];
    let mins = &mut mins[..blocks.len()];
    scales_and_mins::<D>(matrix, row, &blocks, scales, mins);
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
        Encoding::Q4_0 | Encoding::Q4_1 => {
            let (bytes, _) = matrix.data[start / 2..].as_chunks();
            D::unpack4(bytes, scales, mins, out.as_chunks_mut().0);
        }
        encoding => {
            let bytes = signed_bytes::<D>(matrix, row, &blocks, integers);
            let (out, _) = out.as_chunks_mut();
            match encoding.scales(BLOCK) {
                1 => D::unpack8::<1>(bytes, scales.as_chunks().0, out),
                _ => D::unpack8::<2>(bytes, scales.as_chunks().0, out),
            }
            if encoding.has_min() {
                for (out, min) in out.iter_mut().zip(mins) {
                    for out in out {
                        *out += *min;
                    }
                }
            }
        }
    }
}

/// Scales of the weights of `blocks` in row `row`, and what is added to their products, each where the encoding has it.
#[inline(always)]
pub fn scales_and_mins<D: DotProduct>(
    matrix: &WeightRows,
    row: usize,
    blocks: &Range<usize>,
    scales: &mut [f32],
    mins: &mut [f32],
) {
    let each = matrix.encoding.scales(BLOCK);
    if each > 0 {
        D::widen(halves(&matrix.scale, matrix, row, blocks, each), scales);
    }
    if matrix.encoding.has_min() {
        D::widen(halves(&matrix.min, matrix, row, blocks, 1), mins);
    } else if matrix.encoding == Encoding::Q4_0 {
        for (min, scale) in mins.iter_mut().zip(&*scales) {
            *min = -8.0 * scale;
        }
    }
}
