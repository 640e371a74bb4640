//! Index types. A layer is not a token is not a sequence.

use serde::{Deserialize, Serialize};
use std::fmt;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, TS)]
#[ts(type = "number")]
pub struct TokenId(pub u32);

/// Where in a block a change, a reading or a capture acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// The residual stream after the block, or after the embedding: as wide as the model.
    Residual,
    /// The output of `W_o`, before a norm that may follow it and before it is added: as wide as the model.
    AfterAttention,
    /// The outputs of all heads before `W_o`: `heads · head_dim` wide.
    Heads,
}

impl Place {
    pub const ALL: [Self; 3] = [Self::Residual, Self::AfterAttention, Self::Heads];
}

/// A place in the block whose output is `layer`. Layer 0 has a residual stream only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site {
    pub layer: Layer,
    pub place: Place,
}

impl Site {
    pub const fn residual(layer: Layer) -> Self {
        Self {
            layer,
            place: Place::Residual,
        }
    }

    pub const fn after_attention(layer: Layer) -> Self {
        Self {
            layer,
            place: Place::AfterAttention,
        }
    }

    pub const fn heads(layer: Layer) -> Self {
        Self {
            layer,
            place: Place::Heads,
        }
    }
}

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
