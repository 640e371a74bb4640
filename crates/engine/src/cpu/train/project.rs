//! The backward of a projection, `dx += dy · W`, from weights as they are stored: some columns of a few rows of weights are
//! unpacked, and stay in the nearest cache while all rows of `dy` pass.

use super::super::dot::{BLOCK, DotProduct};
use super::super::project::{CHUNK, dequantise};
use super::product::{Extent, Rows, Strided, add_product};
use std::ops::Range;
use trimtab_checkpoint::WeightRows;

/// Rows of weights that are unpacked together.
const DEPTH: usize = 32;
/// Most columns of one call.
pub const WIDTH: usize = 320;

#[repr(align(64))]
struct Panel([[f32; WIDTH]; DEPTH]);

/// Columns `columns` (whole blocks, at most [`WIDTH`] of them) of the sum of all products: `out` becomes `[n, columns]`.
#[inline(always)]
pub fn backward<D: DotProduct>(
    by: &[(&WeightRows, &[f32])],
    columns: Range<usize>,
    out: &mut [f32],
) {
    out.fill(0.0);
    let width = columns.len();
    let count = out.len() / width;
    let mut panel = Panel([[0.0; WIDTH]; DEPTH]);
    let mut integers = [[0; BLOCK]; CHUNK];
    for (matrix, dy) in by {
        for start in (0..matrix.rows).step_by(DEPTH) {
            let depth = DEPTH.min(matrix.rows - start);
            for (row, weights) in panel.0.iter_mut().take(depth).enumerate() {
                let weights = &mut weights[..width];
                dequantise::<D>(matrix, start + row, columns.clone(), &mut integers, weights);
            }
            let a = Strided {
                values: &dy[start..],
                row: matrix.rows,
                column: 1,
            };
            let b = Rows {
                values: panel.0.as_flattened(),
                stride: WIDTH,
            };
            let mut sum = Rows {
                values: &mut *out,
                stride: width,
            };
            let extent = Extent {
                rows: count,
                depth,
                width,
            };
            add_product::<D>(a, &b, &mut sum, extent);
        }
    }
}
