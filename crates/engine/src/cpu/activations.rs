//! Activations on their way into weight matrices: as f32, and as the integers of [`super::dot`].

#[cfg(not(target_arch = "wasm32"))]
use super::dot::portable::arrange;
#[cfg(target_arch = "wasm32")]
use super::dot::wasm::arrange;
use super::dot::{BLOCK, Block8, GROUPS, Row8, Row16, SUMS};
use std::ops::Range;

/// Integers of a batch of rows, reused from one projection to the next.
#[derive(Debug, Default)]
pub struct Quantised {
    /// Of one row.
    blocks: usize,
    /// `[rows, blocks]`, as the following two.
    values8: Vec<Block8>,
    scales8: Vec<[f32; GROUPS]>,
    /// `[rows, blocks / SUMS]`, rounded up.
    sums8: Vec<[f32; SUMS]>,
    /// `[rows, blocks]`, as the following one.
    values16: Vec<[i16; BLOCK]>,
    scales16: Vec<f32>,
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
        let blocks = rows * cols / BLOCK;
        Self {
            blocks: 0,
            values8: Vec::with_capacity(blocks),
            scales8: Vec::with_capacity(blocks),
            sums8: Vec::with_capacity(rows * (cols / BLOCK).div_ceil(SUMS)),
            values16: Vec::with_capacity(blocks),
            scales16: Vec::with_capacity(blocks),
        }
    }

    pub fn row8(&self, row: usize, blocks: Range<usize>) -> Row8<'_> {
        let at = row * self.blocks;
        let sums = row * self.blocks.div_ceil(SUMS);
        Row8 {
            values: &self.values8[at..][blocks.clone()],
            scales: &self.scales8[at..][blocks.clone()],
            sums: &self.sums8[sums..][blocks.start / SUMS..blocks.end.div_ceil(SUMS)],
        }
    }

    pub fn row16(&self, row: usize, blocks: Range<usize>) -> Row16<'_> {
        let at = row * self.blocks;
        Row16 {
            values: &self.values16[at..][blocks.clone()],
            scales: &self.scales16[at..][blocks],
        }
    }

    /// Quantises `x` (`[rows, cols]`) to 8 bits (for 4-bit weights), to 16 (for 8-bit weights), or both.
    #[inline(always)]
    pub fn fill(&mut self, x: &[f32], cols: usize, eight: bool, sixteen: bool) {
        self.blocks = cols / BLOCK;
        self.values8.clear();
        self.scales8.clear();
        self.sums8.clear();
        self.values16.clear();
        self.scales16.clear();
        for row in x.chunks_exact(cols) {
            let (blocks, _) = row.as_chunks::<BLOCK>();
            if eight {
                for part in blocks.chunks(SUMS) {
                    let mut sums = [0.0; SUMS];
                    for (block, sum) in part.iter().zip(&mut sums) {
                        let (values, scales, total) = quantise8(block);
                        self.values8.push(arrange(values));
                        self.scales8.push(scales);
                        *sum = total;
                    }
                    self.sums8.push(sums);
                }
            }
            if sixteen {
                for block in blocks {
                    let (values, scale) = quantise16(block);
                    self.values16.push(values);
                    self.scales16.push(scale);
                }
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

/// 16-bit integers and their scale.
#[inline(always)]
fn quantise16(block: &[f32; BLOCK]) -> ([i16; BLOCK], f32) {
    let largest = block.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let inverse = if largest > 0.0 {
        32_767.0 / largest
    } else {
        0.0
    };
    let values = block.map(|x| (x * inverse).round_ties_even() as i32 as i16);
    (values, largest / 32_767.0)
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
            let (values, scale) = quantise16(&block);
            for (value, x) in values.iter().zip(block) {
                prop_assert!((f32::from(*value) * scale - x).abs() <= scale * 0.51);
            }
        }
    }

    #[test]
    fn zeros_stay_zeros() {
        assert_eq!(quantise8(&[0.0; BLOCK]), ([0; BLOCK], [0.0; GROUPS], 0.0));
        assert_eq!(quantise16(&[0.0; BLOCK]), ([0; BLOCK], 0.0));
    }
}
