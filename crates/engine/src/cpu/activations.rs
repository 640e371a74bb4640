//! Activations on their way into weight matrices: as f32, and as the integers of [`super::dot`].

use super::aligned::Aligned;
#[cfg(not(target_arch = "wasm32"))]
use super::dot::portable::arrange;
#[cfg(target_arch = "wasm32")]
use super::dot::wasm::arrange;
use super::dot::{BLOCK, Block8, DotProduct, GROUPS, Rows8, Rows16, SUMS};
use std::ops::Range;

/// Rows that one pass over the integers of the weights multiplies, at most: their sums fill the registers. Wasm's lanes
/// are half as wide as the narrowest others, and need twice as many.
const MOST_ROWS: usize = if cfg!(target_arch = "wasm32") { 4 } else { 8 };

/// How `count` rows go through weight matrices together: the first row and the number of rows of each group, as large
/// as can be.
pub fn groups(count: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = MOST_ROWS.min(count - at);
        let width = left.checked_ilog2().map(|log| 1 << log)?;
        at += width;
        Some((at - width, width))
    })
}

/// Integers of a batch of rows, reused from one projection to the next. Rows of a group (see [`groups`]) lie side by
/// side, block by block.
#[derive(Debug, Default)]
pub struct Quantised {
    /// Blocks of one row.
    blocks: usize,
    /// Blocks of one row where blocks of 8-bit integers are paired: with one of zeros if their number is odd.
    blocks8: usize,
    /// `[rows, blocks8]`, as the following one.
    values8: Aligned<Block8>,
    scales8: Aligned<[f32; GROUPS]>,
    /// `[rows, blocks / SUMS]`, rounded up.
    sums8: Aligned<[f32; SUMS]>,
    /// `[rows, blocks]`, as the following one.
    values16: Aligned<[i16; BLOCK]>,
    scales16: Vec<f32>,
    /// Sums of the quantised activations of each block, `[rows, blocks]`, rows one after another.
    sums16: Vec<f32>,
}

/// A batch of rows that enters weight matrices.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// `[rows, cols]`
    pub values: &'a [f32],
    pub cols: usize,
    /// The same as integers; `None` where activations stay exact.
    pub quantised: Option<&'a Quantised>,
}

impl Inputs<'_> {
    pub fn rows(&self) -> usize {
        self.values.len() / self.cols
    }
}

impl Quantised {
    /// Room for `rows` rows of up to `cols`, so that nothing is allocated later.
    pub fn with_capacity(rows: usize, cols: usize) -> Self {
        let blocks = rows * (cols / BLOCK);
        let blocks8 = rows * (cols / BLOCK).next_multiple_of(2);
        Self {
            blocks: 0,
            blocks8: 0,
            values8: Aligned::with_capacity(blocks8),
            scales8: Aligned::with_capacity(blocks8),
            sums8: Aligned::with_capacity(rows * (cols / BLOCK).div_ceil(SUMS)),
            values16: Aligned::with_capacity(blocks),
            scales16: Vec::with_capacity(blocks),
            sums16: Vec::with_capacity(blocks),
        }
    }

