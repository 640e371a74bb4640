//! The forms in which the numbers of a weight matrix are stored.

/// Weights a quantised block covers, for every quantised encoding here (llama.cpp's `QK`).
pub const BLOCK: usize = 32;

/// The stored form of a weight matrix, row by row. Names with a number behind `_` are llama.cpp's.
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
    /// `w = scale · (q − 16)`, `q` five bits.
    Q5_0,
    /// `w = scale · q + min`, `q` five bits.
    Q5_1,
    /// `w = scale · (q − 32)`, `q` six bits, with a scale for every 16 weights: what a `Q6_K` holds.
    Q6,
    /// `w = scale · table[q]`, `q` four bits.
    Iq4Nl,
}

/// How a quantised encoding stores a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockForm {
    /// What is behind the tensor's name in the name of its data part.
    pub part: &'static str,
    /// Bits of an integer: 4 to 6, or 8.
    pub bits: usize,
    /// Scales of a block: one for it all, or one for each half.
    pub scales: usize,
    pub values: Values,
}

/// The signed numbers that the scale multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// The stored integer minus this; of 8 bits, a signed byte.
    Offset(i8),
    /// The stored integer; a minimum is added to the product.
    Minimum,
    /// The entry of that number.
    Table(&'static [i8; 16]),
}

/// llama.cpp's `kvalues_iq4nl`.
const IQ4_NL: &[i8; 16] = &[
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

impl Encoding {
    pub const ALL: [Self; 10] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q6,
        Self::Iq4Nl,
    ];

    /// The form of its blocks; `None` where numbers are stored one by one.
    pub const fn block(self) -> Option<BlockForm> {
        let (part, bits, scales, values) = match self {
            Self::F32 | Self::F16 | Self::Bf16 => return None,
            Self::Q8_0 => ("q8", 8, 1, Values::Offset(0)),
            Self::Q4_0 => ("q4", 4, 1, Values::Offset(8)),
            Self::Q4_1 => ("q4", 4, 1, Values::Minimum),
            Self::Q5_0 => ("q5", 5, 1, Values::Offset(16)),
            Self::Q5_1 => ("q5", 5, 1, Values::Minimum),
            Self::Q6 => ("q6", 6, 2, Values::Offset(32)),
            Self::Iq4Nl => ("iq4nl", 4, 1, Values::Table(IQ4_NL)),
        };
        Some(BlockForm {
            part,
            bits,
            scales,
            values,
        })
    }

    pub const fn is_quantised(self) -> bool {
        self.block().is_some()
    }

    /// Bytes of the data part (without scales and minima) for `cols` weights of one row.
    pub const fn data_bytes(self, cols: usize) -> usize {
        match (self, self.block()) {
            (_, Some(form)) => cols / BLOCK * form.bytes(),
            (Self::F32, _) => cols * 4,
            _ => cols * 2,
        }
    }

    /// f16 scales that accompany `cols` weights of one row.
    pub const fn scales(self, cols: usize) -> usize {
        match self.block() {
            Some(form) => cols / BLOCK * form.scales,
            None => 0,
        }
    }

    /// f16 minima that accompany `cols` weights of one row.
    pub const fn minima(self, cols: usize) -> usize {
        match self.has_min() {
            true => cols / BLOCK,
            false => 0,
        }
    }

    /// Whether one f16 minimum a block accompanies the data.
    pub const fn has_min(self) -> bool {
        match self.block() {
            Some(form) => matches!(form.values, Values::Minimum),
            None => false,
        }
    }
}

impl BlockForm {
    /// Bytes of a block's integers.
    pub const fn bytes(self) -> usize {
        BLOCK * self.bits / 8
    }

    /// The signed numbers of a block of [`Self::bytes`].
    ///
    /// Bytes of 8 bits are they. Otherwise byte `j` of the first 16 holds the lowest four bits of integer `j` (low nibble) and
    /// of integer `j + 16` (high nibble). The higher bits follow in words of four bytes: of integer `4 g + i` they are in byte
    /// `i` of a word, those of group `g` above those of group `g − 1`.
    pub fn integers(self, bytes: &[u8]) -> [i8; BLOCK] {
        if self.bits == 8 {
            return std::array::from_fn(|j| bytes[j] as i8);
        }
        let high = self.bits - 4;
        let mask = (1_u8 << high) - 1;
        std::array::from_fn(|j| {
            let low = (bytes[j % 16] >> (j / 16 * 4)) & 15;
            let at = j / 4 * high;
            let above = match high {
                0 => 0,
                _ => (bytes[16 + at / 8 * 4 + j % 4] >> (at % 8)) & mask,
            };
            let stored = low | above << 4;
            match self.values {
                Values::Offset(offset) => stored as i8 - offset,
                Values::Minimum => stored as i8,
                Values::Table(table) => table[usize::from(stored)],
            }
        })
    }

    /// Appends a block of integers of at most six bits in the order that [`Self::integers`] reads.
    pub fn pack(self, stored: &[u8; BLOCK], to: &mut Vec<u8>) {
        let high = self.bits - 4;
        let start = to.len();
        to.resize(start + self.bytes(), 0);
        let block = &mut to[start..];
        for (j, stored) in stored.iter().enumerate() {
            block[j % 16] |= (stored & 15) << (j / 16 * 4);
            if high > 0 {
                let at = j / 4 * high;
                block[16 + at / 8 * 4 + j % 4] |= stored >> 4 << (at % 8);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_integers_come_back() {
        for encoding in Encoding::ALL {
            let Some(form) = encoding.block().filter(|form| form.bits < 8) else {
                continue;
            };
            let stored: [u8; BLOCK] =
                std::array::from_fn(|j| (j * 37 % 64) as u8 & ((1 << form.bits) - 1));
            let mut bytes = Vec::new();
            form.pack(&stored, &mut bytes);
            assert_eq!(bytes.len(), form.bytes());
            let expected = stored.map(|stored| match form.values {
                Values::Offset(offset) => stored as i8 - offset,
                Values::Minimum => stored as i8,
                Values::Table(table) => table[usize::from(stored)],
            });
            assert_eq!(form.integers(&bytes), expected, "{encoding:?}");
        }
    }
}
