//! The inner products of the CPU executor, one implementation an instruction set.
//!
//! Weights stay as stored: blocks of 32 integers. Where activations are *fast* they are integers,
//! too. Next to 4-bit weights (`Q4_0`, `Q4_1`) they are signed bytes, with one scale for every eight of them: group `j` of a
//! block is elements `4j..4j+4` and `16+4j..20+4j`, which is what one 32-bit lane of a 128-bit integer dot
//! product sums up, so that the finer scale costs no instruction. Next to all others they are 16-bit
//! integers with one scale a block, which a multiply-add of 16-bit pairs takes at no loss; weights that are not signed bytes become
//! such first, a part of a row at a time.

#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "x86_64")]
mod panels;
#[cfg(not(target_arch = "wasm32"))]
pub mod portable;
pub mod vector;
#[cfg(target_arch = "wasm32")]
pub mod wasm;

use super::activations::Inputs;
use std::ops::Range;
use trimtab_checkpoint::encoding::BlockForm;
use trimtab_checkpoint::{Encoding, WeightRows};
use vector::Vector;

/// Weights of one block.
pub const BLOCK: usize = trimtab_checkpoint::BLOCK;
/// Groups of activations in one block, each with a scale of its own.
pub const GROUPS: usize = 4;
/// Rows of weights that some implementations multiply together.
pub const PANEL: usize = 16;
/// Sums of blocks are padded with zeros to a multiple of this.
pub const SUMS: usize = 8;

/// One block of 8-bit activations (see also [`DotProduct::PAIRS`]). Without relaxed SIMD, wasm multiplies 16-bit lanes: there the
/// bytes are widened once, in the order in which the nibbles of a 16-bit lane come apart.
#[cfg(not(all(target_arch = "wasm32", not(feature = "relaxed-simd"))))]
pub type Block8 = [i8; BLOCK];
#[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
pub type Block8 = [i16; BLOCK];

/// Part of `N` rows of 8-bit activations, side by side block by block, so that a loop over blocks reads them in order
/// from one place.
#[derive(Clone, Copy, Debug)]
pub struct Rows8<'a, const N: usize> {
    /// `[blocks, N]`; `[blocks / 2, N, 2]` where blocks are paired.
    pub values: &'a [[Block8; N]],
    /// `[blocks, N, groups]`, or `[blocks / 2, N, 2, groups]`.
    pub scales: &'a [[[f32; GROUPS]; N]],
    /// Sums of the quantised activations of each block, `[blocks / SUMS, N, SUMS]`, padded with zeros.
    pub sums: &'a [[[f32; SUMS]; N]],
}

/// Whether activations next to such weights are 16-bit integers, and not 8-bit ones.
pub fn wide(encoding: Encoding) -> bool {
    !matches!(encoding, Encoding::Q4_0 | Encoding::Q4_1)
}

/// Part of `N` rows of 16-bit activations, side by side.
#[derive(Clone, Copy, Debug)]
pub struct Rows16<'a, const N: usize> {
    /// `[blocks, N]`
    pub values: &'a [[[i16; BLOCK]; N]],
    /// `[blocks, N]`
    pub scales: &'a [[f32; N]],
}

/// Part of one row of 4-bit weights, `w = scale · nibble + min`.
#[derive(Clone, Copy, Debug)]
pub struct Weights4<'a> {
    /// `[blocks]`: byte `j` of a block holds weight `j` in its low and weight `j + 16` in its high nibble.
    pub nibbles: &'a [[u8; BLOCK / 2]],
    /// `[blocks]`
    pub scales: &'a [f32],
    /// `[blocks]`, padded with zeros.
    pub mins: &'a [[f32; SUMS]],
}

/// How many sums the registers hold while f32 inner products run.
#[derive(Clone, Copy, Debug)]
pub enum Tile {
    /// Three rows of weights times two of activations, where there are sixteen registers and two make up a sum.
    Narrow,
    /// Six times four, where there are 32 registers and one is enough for a sum.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "only AVX-512 has so many")
    )]
    Wide,
}

/// Inner products of rows of weights with `N` rows of activations at once, so that weights are
/// unpacked once for all of them. All parts have the same number of blocks. What comes out for one row of
/// activations has the same bits however many go with it.
pub trait DotProduct {
    const NAME: &'static str;
    const TILE: Tile;
    type Vector: Vector;
    /// Whether 8-bit activations come in pairs of blocks: the first halves of both, then the second halves.
    const PAIRS: bool = false;

    fn q4<const N: usize>(weights: Weights4<'_>, inputs: Rows8<'_, N>) -> [f32; N];

    /// `weights` and `scales` are `[blocks]`; a block has one scale, or one for each half.
    fn q8<const S: usize, const N: usize>(
        weights: &[[i8; BLOCK]],
        scales: &[[f32; S]],
        inputs: Rows16<'_, N>,
    ) -> [f32; N];

    /// The signed numbers of blocks of fewer than eight bits, [`BlockForm::integers`] of each.
    #[inline(always)]
    fn integers(form: BlockForm, bytes: &[u8], out: &mut [[i8; BLOCK]]) {
        for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(form.bytes())) {
            *out = form.integers(bytes);
        }
    }

    /// The products of rows `rows` of `matrix` with f32 activations: `out` is `[rows, n]`.
    fn project_f32(matrix: &WeightRows, rows: Range<usize>, inputs: &Inputs<'_>, out: &mut [f32]);

    /// All of one length.
    fn f32<const R: usize, const N: usize>(
        weights: [&[f32]; R],
        inputs: [&[f32]; N],
    ) -> [[f32; N]; R];

    /// `scale · nibble + min`, rounded twice, in the order of the row: `out` is `[blocks, BLOCK]`.
    fn unpack4(bytes: &[[u8; BLOCK / 2]], scales: &[f32], mins: &[f32], out: &mut [[f32; BLOCK]]);

    /// `scale · byte`: `scales` is `[blocks]`, one or one for each half, `out` `[blocks, BLOCK]`.
    fn unpack8<const S: usize>(
        bytes: &[[i8; BLOCK]],
        scales: &[[f32; S]],
        out: &mut [[f32; BLOCK]],
    );

    /// Rows and columns exchanged.
    #[inline(always)]
    fn transposed(rows: [[f32; 8]; 8]) -> [[f32; 8]; 8] {
        let mut columns = [[0.0; 8]; 8];
        for (i, row) in rows.iter().enumerate() {
            for (column, x) in columns.iter_mut().zip(row) {
                column[i] = *x;
            }
        }
        columns
    }

    /// Little-endian halves to f32. Every finite half is exact.
    fn widen(halves: &[[u8; 2]], out: &mut [f32]);
}
