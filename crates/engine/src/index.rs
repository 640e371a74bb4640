//! Index types. A layer is not a token is not a sequence.

use std::fmt;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A layer of the residual stream: 0 is the embedding output, `i` the output of block `i`
/// (1..=L), as `hidden_states[i]` in Hugging Face transformers, except that layer L is taken
/// before the final norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[ts(type = "number")]
pub struct Layer(pub u32);

/// A token's place in its sequence, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u32);

/// One of the independent conversations that an engine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceIndex(pub u32);

/// An entry of the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub u32);

impl Layer {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl SequenceIndex {
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}", self.0)
    }
}
