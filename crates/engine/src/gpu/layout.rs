//! How matrices lie in GPU memory: tiles of 64 rows, blocks of 32 columns (see `shaders/include/weights.wgsl`).

use super::shader::{Constants, constants};
use half::f16;
use trimtab_checkpoint::encoding::BLOCK;
use trimtab_checkpoint::{Encoding, WeightRows};

/// Matrix rows of one tile, and invocations of one workgroup.
pub const TILE: usize = 64;

/// The stored form on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Q4,
    Q8,
    F16,
    Bf16,
    F32,
}

impl Form {
    pub const fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::F32 => Self::F32,
            Encoding::F16 => Self::F16,
            Encoding::Bf16 => Self::Bf16,
            Encoding::Q8_0 => Self::Q8,
            Encoding::Q4_0 | Encoding::Q4_1 => Self::Q4,
        }
    }

    /// As the shaders call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4 => "q4",
            Self::Q8 => "q8",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    pub const fn is_quantised(self) -> bool {
        matches!(self, Self::Q4 | Self::Q8)
    }

    /// `vec4<u32>`s of one block's data.
    pub const fn vec4s(self) -> usize {
        match self {
            Self::Q4 => 1,
            Self::Q8 => 2,
            Self::F16 | Self::Bf16 => 4,
            Self::F32 => 8,
        }
    }
}

/// A matrix's form and size on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    pub form: Form,
    /// Rows, or pairs of them.
    pub rows: usize,
    /// Padding included.
    pub tiles: usize,
    /// Blocks of a row.
    pub blocks: usize,
    pub biases: usize,
}

impl MatrixShape {
    pub fn new(form: Form, order: &RowOrder, cols: usize, biases: usize) -> Self {
        Self {
            form,
            rows: order.rows(),
            tiles: order.tiles(),
            blocks: cols / BLOCK,
            biases,
        }
    }

    /// `u32` words of one tile's data, and of its scales.
    pub fn tile_words(&self) -> [usize; 2] {
        let scales = if self.form.is_quantised() {
            self.blocks * TILE
        } else {
            0
        };
        [self.blocks * self.form.vec4s() * 4 * TILE, scales]
    }

    /// `u32` words of all scales, after which the biases lie.
    pub fn scale_words(&self) -> usize {
        self.tiles * self.tile_words()[1]
    }

    /// The same with the biases; a binding has at least one.
    pub fn all_scale_words(&self) -> usize {
        (self.scale_words() + self.biases).max(1)
    }

    /// The constants of `shaders/include/matrix.wgsl`, and of `project.wgsl` about its matrix.
    pub fn constants(&self) -> Constants {
        constants! {
            form: self.form.name(),
            vec4s: self.form.vec4s(),
            scaled: self.form.is_quantised(),
            matrix_tiles: self.tiles,
            matrix_rows: self.rows,
            blocks: self.blocks,
            scale_words: self.all_scale_words(),
        }
    }
}

/// Where a row of the GPU's matrix comes from: a row of one of the stacked tensors, or nowhere (padding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRow {
    pub tensor: usize,
    pub row: usize,
}

/// The order in which stacked tensors' rows lie on the GPU.
#[derive(Clone, Debug)]
pub enum RowOrder {
    /// One tensor, as it is.
    Plain { rows: usize },
    /// Tile `2t` holds rows `64t..` of tensor 0, tile `2t + 1` the same rows of tensor 1.
    Interleaved { rows: usize },
    /// q, k and v: tile `2t` holds the first, tile `2t + 1` the second members of the pairs
    /// `64t..` that rotate together.
    RotaryPairs { heads: [usize; 3], head_dim: usize },
}

impl RowOrder {
    /// Rows, or pairs of them.
    pub fn rows(&self) -> usize {
        match self {
            Self::Plain { rows } | Self::Interleaved { rows } => *rows,
            Self::RotaryPairs { heads, head_dim } => heads.iter().sum::<usize>() * head_dim / 2,
        }
    }

