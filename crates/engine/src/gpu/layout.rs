//! How matrices lie in GPU memory: tiles of 64 rows, blocks of 32 columns (see `shaders/include/weights.wgsl`).

use super::shader::{Constants, constants};
use half::f16;
use std::ops::Range;
use trimtab_checkpoint::encoding::{BLOCK, Values};
use trimtab_checkpoint::{Encoding, WeightRows};

/// Matrix rows of one tile, and invocations of one workgroup.
pub const TILE: usize = 64;

/// The stored form on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Q4,
    Q5,
    Q6,
    Iq4Nl,
    Q8,
    /// Signed bytes with a scale for each half of a block and a minimum: what integers of any form become beside others.
    Bytes,
    F16,
    Bf16,
    F32,
}

impl Form {
    #[cfg(test)]
    pub const ALL: [Self; 9] = [
        Self::Q4,
        Self::Q5,
        Self::Q6,
        Self::Iq4Nl,
        Self::Q8,
        Self::Bytes,
        Self::F16,
        Self::Bf16,
        Self::F32,
    ];

    pub const fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::F32 => Self::F32,
            Encoding::F16 => Self::F16,
            Encoding::Bf16 => Self::Bf16,
            Encoding::Q8_0 => Self::Q8,
            Encoding::Q4_0 | Encoding::Q4_1 => Self::Q4,
            Encoding::Q5_0 | Encoding::Q5_1 => Self::Q5,
            Encoding::Q6 => Self::Q6,
            Encoding::Iq4Nl => Self::Iq4Nl,
        }
    }

    /// The form in which both can be kept.
    fn both(self, other: Self) -> Self {
        match self.is_quantised() && other.is_quantised() {
            _ if self == other => self,
            true => Self::Bytes,
            false => Self::F32,
        }
    }

    /// As the shaders call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Q4 => "q4",
            Self::Q5 => "q5",
            Self::Q6 => "q6",
            Self::Iq4Nl => "iq4nl",
            Self::Q8 => "q8",
            Self::Bytes => "bytes",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::F32 => "f32",
        }
    }

    pub const fn is_quantised(self) -> bool {
        !matches!(self, Self::F16 | Self::Bf16 | Self::F32)
    }

    /// Whether blocks have a scale for each half.
    const fn split(self) -> bool {
        matches!(self, Self::Q6 | Self::Bytes)
    }

    /// `vec4<u32>`s of one block's data.
    pub const fn vec4s(self) -> usize {
        match self {
            Self::Q4 | Self::Q5 | Self::Q6 | Self::Iq4Nl => 1,
            Self::Q8 | Self::Bytes => 2,
            Self::F16 | Self::Bf16 => 4,
            Self::F32 => 8,
        }
    }

    /// `u32`s beside one block's data: scales and minimum, and integers' bits above the fourth.
    const fn beside(self) -> usize {
        match self {
            Self::Q4 | Self::Iq4Nl | Self::Q8 => 1,
            Self::Q5 | Self::Bytes => 2,
            Self::Q6 => 3,
            Self::F16 | Self::Bf16 | Self::F32 => 0,
        }
    }

    /// `u32` words of the data of a tile with so many blocks a row, and of what lies beside it.
    pub fn tile_words(self, blocks: usize) -> [usize; 2] {
        [
            blocks * self.vec4s() * 4 * TILE,
            blocks * self.beside() * TILE,
        ]
    }

    /// How a kernel reads a block from `words` and `beside`. Where a matrix has `several` forms, they share what activations are
    /// multiplied by, so that 4-bit integers become bytes, too.
    fn read(self, several: bool) -> String {
        let name = self.name();
        match self {
            Self::Q4 if !several => format!("weights_{name}(words, beside)"),
            _ if self.is_quantised() => format!("weights_of(block_{name}(words, beside))"),
            _ => format!("weights_{name}(words)"),
        }
    }

    /// What activations are multiplied by, as the shaders call it.
    fn places(self, several: bool) -> &'static str {
        match self {
            Self::Q4 if !several => "PLACES_q4",
            _ if self.is_quantised() => "PLACES_bytes",
            _ => "PLACES_float",
        }
    }
}

/// A matrix's form and size on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatrixShape {
    pub form: Form,
    /// The first tile that has another form, and that form, which all behind it have.
    pub later: Option<(usize, Form)>,
    /// Rows, or pairs of them.
    pub rows: usize,
    /// Padding included.
    pub tiles: usize,
    /// Blocks of a row.
    pub blocks: usize,
    pub biases: usize,
}

