//! Blocks of GGUF files as ours: a table of llama.cpp's types, and how each lies in memory (`ggml-common.h`, `ggml-quants.c`).

use super::quantise::{Loss, to_q8_0};
use crate::encoding::{BLOCK, BlockForm, Encoding};
use crate::weights::WeightRows;
use half::f16;

/// A tensor's type by llama.cpp's number (`ggml_type` in `ggml.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u32);

/// Types that are read, for a sentence.
pub const KNOWN: &str =
    "F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q5_1, Q5_0, Q4_1, Q4_0 or IQ4_NL";

/// What is said of a type that is read.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    pub name: &'static str,
    /// Weights of one of its blocks, and its bytes.
    pub block: usize,
    pub bytes: usize,
    /// What it becomes.
    pub encoding: Encoding,
    read: Read,
}

/// Takes one of the file's blocks apart.
type Reader<T> = fn(&[u8], &mut dyn FnMut(T));

/// How its blocks are read.
#[derive(Clone, Copy, Debug)]
enum Read {
    /// Numbers one by one.
    Plain,
    /// An f16 scale and perhaps an f16 minimum before integers as ours.
    Ours,
    /// Integers that are packed anew, with their scales and minima.
    Blocks(Reader<Block>),
    /// Numbers, to be quantised again.
    Numbers(Reader<[f32; BLOCK]>),
}

/// Thirty-two stored integers, the scale of each half, and the minimum.
struct Block {
    stored: [u8; BLOCK],
    scales: [f32; 2],
    min: f32,
}

impl Kind {
    /// llama.cpp's name of it.
    pub fn name(self) -> String {
        let name = match self.0 {
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            _ => {
                return self
                    .stored()
                    .map_or(format!("type {}", self.0), |kind| kind.name.into());
            }
        };
        name.into()
    }

    /// How it is read; `None` where it is not.
    pub fn stored(self) -> Option<Stored> {
        use Read::{Blocks, Numbers, Ours, Plain};
        let (name, block, bytes, encoding, read) = match self.0 {
            0 => ("F32", 1, 4, Encoding::F32, Plain),
            1 => ("F16", 1, 2, Encoding::F16, Plain),
            30 => ("BF16", 1, 2, Encoding::Bf16, Plain),
            2 => ("Q4_0", 32, 18, Encoding::Q4_0, Ours),
            3 => ("Q4_1", 32, 20, Encoding::Q4_1, Ours),
            6 => ("Q5_0", 32, 22, Encoding::Q5_0, Blocks(q5_0)),
            7 => ("Q5_1", 32, 24, Encoding::Q5_1, Blocks(q5_1)),
            8 => ("Q8_0", 32, 34, Encoding::Q8_0, Ours),
            10 => ("Q2_K", 256, 84, Encoding::Q8_0, Numbers(q2_k)),
            11 => ("Q3_K", 256, 110, Encoding::Q8_0, Numbers(q3_k)),
            12 => ("Q4_K", 256, 144, Encoding::Q4_1, Blocks(q4_k)),
            13 => ("Q5_K", 256, 176, Encoding::Q5_1, Blocks(q5_k)),
            14 => ("Q6_K", 256, 210, Encoding::Q6, Blocks(q6_k)),
            20 => ("IQ4_NL", 32, 18, Encoding::Iq4Nl, Ours),
            _ => return None,
        };
        Some(Stored {
            name,
            block,
            bytes,
            encoding,
            read,
        })
    }
}

/// Why a tensor's numbers cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge;

impl Stored {
    /// Whether the integers are those of the file. Scales of K-quants are products of an f16 and a 6-bit or 8-bit number, and are rounded to f16.
    pub fn keeps_integers(&self) -> bool {
        !matches!(self.read, Read::Numbers(_))
    }

    /// Bytes of so many weights, whole blocks.
    pub fn length(&self, weights: usize) -> Option<usize> {
        (weights / self.block).checked_mul(self.bytes)
    }

    /// `bytes` are those of `[rows, cols]`, rows of whole blocks.
    ///
    /// # Errors
    /// Numbers or scales that the f16 scales cannot hold.
    pub fn rows(&self, rows: usize, cols: usize, bytes: Vec<u8>) -> Result<WeightRows, TooLarge> {
        let mut made = WeightRows::none(self.encoding, cols);
        made.rows = rows;
        match (self.read, self.encoding.block()) {
            (Read::Ours, Some(form)) => {
                made.reserve(rows);
                let head = self.bytes - form.bytes();
                for block in bytes.chunks_exact(self.bytes) {
                    made.scale.extend_from_slice(&block[..2]);
                    made.min.extend_from_slice(&block[2..head]);
                    made.data.extend_from_slice(&block[head..]);
                }
            }
            (Read::Blocks(read), Some(form)) => {
                made.reserve(rows);
                let mut fits = true;
                for block in bytes.chunks_exact(self.bytes) {
                    read(block, &mut |block| fits &= push(&mut made, form, &block));
                }
                if !fits {
                    return Err(TooLarge);
                }
            }
            (Read::Numbers(read), _) => {
                let mut numbers = Vec::with_capacity(rows * cols);
                for block in bytes.chunks_exact(self.bytes) {
                    read(block, &mut |block| numbers.extend(block));
                }
                if Loss::of(&numbers, self.encoding) == Some(Loss::TooLarge) {
                    return Err(TooLarge);
                }
                made = to_q8_0(&numbers, rows, cols);
            }
            _ => made.data = bytes,
        }
        Ok(made)
    }
}

