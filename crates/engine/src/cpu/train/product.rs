//! Products of f32 matrices in host memory: sums that fill the registers while the depth passes.

use super::super::dot::DotProduct;
use super::super::dot::vector::Vector;

/// A matrix `[rows, depth]` whose element `(i, k)` lies at `i · row + k · column`.
#[derive(Clone, Copy, Debug)]
pub struct Strided<'a> {
    pub values: &'a [f32],
    pub row: usize,
    pub column: usize,
}

/// Rows that begin `stride` numbers apart.
#[derive(Debug)]
pub struct Rows<T> {
    pub values: T,
    pub stride: usize,
}

/// How large a product is: `[rows, depth] · [depth, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    pub rows: usize,
    pub depth: usize,
    pub width: usize,
}

/// `sum += a · b`
#[inline(always)]
pub fn add_product<D: DotProduct>(
    a: Strided<'_>,
    b: &Rows<&[f32]>,
    sum: &mut Rows<&mut [f32]>,
    extent: Extent,
) {
    let Extent { rows, depth, width } = extent;
    if rows == 0 || depth == 0 || width == 0 {
        return;
    }
    // What the pointers below reach.
    assert!((rows - 1) * a.row + (depth - 1) * a.column < a.values.len());
    assert!((depth - 1) * b.stride + width <= b.values.len());
    assert!((rows - 1) * sum.stride + width <= sum.values.len());
    let lanes = D::Vector::LANES;
    let mut column = 0;
    // SAFETY: all columns from `column` on that a tile has are below `width`.
    unsafe {
        while column + 2 * lanes <= width {
            all_rows::<D, 2>(a, b, sum, extent, column);
            column += 2 * lanes;
        }
        if column + lanes <= width {
            all_rows::<D, 1>(a, b, sum, extent, column);
            column += lanes;
        }
    }
    if column < width {
        for row in 0..rows {
            let sum = &mut sum.values[row * sum.stride..][column..width];
            for k in 0..depth {
                let x = a.values[row * a.row + k * a.column];
                let b = &b.values[k * b.stride..][column..width];
                sum.iter_mut().zip(b).for_each(|(sum, b)| *sum += x * b);
            }
        }
    }
}

/// Of `C` registers of columns from `column` on.
#[inline(always)]
unsafe fn all_rows<D: DotProduct, const C: usize>(
    a: Strided<'_>,
    b: &Rows<&[f32]>,
    sum: &mut Rows<&mut [f32]>,
    extent: Extent,
    column: usize,
) {
    let Extent { rows, depth, .. } = extent;
    let mut row = 0;
    unsafe {
        let b = (b.values.as_ptr().add(column), b.stride);
        let of = |row: usize| a.values.as_ptr().add(row * a.row);
        let (start, stride) = (sum.values.as_mut_ptr().add(column), sum.stride);
        while D::Vector::ROWS == 12 && row + 12 <= rows {
            let to = (start.add(row * stride), stride);
            tile::<D::Vector, 12, C>(of(row), (a.row, a.column), b, to, depth);
            row += 12;
        }
        while row + 6 <= rows {
            let to = (start.add(row * stride), stride);
            tile::<D::Vector, 6, C>(of(row), (a.row, a.column), b, to, depth);
            row += 6;
        }
        while row + 3 <= rows {
            let to = (start.add(row * stride), stride);
            tile::<D::Vector, 3, C>(of(row), (a.row, a.column), b, to, depth);
            row += 3;
        }
        while row < rows {
            let to = (start.add(row * stride), stride);
            tile::<D::Vector, 1, C>(of(row), (a.row, a.column), b, to, depth);
            row += 1;
        }
    }
}

/// `T` rows of `C` registers.
#[inline(always)]
unsafe fn tile<V: Vector, const T: usize, const C: usize>(
    a: *const f32,
    (row, column): (usize, usize),
    (mut b, b_stride): (*const f32, usize),
    (to, to_stride): (*mut f32, usize),
    depth: usize,
) {
    unsafe {
        let mut sums = [[V::splat(0.0); C]; T];
        let mut rows = [a; T];
        for (i, (sums, start)) in sums.iter_mut().zip(&mut rows).enumerate() {
            *start = a.wrapping_add(i * row);
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(to.add(i * to_stride + j * V::LANES));
            }
        }
        for _ in 0..depth {
            let mut values = [V::splat(0.0); C];
            for (j, value) in values.iter_mut().enumerate() {
                *value = V::load(b.wrapping_add(j * V::LANES));
            }
            for (sums, row) in sums.iter_mut().zip(&mut rows) {
                let x = V::splat(**row);
                for (sum, value) in sums.iter_mut().zip(values) {
                    *sum = value.multiply_add(x, *sum);
                }
                *row = row.wrapping_add(column);
            }
            b = b.wrapping_add(b_stride);
        }
        for (i, sums) in sums.iter().enumerate() {
            for (j, sum) in sums.iter().enumerate() {
                sum.store(to.add(i * to_stride + j * V::LANES));
            }
        }
    }
}

/// `a · bᵀ`: `a` is `[m, depth]`, `b` `[n, depth]`, `out` `[m, n]`.
#[inline(always)]
pub fn product_with_transposed<D: DotProduct>(a: &[f32], b: &[f32], depth: usize, out: &mut [f32]) {
    match D::Vector::ROWS {
        12 => inner_products::<D, 6, 4>(a, b, depth, out),
        _ => inner_products::<D, 3, 2>(a, b, depth, out),
    }
}

/// `R` rows of `a` and `N` of `b` at a time.
#[inline(always)]
fn inner_products<D: DotProduct, const R: usize, const N: usize>(
    a: &[f32],
    b: &[f32],
    depth: usize,
    out: &mut [f32],
) {
    let width = b.len() / depth;
    for (a, out) in a.chunks(R * depth).zip(out.chunks_mut(R * width)) {
        if a.len() == R * depth {
            let mut rows = [a; R];
            for (i, row) in rows.iter_mut().enumerate() {
                *row = &a[i * depth..][..depth];
            }
            group::<D, R, N>(rows, b, out, width);
        } else {
            for (a, out) in a.chunks(depth).zip(out.chunks_mut(width)) {
                group::<D, 1, N>([a], b, out, width);
            }
        }
    }
}

#[inline(always)]
fn group<D: DotProduct, const R: usize, const N: usize>(
    a: [&[f32]; R],
    b: &[f32],
    out: &mut [f32],
    width: usize,
) {
    let depth = a[0].len();
    let mut at = 0;
    while at + N <= width {
        let mut rows = [b; N];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = &b[(at + i) * depth..][..depth];
        }
        for (out, sums) in out.chunks_exact_mut(width).zip(D::f32(a, rows)) {
            out[at..at + N].copy_from_slice(&sums);
        }
        at += N;
    }
    for at in at..width {
        for (out, [sum]) in out
            .chunks_exact_mut(width)
            .zip(D::f32(a, [&b[at * depth..][..depth]]))
        {
            out[at] = sum;
        }
    }
}
