//! The forward pass as a flat list of operations, in the order in which the paper has them.
//!
//! A family ([`crate::family`]) gives the list, in which weights are numbers; [`ForwardPass::of`] adds their names and shapes
//! out of the one table of families; every executor goes through the list from its first operation to its last. There is no graph, no
//! inference of shapes and no tape: a tensor is one of the few [`Value`]s, whose width the configuration says, and an
//! operation overwrites what it writes to. An executor may compute neighbours together (match on the first few
//! operations of the rest of the list), as long as nothing is wanted of what lies between them.
//!
//! ```text
//! body: Embed, Boundary, then for every block
//!       Norm, Project q k v, Rotate q, Rotate k, Attend, Boundary (heads), Project o, Boundary (after attention), Add,
//!       Norm, Project gate up, Gate, Project down, Add, Boundary (residual)
//! head: Norm, Head                       only of the rows that ask for a prediction
//! ```

use crate::index::{Place, Site};
use trimtab_checkpoint::ModelConfig;
use trimtab_checkpoint::family::ModelWeight;

/// A tensor of a batch, `[rows, width]` in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The residual stream; as wide as the model.
    Residual,
    /// The input of projections, after a norm; as wide as the model.
    Normed,
    /// `heads · head_dim` wide.
    Queries,
    /// `kv_heads · head_dim` wide.
    Keys,
    /// As wide as [`Self::Keys`].
    Values,
    /// The output of attention for each head, before `W_o`; as wide as [`Self::Queries`].
    Heads,
    /// The output of `W_o`; as wide as the model.
    Attended,
    /// As wide as the feed-forward part.
    Gate,
    /// As wide as [`Self::Gate`].
    Up,
    /// The output of the feed-forward part; as wide as the model.
    FedForward,
}

impl Value {
    pub const COUNT: usize = 10;
    pub const ALL: [Self; Self::COUNT] = [
        Self::Residual,
        Self::Normed,
        Self::Queries,
        Self::Keys,
        Self::Values,
        Self::Heads,
        Self::Attended,
        Self::Gate,
        Self::Up,
        Self::FedForward,
    ];

    /// The tensor that lies at a place.
    pub const fn at(place: Place) -> Self {
        match place {
            Place::Residual => Self::Residual,
            Place::AfterAttention => Self::Attended,
            Place::Heads => Self::Heads,
        }
    }

    pub const fn width(self, config: &ModelConfig) -> usize {
        match self {
            Self::Residual | Self::Normed | Self::Attended | Self::FedForward => config.hidden_size,
            Self::Queries | Self::Heads => config.heads * config.head_dim,
            Self::Keys | Self::Values => config.kv_heads * config.head_dim,
            Self::Gate | Self::Up => config.ffn_size,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`
    Silu,
    /// The tanh approximation of GELU.
    GeluTanh,
}

/// Number of a matrix, an index into [`ForwardPass::matrices`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatrixId(pub usize);

/// Number of a vector, an index into [`ForwardPass::vectors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VectorId(pub usize);

/// One matrix of a projection: `to = of · Wᵀ + bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// `[width of to, width of of]`
    pub matrix: MatrixId,
    /// `[width of to]`
    pub bias: Option<VectorId>,
    pub to: Value,
}

/// One operation on a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `residual = W[token]` with `W [vocab, d]`.
    Embed { matrix: MatrixId },
    /// Steering changes act on `of`, which is what lies at `site`; then it is read and captured.
    Boundary { site: Site, of: Value },
    /// `to = of / √(mean of² + ε) · gain`
    Norm {
        of: Value,
        gain: VectorId,
        epsilon: f32,
        to: Value,
    },
    /// One input, one matrix or several.
    Project { of: Value, by: Vec<Factor> },
    /// Turns element `i` of every head of `of` with its partner `i + head_dim / 2` by the angle
    /// `position · theta^(−2i / head_dim)`.
    Rotate { of: Value, theta: f32 },
    /// Stores keys and values in the cache of zero-based `block`; then `heads = softmax(queries · keysᵀ / √head_dim) · values`
    /// over all positions of the row's sequence up to its own. Neighbouring query heads share a key/value head.
    Attend { block: usize },
    /// `gate = activation(gate) · up`
    Gate { by: Activation },
    /// `residual = residual + of`
    Add { of: Value },
    /// `logits = of · Wᵀ` with `W [vocab, d]`.
    Head { of: Value, matrix: MatrixId },
}

/// A whole forward pass and the weights that it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardPass {
    /// In the order of their first use, each once: a tied head is the embedding again.
    pub matrices: Vec<ModelWeight>,
    pub vectors: Vec<ModelWeight>,
    /// From the tokens to the residual stream after the last block.
    pub body: Vec<Op>,
    /// From the residual stream to logits, for the rows that ask for them.
    pub head: Vec<Op>,
}

impl ForwardPass {
    pub fn matrix(&self, id: MatrixId) -> &ModelWeight {
        &self.matrices[id.0]
    }

    pub fn vector(&self, id: VectorId) -> &ModelWeight {
        &self.vectors[id.0]
    }
}