/// Appends a block; whether its scales are numbers in f16 where they were numbers before.
fn push(to: &mut WeightRows, form: BlockForm, block: &Block) -> bool {
    form.pack(&block.stored, &mut to.data);
    let mut fits = true;
    let mut half = |number: f32, part: &mut Vec<u8>| {
        let half = f16::from_f32(number);
        fits &= half.is_finite() || !number.is_finite();
        part.extend(half.to_le_bytes());
    };
    for scale in &block.scales[..form.scales] {
        half(*scale, &mut to.scale);
    }
    if to.encoding.has_min() {
        half(block.min, &mut to.min);
    }
    fits
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// scale, 32 fifth bits, nibbles
fn q5_0(block: &[u8], each: &mut dyn FnMut(Block)) {
    let scale = half_at(block, 0);
    each(five(block, 2, scale, 0.0));
}

/// scale, minimum, 32 fifth bits, nibbles
fn q5_1(block: &[u8], each: &mut dyn FnMut(Block)) {
    let (scale, min) = (half_at(block, 0), half_at(block, 2));
    each(five(block, 4, scale, min));
}

/// Integers whose fifth bits begin at byte `at`: that of integer `j` is bit `j`.
fn five(block: &[u8], at: usize, scale: f32, min: f32) -> Block {
    let nibbles = &block[at + 4..];
    Block {
        stored: std::array::from_fn(|j| {
            let high = block[at + j / 8] >> (j % 8) & 1;
            nibbles[j % 16] >> (j / 16 * 4) & 15 | high << 4
        }),
        scales: [scale; 2],
        min,
    }
}

/// d, dmin, eight pairs of 6-bit scale and minimum, nibbles: `w = d · scale · q − dmin · minimum`
fn q4_k(block: &[u8], each: &mut dyn FnMut(Block)) {
    let nibbles = &block[16..];
    for part in 0..8 {
        each(of_eight(block, part, |j| {
            nibbles[part / 2 * 32 + j] >> (part % 2 * 4) & 15
        }));
    }
}

/// As `Q4_K`, with fifth bits between: of part `p` they are bits `p`.
fn q5_k(block: &[u8], each: &mut dyn FnMut(Block)) {
    let (high, nibbles) = (&block[16..48], &block[48..]);
    for part in 0..8 {
        each(of_eight(block, part, |j| {
            nibbles[part / 2 * 32 + j] >> (part % 2 * 4) & 15 | (high[j] >> part & 1) << 4
        }));
    }
}

/// Part `part` of the eight of a `Q4_K` or `Q5_K` (`get_scale_min_k4`).
fn of_eight(block: &[u8], part: usize, stored: impl Fn(usize) -> u8) -> Block {
    let packed = &block[4..16];
    let (scale, min) = match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (
            packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
            packed[part + 4] >> 4 | packed[part] >> 6 << 4,
        ),
    };
    Block {
        stored: std::array::from_fn(stored),
        scales: [half_at(block, 0) * f32::from(scale); 2],
        min: -(half_at(block, 2) * f32::from(min)),
    }
}

/// 128 bytes of nibbles, 64 of two higher bits, sixteen signed scales, d: `w = d · scale · (q − 32)`
fn q6_k(block: &[u8], each: &mut dyn FnMut(Block)) {
    let (nibbles, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for part in 0..8 {
        // Of each half of the block, four parts share 64 bytes of nibbles and 32 of higher bits.
        let (half, quarter) = (part / 4, part % 4);
        each(Block {
            stored: std::array::from_fn(|j| {
                let low = nibbles[half * 64 + quarter % 2 * 32 + j] >> (quarter / 2 * 4) & 15;
                low | (high[half * 32 + j] >> (quarter * 2) & 3) << 4
            }),
            scales: [0, 1].map(|side| d * f32::from(scales[part * 2 + side] as i8)),
            min: 0.0,
        });
    }
}

/// Sixteen pairs of 4-bit scale and minimum, 64 bytes of four integers each, d, dmin
fn q2_k(block: &[u8], each: &mut dyn FnMut([f32; BLOCK])) {
    let (d, dmin) = (half_at(block, 80), half_at(block, 82));
    for part in 0..8 {
        each(std::array::from_fn(|j| {
            let packed = block[part * 2 + j / 16];
            let stored = block[16 + part / 4 * 32 + j] >> (part % 4 * 2) & 3;
            d * f32::from(packed & 15) * f32::from(stored) - dmin * f32::from(packed >> 4)
        }));
    }
}

/// 32 bytes of third bits, 64 of two lower ones, sixteen 6-bit scales, d: `w = d · (scale − 32) · (q − 4)`
fn q3_k(block: &[u8], each: &mut dyn FnMut([f32; BLOCK])) {
    let (high, low, packed) = (&block[..32], &block[32..96], &block[96..108]);
    let d = half_at(block, 108);
    for part in 0..8 {
        each(std::array::from_fn(|j| {
            let at = part * 2 + j / 16;
            let scale =
                packed[at % 8] >> (at / 8 * 4) & 15 | (packed[8 + at % 4] >> (at / 4 * 2) & 3) << 4;
            let stored = low[part / 4 * 32 + j] >> (part % 4 * 2) & 3 | (high[j] >> part & 1) << 2;
            d * (f32::from(scale) - 32.0) * (f32::from(stored) - 4.0)
        }));
    }
}
