//! Weight matrices as stored, multiplied row by dequantised row.

use trimtab_checkpoint::WeightRows;

/// Weight rows that one task computes.
const ROWS_A_TASK: usize = 32;

/// `x · Wᵀ`: `x` is `[n, cols]`, the result `[n, rows]`.
pub fn project(matrix: &WeightRows, x: &[f32]) -> Vec<f32> {
    let (rows, cols) = (matrix.rows, matrix.cols);
    let count = x.len() / cols;
    // [rows, n], so that tasks own contiguous parts.
    let mut by_row = vec![0.0; rows * count];
    let task = |(index, out): (usize, &mut [f32])| {
        let mut weights = vec![0.0; cols];
        for (offset, out) in out.chunks_mut(count).enumerate() {
            matrix.dequantise_row(index * ROWS_A_TASK + offset, &mut weights);
            for (out, x) in out.iter_mut().zip(x.chunks(cols)) {
                *out = dot(&weights, x);
            }
        }
    };
    if count == 0 {
        return by_row;
    }
    #[cfg(not(target_family = "wasm"))]
    {
        use rayon::prelude::*;
        by_row
            .par_chunks_mut(ROWS_A_TASK * count)
            .enumerate()
            .for_each(task);
    }
    #[cfg(target_family = "wasm")]
    by_row
        .chunks_mut(ROWS_A_TASK * count)
        .enumerate()
        .for_each(task);
    if count == 1 {
        return by_row;
    }
    let mut out = vec![0.0; by_row.len()];
    for (row, values) in by_row.chunks(count).enumerate() {
        for (index, value) in values.iter().enumerate() {
            out[index * rows + row] = *value;
        }
    }
    out
}

/// The inner product, in sixteen partial sums that the compiler keeps in vector registers.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<16>();
    let (b_chunks, b_rest) = b.as_chunks::<16>();
    let mut sums = [0.0_f32; 16];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
