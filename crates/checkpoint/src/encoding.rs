//! The forms in which the numbers of a weight matrix are stored.

/// Weights a quantised block covers, for every quantised encoding here (llama.cpp's `QK`).
pub const BLOCK: usize = 32;

/// The stored form of a weight matrix, row by row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    F32,
    F16,
    Bf16,
    /// `w = scale · q`, `q` a signed byte.
    Q8_0,
    /// `w = scale · (q − 8)`, `q` four bits.
    Q4_0,
    /// `w = scale · q + min`, `q` four bits.
    Q4_1,
}

impl Encoding {
    /// Bytes of the data part (without scales and minima) for `cols` weights of one row.
    pub const fn data_bytes(self, cols: usize) -> usize {
        match self {
            Self::F32 => cols * 4,
            Self::F16 | Self::Bf16 => cols * 2,
            Self::Q8_0 => cols,
            Self::Q4_0 | Self::Q4_1 => cols / 2,
        }
    }

    /// Whether one f16 scale a block accompanies the data.
    pub const fn has_scale(self) -> bool {
        matches!(self, Self::Q8_0 | Self::Q4_0 | Self::Q4_1)
    }

    /// Whether one f16 minimum a block accompanies the data.
    pub const fn has_min(self) -> bool {
        matches!(self, Self::Q4_1)
    }
}
