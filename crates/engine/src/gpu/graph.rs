//! The forward pass as dispatches: which kernels run, over which buffers, and which of them a batch takes.

use super::parts::FEW_ROWS;
use super::shader::{Constants, Kernel};
use crate::index::Place;

/// Number of a piece of a matrix with a row for each token, which may be larger than an adapter binds at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece(pub usize);

/// A matrix on the GPU, of a block where it has a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matrix {
    Embedding(Piece),
    Head(Piece),
    /// q, k and v.
    Qkv(usize),
    Output(usize),
    GateUp(usize),
    Down(usize),
    /// What is added at each position.
    Positions,
    /// By its number in the forward pass, where nothing is merged.
    Plain(usize),
}

/// The gain of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gain {
    /// Of the norm that follows a layer of the residual stream.
    Layer(usize),
    FeedForward(usize),
    /// By its number in the forward pass, where nothing is merged; biases of norms, too.
    Plain(usize),
}

/// A buffer that a kernel is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    Step,
    /// The number of a layer.
    Layer(usize),
    Residual,
    Records,
    Changes(Place),
    Directions(Place),
    Captured(Place),
    Seen,
    Sampled,
    Logits,
    /// By their number in the forward pass.
    Rotations(usize),
    Queries,
    /// Activations that enter q, k, v, the feed-forward part and the head; their scales.
    Normalised,
    NormalisedScales,
    Attended,
    AttendedScales,
    Gated,
    GatedScales,
    /// Pools of the cache's pages, one for each block, and which sequence holds which page.
    Keys(usize),
    Values(usize),
    Pages,
    Weights(Matrix),
    Scales(Matrix),
    Gain(Gain),
}

/// Workgroups along y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Over {
    /// One for every row of the batch, in groups of this many.
    Rows(u32),
    /// One for every row that asks for the head, in groups of this many.
    HeadRows(u32),
}

/// The numbers of a batch that decide how many workgroups there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub rows: u32,
    pub head_rows: u32,
    /// Splits of the keys that a row attends to (`shaders/include/parts.wgsl`).
    pub splits: u32,
    /// Whether anything is wanted at the places inside blocks.
    pub inside: bool,
}

/// A dispatch before it is compiled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Planned {
    pub kernel: Kernel,
    pub constants: Constants,
    /// In the order of the kernel's bindings.
    pub slots: Vec<Slot>,
    pub x: u32,
    pub y: Over,
}

impl Planned {
    /// The matrices that it multiplies with.
    pub fn matrices(&self) -> impl Iterator<Item = Matrix> {
        let slots = self
            .slots
            .iter()
            .filter(|_| !matches!(self.kernel, Kernel::Embed | Kernel::AddPosition));
        slots.filter_map(|slot| match slot {
            Slot::Weights(matrix) => Some(*matrix),
            _ => None,
        })
    }
}

/// Which of [`super::plan::widths`] a batch of `rows` rows takes: the widest that is not mostly idle.
const fn width_for(rows: u32) -> usize {
    match rows as usize {
        0 | 1 => 0,
        2..=FEW_ROWS => 1,
        _ => 2,
    }
}

/// A forward pass for each of [`super::plan::widths`], as indices of `dispatches`, which are [`Planned`] or compiled.
#[derive(Debug)]
pub struct Graph<D> {
    pub dispatches: Vec<D>,
    /// From the embedding to the last boundary.
    pub ways: [Vec<usize>; 3],
    /// The same for batches of any width of which something is wanted inside blocks.
    pub inside: Vec<usize>,
    /// One for each piece of the output head.
    pub heads: [Vec<usize>; 3],
    pub sample: usize,
}

impl<D> Graph<D> {
    /// The dispatches of a forward pass over `extent`, in order.
    pub fn dispatches(&self, extent: Extent) -> impl Iterator<Item = &D> {
        let head = &self.heads[width_for(extent.head_rows)];
        let way = match extent.inside {
            true => &self.inside,
            false => &self.ways[width_for(extent.rows)],
        };
        way.iter()
            .chain(head)
            .chain([&self.sample])
            .map(|&index| &self.dispatches[index])
    }
}
