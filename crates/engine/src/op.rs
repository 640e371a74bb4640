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

/// Number of a rotation, an index into [`ForwardPass::rotations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RotationId(pub usize);

/// By which angles heads are turned: element `i` of a head with its partner `i + frequencies` by `position · frequencies[i]`, both
/// then times `amplitude`. Elements without a partner stay as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotation {
    /// One for each pair, at most half a head.
    pub frequencies: Vec<f32>,
    pub amplitude: f32,
}

/// One matrix of a projection: `to = of · Wᵀ + bias`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    /// `[width of to, width of of]`
    pub matrix: MatrixId,
    /// `[width of to]`
    pub bias: Option<VectorId>,
    pub to: Value,
}

/// What a norm divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// `x / √(mean x² + ε)` (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019)
    RootMeanSquare,
    /// `(x − mean x) / √(mean (x − mean x)² + ε)` (Ba et al., "Layer Normalization", 2016)
    Layer,
}

/// A norm, of every `w` neighbouring numbers by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    pub kind: NormKind,
    /// `[w]`
    pub gain: VectorId,
    /// `[w]`
    pub bias: Option<VectorId>,
    pub epsilon: f32,
}

/// What a row attends to, and how sharply.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    pub scale: f32,
    /// How many positions a row sees, its own among them; without it, all before.
    pub window: Option<usize>,
}

impl Attention {
    /// Of heads of that width, as the Transformer's (Vaswani et al., 2017).
    pub fn over_everything(head_dim: usize) -> Self {
        Self {
            scale: 1.0 / (head_dim as f32).sqrt(),
            window: None,
        }
    }

    /// The first position that a row at `position` sees.
    pub const fn first(&self, position: usize) -> usize {
        match self.window {
            Some(window) => (position + 1).saturating_sub(window),
            None => 0,
        }
    }
}

/// One operation on a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `residual = scale · W[token]` with `W [vocab, d]`.
    Embed { matrix: MatrixId, scale: f32 },
    /// `residual = residual + P[position]` with `P [context, d]`.
    AddPosition { matrix: MatrixId },
    /// Steering changes act on `of`, which is what lies at `site`; then it is read and captured.
    Boundary { site: Site, of: Value },
    /// `to = norm(of) · gain + bias`
    Norm { of: Value, by: Norm, to: Value },
    /// One input, one matrix or several.
    Project { of: Value, by: Vec<Factor> },
    /// Turns the pairs of every head of `of` by their positions.
    Rotate { of: Value, by: RotationId },
    /// Stores keys and values in the cache of zero-based `block`; then `heads = softmax(scale · queries · keysᵀ) · values`
    /// over all positions of the row's sequence up to its own that it sees. Neighbouring query heads share a key/value head.
    Attend { block: usize, by: Attention },
    /// `gate = activation(gate) · up`
    Gate { by: Activation },
    /// `gate = activation(gate)`
    Activate { by: Activation },
    /// `residual = residual + scale · of`
    Add { of: Value, scale: f32 },
    /// `logits = scale · of · Wᵀ` with `W [vocab, d]`.
    Head {
        of: Value,
        matrix: MatrixId,
        scale: f32,
    },
}

/// A whole forward pass and the weights that it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardPass {
    /// In the order of their first use, each once: a tied head is the embedding again.
    pub matrices: Vec<ModelWeight>,
    pub vectors: Vec<ModelWeight>,
    pub rotations: Vec<Rotation>,
    /// From the tokens to the residual stream after the last block.
    pub body: Vec<Op>,
    /// From the residual stream to logits, for the rows that ask for them.
    pub head: Vec<Op>,
}

impl ForwardPass {
    pub fn matrix(&self, id: MatrixId) -> &ModelWeight {
        &self.matrices[id.0]
    }

    /// The matrices that something is multiplied with; the others are looked up row by row.
    pub fn projections(&self) -> impl Iterator<Item = MatrixId> {
        let ops = self.body.iter().chain(&self.head);
        ops.flat_map(|op| match op {
            Op::Project { by, .. } => by.iter().map(|factor| factor.matrix).collect(),
            Op::Head { matrix, .. } => vec![*matrix],
            _ => Vec::new(),
        })
    }

    pub fn vector(&self, id: VectorId) -> &ModelWeight {
        &self.vectors[id.0]
    }

    pub fn rotation(&self, id: RotationId) -> &Rotation {
        &self.rotations[id.0]
    }
}