    /// Blocks `blocks`, the first of which has an even number, of the group of `N` rows from `at` on.
    #[inline(always)]
    pub fn rows8<D: DotProduct, const N: usize>(
        &self,
        at: usize,
        blocks: &Range<usize>,
    ) -> Rows8<'_, N> {
        let padded = blocks.start..match D::PAIRS {
            true => blocks.end.next_multiple_of(2),
            false => blocks.end,
        };
        let sums = blocks.start / SUMS..blocks.end.div_ceil(SUMS);
        let start = at * self.blocks8;
        Rows8 {
            values: &self.values8[start..].as_chunks().0[padded.clone()],
            scales: &self.scales8[start..].as_chunks().0[padded],
            sums: &self.sums8[at * self.blocks.div_ceil(SUMS)..].as_chunks().0[sums],
        }
    }

    /// Blocks `blocks` of the group of `N` rows from `at` on.
    #[inline(always)]
    pub fn rows16<const N: usize>(&self, at: usize, blocks: &Range<usize>) -> Rows16<'_, N> {
        let start = at * self.blocks;
        Rows16 {
            values: &self.values16[start..].as_chunks().0[blocks.clone()],
            scales: &self.scales16[start..].as_chunks().0[blocks.clone()],
        }
    }

    /// The sums of blocks `blocks` of row `row` of 16-bit integers.
    #[inline(always)]
    pub fn sums16(&self, row: usize, blocks: &Range<usize>) -> &[f32] {
        &self.sums16[row * self.blocks..][blocks.clone()]
    }

    /// Quantises `x` (`[rows, cols]`) to 8 bits, to 16, or both, as [`super::dot::wide`] says of the weights.
    #[inline(always)]
    pub fn fill<D: DotProduct>(&mut self, x: &[f32], cols: usize, eight: bool, sixteen: bool) {
        let rows = x.len() / cols;
        self.blocks = cols / BLOCK;
        self.blocks8 = match D::PAIRS {
            true => self.blocks.next_multiple_of(2),
            false => self.blocks,
        };
        let rows8 = if eight { rows } else { 0 };
        self.values8.resize(rows8 * self.blocks8);
        self.scales8.resize(rows8 * self.blocks8);
        self.sums8.resize(rows8 * self.blocks.div_ceil(SUMS));
        let rows16 = if sixteen { rows } else { 0 };
        self.values16.resize(rows16 * self.blocks);
        self.scales16.resize(rows16 * self.blocks, 0.0);
        self.sums16.resize(rows16 * self.blocks, 0.0);
        for (at, width) in groups(rows) {
            for i in 0..width {
                let row = &x[(at + i) * cols..][..cols];
                if eight {
                    self.fill8::<D>(row, at, i, width);
                }
                if sixteen {
                    let start = at * self.blocks + i;
                    for (block, x) in row.as_chunks::<BLOCK>().0.iter().enumerate() {
                        let (values, scale, sum) = quantise16(x);
                        self.values16[start + block * width] = values;
                        self.scales16[start + block * width] = scale;
                        self.sums16[(at + i) * self.blocks + block] = sum;
                    }
                }
            }
        }
    }

    /// Quantises `row`, the `i`th of the group of `width` rows from `at` on, to 8 bits.
    #[inline(always)]
    fn fill8<D: DotProduct>(&mut self, row: &[f32], at: usize, i: usize, width: usize) {
        let start = at * self.blocks8;
        let place = |block: usize| match D::PAIRS {
            true => start + (block / 2 * width + i) * 2 + block % 2,
            false => start + block * width + i,
        };
        let (blocks, _) = row.as_chunks::<BLOCK>();
        for (index, part) in blocks.chunks(SUMS).enumerate() {
            let mut sums = [0.0; SUMS];
            for (within, (block, sum)) in part.iter().zip(&mut sums).enumerate() {
                let (values, scales, total) = quantise8(block);
                let place = place(index * SUMS + within);
                self.values8[place] = arrange(values);
                self.scales8[place] = scales;
                *sum = total;
            }
            self.sums8[at * self.blocks.div_ceil(SUMS) + index * width + i] = sums;
        }
        if D::PAIRS {
            if self.blocks8 > self.blocks {
                self.values8[place(self.blocks)] = [0; BLOCK];
                self.scales8[place(self.blocks)] = [0.0; GROUPS];
            }
            for block in (0..self.blocks8).step_by(2) {
                let [a, b] = &mut self.values8[place(block)..].as_chunks_mut().0[0];
                a[BLOCK / 2..].swap_with_slice(&mut b[..BLOCK / 2]);
            }
        }
    }
}

/// Signed bytes, a scale a group (see [`super::dot`]), and what the quantised block adds up to.
#[inline(always)]
fn quantise8(block: &[f32; BLOCK]) -> ([i8; BLOCK], [f32; GROUPS], f32) {
    let mut values = [0; BLOCK];
    let mut scales = [0.0; GROUPS];
    let mut total = 0.0;
    for (group, scale) in scales.iter_mut().enumerate() {
        let places: [usize; 8] = std::array::from_fn(|i| 4 * group + i % 4 + (i / 4) * (BLOCK / 2));
        let largest = places
            .iter()
            .fold(0.0_f32, |most, &i| most.max(block[i].abs()));
        *scale = largest / 127.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut sum = 0;
        for i in places {
            let value = (block[i] * inverse).round_ties_even() as i32;
            values[i] = value as i8;
            sum += value;
        }
        total += *scale * sum as f32;
    }
    (values, scales, total)
}

/// 16-bit integers, their scale, and what the quantised block adds up to.
#[inline(always)]
fn quantise16(block: &[f32; BLOCK]) -> ([i16; BLOCK], f32, f32) {
    let largest = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let inverse = if largest > 0.0 {
        32_767.0 / largest
    } else {
        0.0
    };
    let values = block.map(|x| (x * inverse).round_ties_even() as i32 as i16);
    let scale = largest / 32_767.0;
    let sum: i32 = values.iter().map(|value| i32::from(*value)).sum();
    (values, scale, scale * sum as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn integers_stand_for_the_activations(block in prop::array::uniform32(-1e4_f32..1e4)) {
            let (values, scales, total) = quantise8(&block);
            let mut sum = 0.0;
            for (i, (value, x)) in values.iter().zip(block).enumerate() {
                let scale = scales[i % 16 / 4];
                prop_assert!((f32::from(*value) * scale - x).abs() <= scale * 0.5001);
                sum += f32::from(*value) * scale;
            }
            prop_assert!((sum - total).abs() < 0.1);
            let (values, scale, total) = quantise16(&block);
            let mut sum = 0.0;
            for (value, x) in values.iter().zip(block) {
                prop_assert!((f32::from(*value) * scale - x).abs() <= scale * 0.51);
                sum += f32::from(*value) * scale;
            }
            prop_assert!((sum - total).abs() < 0.1);
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(quantise8(&[0.0; BLOCK]), ([0; BLOCK], [0.0; GROUPS], 0.0));
        assert_eq!(quantise16(&[0.0; BLOCK]), ([0; BLOCK], 0.0, 0.0));
    }
}
