//! The inner products of the CPU executor, one implementation an instruction set.
//!
//! Weights stay as stored: 4-bit and 8-bit blocks of 32. Where activations are *fast* they are integers,
//! too. Next to 4-bit weights they are signed bytes, with one scale for every eight of them: group `j` of a
//! block is elements `4j..4j+4` and `16+4j..20+4j`, which is what one 32-bit lane of a 128-bit integer dot
//! product sums up, so that the finer scale costs no instruction. Next to 8-bit weights they are 16-bit
//! integers with one scale a block, which a multiply-add of 16-bit pairs takes at no loss.

#[cfg(not(target_arch = "wasm32"))]
pub mod portable;
#[cfg(target_arch = "wasm32")]
pub mod wasm;
#[cfg(target_arch = "x86_64")]
pub mod x86;

/// Weights of one block.
pub const BLOCK: usize = trimtab_checkpoint::BLOCK;
/// Groups of activations in one block, each with a scale of its own.
pub const GROUPS: usize = 4;
/// Sums of blocks are padded with zeros to a multiple of this.
pub const SUMS: usize = 8;

/// One block of 8-bit activations. Without relaxed SIMD, wasm multiplies 16-bit lanes: there the
/// bytes are widened once, in the order in which the nibbles of a 16-bit lane come apart.
#[cfg(not(all(target_arch = "wasm32", not(feature = "relaxed-simd"))))]
pub type Block8 = [i8; BLOCK];
#[cfg(all(target_arch = "wasm32", not(feature = "relaxed-simd")))]
pub type Block8 = [i16; BLOCK];

/// Part of one row of 8-bit activations.
#[derive(Clone, Copy, Debug)]
pub struct Row8<'a> {
    /// `[blocks]`
    pub values: &'a [Block8],
    /// `[blocks, groups]`
    pub scales: &'a [[f32; GROUPS]],
    /// What the quantised activations of each block add up to, `[blocks]`, padded with zeros.
    pub sums: &'a [[f32; SUMS]],
}

/// Part of one row of 16-bit activations.
#[derive(Clone, Copy, Debug)]
pub struct Row16<'a> {
    /// `[blocks]`
    pub values: &'a [[i16; BLOCK]],
    /// `[blocks]`
    pub scales: &'a [f32],
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

/// Inner products of a row of weights with `N` rows of activations at once, so that weights are
/// unpacked once for all of them. All parts have the same number of blocks.
pub trait DotProduct {
    const NAME: &'static str;

    fn q4<const N: usize>(weights: Weights4<'_>, inputs: [Row8<'_>; N]) -> [f32; N];

    /// `weights` and `scales` are `[blocks]`.
    fn q8<const N: usize>(
        weights: &[[i8; BLOCK]],
        scales: &[f32],
        inputs: [Row16<'_>; N],
    ) -> [f32; N];

    /// All of one length.
    fn f32<const N: usize>(weights: &[f32], inputs: [&[f32]; N]) -> [f32; N];

    /// Little-endian halves to f32. Every finite half is exact.
    fn widen(halves: &[[u8; 2]], out: &mut [f32]);
}