impl MatrixShape {
    /// Of tensors with these forms, stacked in `order`.
    pub fn new(forms: &[Form], order: &RowOrder, cols: usize, biases: usize) -> Self {
        let tiles = order.tiles();
        let of_tile = |tile: usize| {
            let sources = (0..TILE).filter_map(|lane| order.source(tile, lane));
            let forms = sources.map(|source| forms[source.tensor]);
            // A tile of padding alone has none.
            forms.reduce(Form::both)
        };
        let form = of_tile(0).unwrap_or(forms[0]);
        let mut later: Option<(usize, Form)> = None;
        for tile in 0..tiles {
            let Some(own) = of_tile(tile) else { continue };
            later = match later {
                Some((first, form)) => Some((first, form.both(own))),
                None if own == form => None,
                None => Some((tile, own)),
            };
        }
        let (form, later) = match later {
            // f32 and integers are multiplied differently.
            Some((_, other)) if !(form.is_quantised() && other.is_quantised()) => (Form::F32, None),
            later => (form, later),
        };
        Self {
            form,
            later,
            rows: order.rows(),
            tiles,
            blocks: cols / BLOCK,
            biases,
        }
    }

    /// Tiles of one form after another: which, how many, the form.
    pub fn runs(&self) -> impl Iterator<Item = (Range<usize>, Form)> {
        let end = self.later.map_or(self.tiles, |(first, _)| first);
        let later = self.later.map(|(first, form)| (first..self.tiles, form));
        std::iter::once((0..end, self.form)).chain(later)
    }

    pub fn is_quantised(&self) -> bool {
        self.runs().all(|(_, form)| form.is_quantised())
    }

    /// `u32` words of all data, and of what lies beside them.
    pub fn words(&self) -> [usize; 2] {
        let mut words = [0, 0];
        for (tiles, form) in self.runs() {
            for (words, of_tile) in words.iter_mut().zip(form.tile_words(self.blocks)) {
                *words += tiles.len() * of_tile;
            }
        }
        words
    }

    /// Bytes of all data, and of what lies beside them, also where there are more than addresses reach.
    pub fn bytes(&self) -> [u64; 2] {
        let mut bytes = [0, 0];
        for (tiles, form) in self.runs() {
            for (bytes, of_tile) in bytes.iter_mut().zip(form.tile_words(self.blocks)) {
                *bytes += 4 * tiles.len() as u64 * of_tile as u64;
            }
        }
        bytes
    }

    /// `u32` words beside the data, after which the biases lie.
    pub fn scale_words(&self) -> usize {
        self.words()[1]
    }

    /// The same with the biases; a binding has at least one.
    pub fn all_scale_words(&self) -> usize {
        (self.scale_words() + self.biases).max(1)
    }

    /// Whether some blocks have a scale for each half.
    pub fn split(&self) -> bool {
        self.runs().any(|(_, form)| form.split())
    }

    /// The constants of `shaders/include/matrix.wgsl`, and of `project.wgsl` about its matrix.
    pub fn constants(&self) -> Constants {
        let several = self.later.is_some();
        let (first_later, later) = self.later.unwrap_or((self.tiles, self.form));
        constants! {
            matrix: if several { "matrix_of_two_forms" } else { "matrix" },
            read_weights: self.form.read(several),
            places: self.form.places(several),
            split: self.split(),
            vec4s: self.form.vec4s(),
            beside: self.form.beside(),
            first_later: first_later,
            read_later_weights: later.read(several),
            later_vec4s: later.vec4s(),
            later_beside: later.beside(),
            weight_vec4s: self.words()[0] / 4,
            matrix_tiles: self.tiles,
            matrix_rows: self.rows,
            blocks: self.blocks,
            scale_words: self.all_scale_words(),
        }
    }

    /// The constants of `shaders/feed_forward.wgsl` about its second matrix, which has one form.
    pub fn down_constants(&self) -> Constants {
        constants! {
            read_down_weights: self.form.read(false),
            down_places: self.form.places(false),
            down_vec4s: self.form.vec4s(),
            down_beside: self.form.beside(),
            down_tiles: self.tiles,
            down_blocks: self.blocks,
            down_scale_words: self.all_scale_words(),
        }
    }

    /// The constants of `shaders/embed.wgsl`, whose matrix has one form.
    pub fn embed_constants(&self) -> Constants {
        let name = self.form.name();
        constants! {
            vec4s: self.form.vec4s(),
            beside: self.form.beside(),
            read_weight: match self.form.is_quantised() {
                true => format!("weight_of(block_{name}(words, beside), within)"),
                false => format!("weight_{name}(words, within)"),
            },
        }
    }
}

/// How a matrix with a row for each token lies in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Of the whole matrix.
    pub rows: usize,
    /// Of each piece but the last, which may have fewer.
    pub each: usize,
}

impl Pieces {
    /// In one.
    pub const fn whole(rows: usize) -> Self {
        Self { rows, each: rows }
    }

    /// In as few pieces of whole tiles as have at most `largest` bytes each.
    pub fn of(shape: &MatrixShape, largest: u64) -> Self {
        let tile_bytes = shape.bytes()[0] / shape.tiles.max(1) as u64;
        let tiles = (largest / tile_bytes.max(1)).max(1) as usize;
        match tiles < shape.tiles {
            true => Self {
                rows: shape.rows,
                each: tiles * TILE,
            },
            false => Self::whole(shape.rows),
        }
    }

