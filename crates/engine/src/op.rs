//! What a forward pass is made of: a flat list of operations, in the order in which the paper has them.
//!
//! A family ([`crate::family`]) gives the list with the names of its weights; [`ForwardPass::of`] gives each weight a number
//! and a shape; every executor goes through the list from its first operation to its last. There is no graph, no
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

/// A tensor of a batch, `[rows, width]` in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The residual stream; as wide as the model.
    Residual,
    /// What enters projections after a norm; as wide as the model.
    Normed,
    /// `heads · head_dim` wide.
    Queries,
    /// `kv_heads · head_dim` wide.
    Keys,
    /// As wide as [`Self::Keys`].
    Values,
    /// What attention makes of each head, before `W_o`; as wide as [`Self::Queries`].
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
pub struct Factor<M = MatrixId, V = VectorId> {
    /// `[width of to, width of of]`
    pub matrix: M,
    /// `[width of to]`
    pub bias: Option<V>,
    pub to: Value,
}

/// One operation on a batch. Weights are named by `M` and `V`: by name in a family's file, by number elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Op<M = MatrixId, V = VectorId> {
    /// `residual = W[token]` with `W [vocab, d]`.
    Embed { matrix: M },
    /// Steering changes act on `of`, which is what lies at `site`; then it is read and captured.
    Boundary { site: Site, of: Value },
    /// `to = of / √(mean of² + ε) · gain`
    Norm {
        of: Value,
        gain: V,
        epsilon: f32,
        to: Value,
    },
    /// One input, one matrix or several.
    Project { of: Value, by: Vec<Factor<M, V>> },
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
    Head { of: Value, matrix: M },
}

/// An operation as a family's file gives it.
pub type NamedOp = Op<String, String>;

/// A weight as the file of weights has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    /// 1 for a vector.
    pub rows: usize,
    pub cols: usize,
}

/// A whole forward pass and the weights that it reads.
#[derive(Clone, Debug, PartialEq)]
pub struct ForwardPass {
    /// In the order of their first use, each once.
    pub matrices: Vec<Tensor>,
    pub vectors: Vec<Tensor>,
    /// From the tokens to the residual stream after the last block.
    pub body: Vec<Op>,
    /// From the residual stream to logits, for the rows that ask for them.
    pub head: Vec<Op>,
}

impl ForwardPass {
    /// Numbers the weights that `body` and `head` name.
    pub fn new(config: &ModelConfig, body: Vec<NamedOp>, head: Vec<NamedOp>) -> Self {
        let mut pass = Self {
            matrices: Vec::new(),
            vectors: Vec::new(),
            body: Vec::new(),
            head: Vec::new(),
        };
        pass.body = body
            .into_iter()
            .map(|op| pass.numbered(config, op))
            .collect();
        pass.head = head
            .into_iter()
            .map(|op| pass.numbered(config, op))
            .collect();
        pass
    }

    /// All weights, matrices first.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.matrices.iter().chain(&self.vectors)
    }

    pub fn matrix(&self, id: MatrixId) -> &Tensor {
        &self.matrices[id.0]
    }

    pub fn vector(&self, id: VectorId) -> &Tensor {
        &self.vectors[id.0]
    }

    fn numbered(&mut self, config: &ModelConfig, op: NamedOp) -> Op {
        let (vocab, width) = (config.vocab_size, |value: Value| value.width(config));
        match op {
            Op::Embed { matrix } => Op::Embed {
                matrix: self.add_matrix(matrix, vocab, width(Value::Residual)),
            },
            Op::Boundary { site, of } => Op::Boundary { site, of },
            Op::Norm {
                of,
                gain,
                epsilon,
                to,
            } => Op::Norm {
                of,
                gain: self.add_vector(gain, width(of)),
                epsilon,
                to,
            },
            Op::Project { of, by } => Op::Project {
                of,
                by: by
                    .into_iter()
                    .map(|factor| Factor {
                        matrix: self.add_matrix(factor.matrix, width(factor.to), width(of)),
                        bias: factor
                            .bias
                            .map(|bias| self.add_vector(bias, width(factor.to))),
                        to: factor.to,
                    })
                    .collect(),
            },
            Op::Rotate { of, theta } => Op::Rotate { of, theta },
            Op::Attend { block } => Op::Attend { block },
            Op::Gate { by } => Op::Gate { by },
            Op::Add { of } => Op::Add { of },
            Op::Head { of, matrix } => Op::Head {
                of,
                matrix: self.add_matrix(matrix, vocab, width(of)),
            },
        }
    }

    fn add_matrix(&mut self, name: String, rows: usize, cols: usize) -> MatrixId {
        MatrixId(add(&mut self.matrices, name, rows, cols))
    }

    fn add_vector(&mut self, name: String, cols: usize) -> VectorId {
        VectorId(add(&mut self.vectors, name, 1, cols))
    }
}

/// The index of the tensor called `name`, which is added unless it is there: a tied head is the embedding again.
fn add(tensors: &mut Vec<Tensor>, name: String, rows: usize, cols: usize) -> usize {
    let known = tensors.iter().position(|tensor| tensor.name == name);
    known.unwrap_or_else(|| {
        tensors.push(Tensor { name, rows, cols });
        tensors.len() - 1
    })
}
