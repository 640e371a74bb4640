//! The result of a matrix has a row for each of its own; the input of the next has a row for each token.

use super::dot::DotProduct;

/// Columns that are exchanged with rows together.
pub const TOGETHER: usize = 8;

/// Columns `first..` of `from` (`[w, n]`) into the rows of `to` (`[k, w]`), or added to what is there.
#[inline(always)]
pub fn transpose<D: DotProduct>(from: &[f32], n: usize, first: usize, to: &mut [f32], add: bool) {
    let width = from.len() / n;
    let put = |to: &mut f32, x: f32| *to = if add { *to + x } else { x };
    for (index, to) in to.chunks_mut(TOGETHER * width).enumerate() {
        let column = first + TOGETHER * index;
        let mut at = 0;
        if to.len() == TOGETHER * width {
            while at + TOGETHER <= width {
                let mut square = [[0.0; TOGETHER]; TOGETHER];
                for (i, row) in square.iter_mut().enumerate() {
                    row.copy_from_slice(&from[(at + i) * n + column..][..TOGETHER]);
                }
                let square = D::transposed(square);
                for (row, to) in square.iter().zip(to.chunks_exact_mut(width)) {
                    for (to, x) in to[at..at + TOGETHER].iter_mut().zip(row) {
                        put(to, *x);
                    }
                }
                at += TOGETHER;
            }
        }
        for (row, from) in (at..width).zip(from[at * n..].chunks_exact(n)) {
            for (to, x) in to.chunks_exact_mut(width).zip(&from[column..]) {
                put(&mut to[row], *x);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernels::Kernels;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_become_columns(n in 1_usize..35, width in 1_usize..30, first in 0_usize..4, add: bool) {
            let from: Vec<f32> = (0..n * width).map(|i| i as f32).collect();
            let first = (first * 8).min(n - 1);
            for kernels in Kernels::available() {
                let mut to = vec![0.5; (n - first) * width];
                kernels.transpose(&from, n, first, &mut to, add);
                for (index, x) in to.iter().enumerate() {
                    let want = from[index % width * n + first + index / width];
                    prop_assert_eq!(*x, if add { want + 0.5 } else { want });
                }
            }
        }
    }
}
