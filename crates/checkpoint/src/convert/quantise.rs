//! Quantising f32 rows to blocks of 32, as llama.cpp's reference quantisers do
//! (`quantize_row_q8_0_ref`, `quantize_row_q4_1_ref` in ggml-quants.c). Scales and minima are f16: [`Loss`] says where a
//! block's numbers are beyond them.

use crate::encoding::{BLOCK, Encoding};
use crate::weights::WeightRows;
use half::f16;

/// Numbers that the f16 scales of quantised blocks cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A scale or minimum is beyond f16.
    TooLarge,
    /// A block's scale is rounded to zero, and all its numbers with it.
    TooSmall,
}

impl Loss {
    /// The loss when `values` are quantised to `encoding`, `Q8_0` or `Q4_1`; none for ordinary rounding.
    pub fn of(values: &[f32], encoding: Encoding) -> Option<Self> {
        let mut loss = None;
        for block in values.as_chunks::<BLOCK>().0 {
            let (step, offset) = match encoding {
                Encoding::Q4_1 => q4_1_scale(block),
                _ => (q8_0_scale(block), 0.0),
            };
            let (kept, kept_offset) = (f16::from_f32(step), f16::from_f32(offset));
            if !kept.is_finite() || !kept_offset.is_finite() {
                return Some(Self::TooLarge);
            }
            // A range that is little beside the offset may go.
            if kept == f16::ZERO && step > offset.abs() / 4096.0 {
                loss = Some(Self::TooSmall);
            }
        }
        loss
    }
}

fn q8_0_scale(block: &[f32; BLOCK]) -> f32 {
    let largest = block
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    largest / 127.0
}

/// `(scale, minimum)`
fn q4_1_scale(block: &[f32; BLOCK]) -> (f32, f32) {
    let lowest = block.iter().copied().fold(f32::MAX, f32::min);
    let highest = block.iter().copied().fold(f32::MIN, f32::max);
    ((highest - lowest) / 15.0, lowest)
}

/// Quantises `values` (`[rows, cols]`, `cols` a multiple of 32) to `Q8_0`: per block
/// `scale = max|w|/127`, `q = round(w/scale)`, halves away from zero.
pub fn to_q8_0(values: &[f32], rows: usize, cols: usize) -> WeightRows {
    assert!(values.len() == rows * cols && cols.is_multiple_of(BLOCK));
    let mut data = Vec::with_capacity(values.len());
    let mut scale = Vec::with_capacity(values.len() / BLOCK * 2);
    for block in values.as_chunks::<BLOCK>().0 {
        let step = q8_0_scale(block);
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        scale.extend(f16::from_f32(step).to_le_bytes());
        data.extend(
            block
                .iter()
                .map(|value| (value * inverse).round() as i8 as u8),
        );
    }
    WeightRows {
        encoding: Encoding::Q8_0,
        rows,
        cols,
        data,
        scale,
        min: Vec::new(),
    }
}

/// Quantises `values` (`[rows, cols]`, `cols` a multiple of 32) to `Q4_1`: per block
/// `min = min w`, `scale = (max w − min)/15`, `q = ⌊(w − min)/scale + ½⌋`.
pub fn to_q4_1(values: &[f32], rows: usize, cols: usize) -> WeightRows {
    assert!(values.len() == rows * cols && cols.is_multiple_of(BLOCK));
    let mut data = Vec::with_capacity(values.len() / 2);
    let mut scale = Vec::with_capacity(values.len() / BLOCK * 2);
    let mut min = Vec::with_capacity(values.len() / BLOCK * 2);
    for block in values.as_chunks::<BLOCK>().0 {
        let (step, lowest) = q4_1_scale(block);
        let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
        scale.extend(f16::from_f32(step).to_le_bytes());
        min.extend(f16::from_f32(lowest).to_le_bytes());
        let nibble = |value: f32| (((value - lowest) * inverse + 0.5) as u8).min(15);
        let (low, high) = block.split_at(BLOCK / 2);
        data.extend(
            low.iter()
                .zip(high)
                .map(|(&low, &high)| nibble(low) | nibble(high) << 4),
        );
    }
    WeightRows {
        encoding: Encoding::Q4_1,
        rows,
        cols,
        data,
        scale,
        min,
    }
}