    /// Tiles, padding included.
    pub fn tiles(&self) -> usize {
        match self {
            Self::Plain { .. } => self.rows().div_ceil(TILE),
            Self::Interleaved { .. } | Self::RotaryPairs { .. } => 2 * self.rows().div_ceil(TILE),
        }
    }

    /// The row in `lane` of `tile`.
    pub fn source(&self, tile: usize, lane: usize) -> Option<SourceRow> {
        match self {
            Self::Plain { rows } => {
                let row = tile * TILE + lane;
                (row < *rows).then_some(SourceRow { tensor: 0, row })
            }
            Self::Interleaved { rows } => {
                let row = tile / 2 * TILE + lane;
                (row < *rows).then_some(SourceRow {
                    tensor: tile % 2,
                    row,
                })
            }
            Self::RotaryPairs { heads, head_dim } => {
                let half = head_dim / 2;
                let mut pair = tile / 2 * TILE + lane;
                for (tensor, heads) in heads.iter().enumerate() {
                    if pair < heads * half {
                        let row = pair / half * head_dim + pair % half + tile % 2 * half;
                        return Some(SourceRow { tensor, row });
                    }
                    pair -= heads * half;
                }
                None
            }
        }
    }
}

/// Writes row `row` of `rows` into `lane` of one tile's `data` (`[blocks, vec4s, 64]` vec4 of u32) and
/// `scales` (`[blocks, 64]` u32; empty for float forms).
pub fn place_row(rows: &WeightRows, row: usize, lane: usize, data: &mut [u32], scales: &mut [u32]) {
    let form = Form::of(rows.encoding);
    let width = rows.encoding.data_bytes(rows.cols);
    let bytes = &rows.data[row * width..][..width];
    let block_words = 4 * form.vec4s();
    for (word, source) in bytes.as_chunks::<4>().0.iter().enumerate() {
        let (block, within) = (word / block_words, word % block_words);
        let vec4 = block * (block_words / 4) + within / 4;
        data[(vec4 * TILE + lane) * 4 + within % 4] = u32::from_le_bytes(*source);
    }
    if !form.is_quantised() {
        return;
    }
    let blocks = rows.cols / BLOCK;
    let half_at = |part: &[u8], block: usize| {
        let at = (row * blocks + block) * 2;
        u16::from_le_bytes([part[at], part[at + 1]])
    };
    for block in 0..blocks {
        let scale = half_at(&rows.scale, block);
        let min = match rows.encoding {
            Encoding::Q4_1 => half_at(&rows.min, block),
            // scale · (q − 8) = scale · q + (−8 · scale), and the product by a power of two is exact.
            Encoding::Q4_0 => f16::from_f32(-8.0 * f16::from_bits(scale).to_f32()).to_bits(),
            _ => 0,
        };
        scales[block * TILE + lane] = u32::from(scale) | u32::from(min) << 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn all_sources(order: &RowOrder) -> Vec<SourceRow> {
        (0..order.tiles())
            .flat_map(|tile| (0..TILE).filter_map(move |lane| order.source(tile, lane)))
            .collect()
    }

    #[test]
    fn every_row_lies_somewhere_exactly_once() {
        let orders = [
            (RowOrder::Plain { rows: 100 }, 100),
            (RowOrder::Interleaved { rows: 96 }, 192),
            (
                RowOrder::RotaryPairs {
                    heads: [9, 3, 3],
                    head_dim: 64,
                },
                960,
            ),
        ];
        for (order, count) in orders {
            let sources = all_sources(&order);
            assert_eq!(sources.len(), count, "{order:?}");
            let distinct: HashSet<_> = sources
                .iter()
                .map(|source| (source.tensor, source.row))
                .collect();
            assert_eq!(distinct.len(), count, "{order:?}");
        }
    }

    #[test]
    fn rotary_pairs_share_a_lane() {
        let order = RowOrder::RotaryPairs {
            heads: [2, 1, 1],
            head_dim: 8,
        };
        for lane in 0..16 {
            let (Some(first), Some(second)) = (order.source(0, lane), order.source(1, lane)) else {
                panic!("lane {lane}")
            };
            assert_eq!((first.tensor, first.row + 4), (second.tensor, second.row));
        }
    }
}