    /// The rows of each piece.
    pub fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        let firsts = (0..self.rows).step_by(self.each.max(1));
        firsts.map(move |first| first..(first + self.each).min(self.rows))
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
    /// So many rows of one tensor from the `first` on, as they are.
    Plain { first: usize, rows: usize },
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
            Self::Plain { rows, .. } | Self::Interleaved { rows } => *rows,
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
            Self::Plain { first, rows } => {
                let row = tile * TILE + lane;
                (row < *rows).then_some(SourceRow {
                    tensor: 0,
                    row: first + row,
                })
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

/// Writes row `row` of `rows` in `form` into `lane` of one tile's `data` (`[blocks, vec4s, 64]` vec4 of u32) and what lies `beside` it
/// (`[blocks, words, 64]` u32; empty for float forms).
pub fn place_row(
    rows: &WeightRows,
    row: usize,
    form: Form,
    lane: usize,
    data: &mut [u32],
    beside: &mut [u32],
) {
    let own = Form::of(rows.encoding);
    let width = rows.encoding.data_bytes(rows.cols);
    let bytes = &rows.data[row * width..][..width];
    let mut place = |block: usize, bytes: &[u8]| {
        for (word, source) in bytes.as_chunks::<4>().0.iter().enumerate() {
            let vec4 = block * form.vec4s() + word / 4;
            data[(vec4 * TILE + lane) * 4 + word % 4] = u32::from_le_bytes(*source);
        }
    };
    let Some(blocks) = rows.encoding.block().filter(|_| form.is_quantised()) else {
        if own == form {
            place(0, bytes);
        } else {
            let mut values = vec![0.0_f32; rows.cols];
            rows.dequantise_row(row, &mut values);
            place(0, bytemuck::cast_slice(&values));
        }
        return;
    };
    let half_at = |part: &[u8], count: usize, at: usize| {
        let at = (row * count + at) * 2;
        u16::from_le_bytes([part[at], part[at + 1]])
    };
    let scales = rows.encoding.scales(rows.cols);
    let words = form.beside();
    for (block, bytes) in bytes.chunks_exact(blocks.bytes()).enumerate() {
        let scale = |part| half_at(&rows.scale, scales, block * blocks.scales + part);
        let first = scale(0);
        let min = match blocks.values {
            Values::Minimum => half_at(&rows.min, rows.cols / BLOCK, block),
            // scale · (q − 8) = scale · q + (−8 · scale), and the product by a power of two is exact.
            Values::Offset(offset) if matches!(form, Form::Q4 | Form::Q5) => {
                let shift = -f32::from(offset) * f16::from_bits(first).to_f32();
                f16::from_f32(shift).to_bits()
            }
            _ => 0,
        };
        let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
        let mut put = |word: usize, value: u32| {
            beside[(block * words + word) * TILE + lane] = value;
        };
        if form == Form::Bytes {
            place(block, bytemuck::cast_slice(&blocks.integers(bytes)));
            put(0, pair(first, scale(blocks.scales - 1)));
            put(1, pair(min, 0));
            continue;
        }
        let (integers, above) = bytes.split_at(16 * form.vec4s());
        place(block, integers);
        put(
            0,
            match form.split() {
                true => pair(first, scale(1)),
                false => pair(first, min),
            },
        );
        for (word, source) in above.as_chunks::<4>().0.iter().enumerate() {
            put(1 + word, u32::from_le_bytes(*source));
        }
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
            (
                RowOrder::Plain {
                    first: 0,
                    rows: 100,
                },
                100,
            ),
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
    fn tiles_of_different_tensors_keep_their_forms() {
        let pairs = |heads| RowOrder::RotaryPairs {
            heads,
            head_dim: 64,
        };
        let runs = |forms: &[Form], order: &RowOrder| -> Vec<_> {
            MatrixShape::new(forms, order, 64, 0).runs().collect()
        };
        let one = [Form::Q4, Form::Q4, Form::Q6];
        assert_eq!(
            runs(&one, &pairs([4, 2, 2])),
            [(0..6, Form::Q4), (6..8, Form::Q6)]
        );
        // The second half of a tile belongs to the next tensor.
        assert_eq!(
            runs(&one, &pairs([4, 1, 1])),
            [(0..4, Form::Q4), (4..6, Form::Bytes)]
        );
        assert_eq!(
            runs(&[Form::Q5, Form::Q4], &RowOrder::Interleaved { rows: 96 }),
            [(0..1, Form::Q5), (1..4, Form::Bytes)]
        );
        let floats = [Form::Q4, Form::F16, Form::Q4];
        assert_eq!(runs(&floats, &pairs([4, 2, 2])), [(0..8, Form::F32)]);
        assert_eq!(runs(&[Form::Q6; 3], &pairs([4, 2, 2])), [(0..8, Form::Q6)]);
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
