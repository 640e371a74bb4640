//! Which of the ways through its work an adapter is given: what a short timing chooses among.

use crate::types::Precision;
use std::fmt;
use std::str::FromStr;

/// A way for batches of few rows (decoding) and one for wider ones (prefill, many answers at once).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    pub few: FewRows,
    pub many: ManyRows,
}

/// Invocations of a workgroup that has barriers, and how much each of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workgroups {
    /// As a program on the CPU likes them: few invocations, because each costs at a barrier and where workgroup memory is
    /// cleared, and each loads for many products, because loads cost more than products.
    Narrow,
    /// As graphics cards like them.
    Wide,
}

/// How bytes of activations meet integer weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// Four bytes at once, `dot4I8Packed`.
    Packed,
    /// Four at once as halves, where the device has `shader-f16`.
    Half,
    /// One by one in f32.
    Float,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FewRows {
    pub workgroups: Workgroups,
    pub products: Products,
    /// Four dispatches a block (`shaders/include/parts.wgsl`) or, apart, six.
    pub merged: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManyRows {
    /// Narrow workgroups, f32 products, several matrix rows an invocation.
    Shared,
    /// Wide workgroups, packed products, one matrix row an invocation.
    Packed,
    /// The same with products of halves.
    Half,
    /// As `Packed`, with activations staged in workgroup memory, for twice as many of the batch's rows an invocation.
    Staged,
}

impl ManyRows {
    pub const fn workgroups(self) -> Workgroups {
        match self {
            Self::Shared => Workgroups::Narrow,
            Self::Packed | Self::Half | Self::Staged => Workgroups::Wide,
        }
    }

    /// Rows of the batch that an invocation of a projection computes.
    pub const fn tokens(self) -> u32 {
        match self {
            Self::Shared | Self::Packed | Self::Half => 8,
            Self::Staged => 16,
        }
    }

    /// Blocks of activations that are staged at once.
    pub const fn staged(self, precision: Precision) -> u32 {
        match (self, precision) {
            (Self::Shared | Self::Packed | Self::Half, _) => 0,
            // With what an epilogue keeps there, as much as workgroup memory holds everywhere.
            (Self::Staged, Precision::Exact) => 2,
            (Self::Staged, Precision::Fast) => 4,
        }
    }
}

impl Variant {
    /// What is likely to be the fastest, and is taken where nothing was timed.
    pub const fn likely(software: bool) -> Self {
        match software {
            true => NARROW,
            false => WIDE,
        }
    }

    /// What is timed on an adapter, the likely first.
    pub const fn candidates(software: bool) -> &'static [Self] {
        match software {
            true => &[NARROW, WIDE, APART],
            false => &[WIDE, STAGED, HALF, NARROW, APART],
        }
    }

    /// Whether `precision` has it as something of its own on a device that has halves (`shader-f16`) or has not: f32
    /// activations are never made halves.
    pub fn exists(self, precision: Precision, halves: bool) -> bool {
        let in_halves = self.few.products == Products::Half || self.many == ManyRows::Half;
        !in_halves || (halves && precision == Precision::Fast)
    }
}

const NARROW: Variant = Variant {
    few: FewRows {
        workgroups: Workgroups::Narrow,
        products: Products::Float,
        merged: true,
    },
    many: ManyRows::Shared,
};
const WIDE: Variant = Variant {
    few: FewRows {
        workgroups: Workgroups::Wide,
        products: Products::Packed,
        merged: true,
    },
    many: ManyRows::Packed,
};
const STAGED: Variant = Variant {
    many: ManyRows::Staged,
    ..WIDE
};
const HALF: Variant = Variant {
    few: FewRows {
        products: Products::Half,
        ..WIDE.few
    },
    many: ManyRows::Half,
};
const APART: Variant = Variant {
    few: FewRows {
        merged: false,
        ..WIDE.few
    },
    ..WIDE
};

/// As it is shown and remembered: three words for few rows and one for many.
impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let merged = if self.few.merged { "merged" } else { "apart" };
        let workgroups = match self.few.workgroups {
            Workgroups::Narrow => "narrow",
            Workgroups::Wide => "wide",
        };
        let products = match self.few.products {
            Products::Packed => "packed",
            Products::Half => "half",
            Products::Float => "float",
        };
        let many = match self.many {
            ManyRows::Shared => "shared",
            ManyRows::Packed => "packed",
            ManyRows::Half => "half",
            ManyRows::Staged => "staged",
        };
        write!(f, "{merged} {workgroups} {products}, {many}")
    }
}

/// What another version of the program remembers may not be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownVariant;

impl FromStr for Variant {
    type Err = UnknownVariant;

    fn from_str(text: &str) -> Result<Self, UnknownVariant> {
        let (few, many) = text.split_once(", ").ok_or(UnknownVariant)?;
        let mut words = few.split(' ');
        let mut word = || words.next().ok_or(UnknownVariant);
        let few = FewRows {
            merged: match word()? {
                "merged" => true,
                "apart" => false,
                _ => return Err(UnknownVariant),
            },
            workgroups: match word()? {
                "narrow" => Workgroups::Narrow,
                "wide" => Workgroups::Wide,
                _ => return Err(UnknownVariant),
            },
            products: match word()? {
                "packed" => Products::Packed,
                "half" => Products::Half,
                "float" => Products::Float,
                _ => return Err(UnknownVariant),
            },
        };
        let many = match many {
            "shared" => ManyRows::Shared,
            "packed" => ManyRows::Packed,
            "half" => ManyRows::Half,
            "staged" => ManyRows::Staged,
            _ => return Err(UnknownVariant),
        };
        match words.next() {
            None => Ok(Self { few, many }),
            Some(_) => Err(UnknownVariant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_understood_and_nothing_else() {
        for variant in [true, false].into_iter().flat_map(Variant::candidates) {
            assert_eq!(variant.to_string().parse(), Ok(*variant));
        }
        for foreign in [
            "",
            "merged",
            "merged narrow float",
            "merged narrow float fast, shared",
            "merged narrow float, none",
        ] {
            assert_eq!(foreign.parse::<Variant>(), Err(UnknownVariant), "{foreign}");
        }
    }
}
