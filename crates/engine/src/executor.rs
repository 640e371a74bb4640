//! The interface of the two executors: batches of rows in, token records out.

use crate::error::EngineError;
use crate::index::{Place, Position, SequenceIndex, TokenId};
use crate::record::TokenRecord;
use crate::sampling::Sampler;
use crate::steering::{ComposedChange, LayerTable};

/// Where a composed change is kept on the executor. Slots are written between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChangeSlot(pub u32);

/// Where a row's token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenSource {
    Id(TokenId),
    /// The token that the executor sampled last in this row's sequence, which the caller may not know yet.
    Sampled,
}

/// The prediction wanted after a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Head {
    #[default]
    Skip,
    /// Sample the next token and keep it for [`TokenSource::Sampled`].
    Sample(Sampler),
    /// Report the log-probability of this token, and the most likely ones.
    Score(TokenId),
    /// As [`Head::Score`], and report the divergence of the row before, which asks for the head too,
    /// from this one.
    Compare(TokenId),
}

impl Head {
    /// The token whose log-probability is asked for.
    pub fn target(self) -> Option<TokenId> {
        match self {
            Self::Score(target) | Self::Compare(target) => Some(target),
            Self::Skip | Self::Sample(_) => None,
        }
    }
}

/// Parts of a row's inside that are reported, at every layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    pub residual: bool,
    pub after_attention: bool,
    pub heads: bool,
    /// The weights with which each head attends to each position.
    pub attention: bool,
}

impl Capture {
    pub const NOTHING: Self = Self {
        residual: false,
        after_attention: false,
        heads: false,
        attention: false,
    };
    pub const RESIDUAL: Self = Self {
        residual: true,
        ..Self::NOTHING
    };

    pub const fn wants(self, place: Place) -> bool {
        match place {
            Place::Residual => self.residual,
            Place::AfterAttention => self.after_attention,
            Place::Heads => self.heads,
        }
    }
}

/// Everything that a row is asked for besides its readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Want {
    pub head: Head,
    pub capture: Capture,
}

impl From<Head> for Want {
    fn from(head: Head) -> Self {
        Self {
            head,
            capture: Capture::NOTHING,
        }
    }
}

/// One token to be consumed: it is embedded, sees its sequence's cache up to itself, and is
/// written into it. Rows of one sequence in one batch are in order of position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    pub sequence: SequenceIndex,
    pub position: Position,
    pub token: TokenSource,
    /// The steering change that acts on this token, if any.
    pub change: Option<ChangeSlot>,
    pub want: Want,
}

/// Rows of any sequences, run together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// At most [`Limits::rows`].
    pub rows: Vec<Row>,
}

/// The captured parts of one row, each after its change; empty unless asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Captured {
    /// `[L+1, d]`
    pub residual: Vec<f32>,
    /// `[L, d]`
    pub after_attention: Vec<f32>,
    /// `[L, heads · head_dim]`
    pub heads: Vec<f32>,
    /// `[L, heads, position + 1]`, each head's weights adding up to one.
    pub attention: Vec<f32>,
}

impl Captured {
    /// The captured rows at a place.
    pub fn at_mut(&mut self, place: Place) -> &mut Vec<f32> {
        match place {
            Place::Residual => &mut self.residual,
            Place::AfterAttention => &mut self.after_attention,
            Place::Heads => &mut self.heads,
        }
    }
}

/// The results of a batch, rows in its order.
#[derive(Clone, Debug, Default)]
pub struct BatchRecord {
    pub tokens: Vec<TokenRecord>,
    pub captured: Vec<Captured>,
}

/// The most that an executor can hold, fixed when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of one batch.
    pub rows: usize,
    /// Rows of one batch that may ask for the head.
    pub head_rows: usize,
    pub sequences: usize,
    /// Tokens of one sequence.
    pub context: usize,
    pub change_slots: usize,
    /// Batches that may be queued before one must be collected.
    pub in_flight: usize,
}

/// A forward pass. `submit` and `collect` are apart so that a GPU can run ahead of the reader.
pub trait Execute {
    fn limits(&self) -> Limits;
    /// Sets the directions that are read; each `[L+1, d]` with rows of length one (or zero). At most
    /// [`crate::record::MAX_DIRECTIONS`]; takes effect with the next batch.
    fn set_directions(&mut self, directions: &[LayerTable]) -> Result<(), EngineError>;
    /// Fills a slot; takes effect with the next batch.
    fn set_change(&mut self, slot: ChangeSlot, change: &ComposedChange) -> Result<(), EngineError>;
    /// Replaces the set of tokens that the repetition penalty counts as seen. Consumed rows add theirs.
    fn set_seen(&mut self, sequence: SequenceIndex, tokens: &[TokenId]) -> Result<(), EngineError>;
    /// Makes `to` hold the first `length` tokens of `from`, without computing or copying them; where both are the same, the
    /// sequence is shortened. What was sampled, and what the repetition penalty counts, stays with `from`. Takes effect with
    /// the next batch.
    fn fork(
        &mut self,
        from: SequenceIndex,
        to: SequenceIndex,
        length: usize,
    ) -> Result<(), EngineError>;
    /// Queues a batch. Fails when [`Limits::in_flight`] are queued.
    fn submit(&mut self, batch: &Batch) -> impl Future<Output = Result<(), EngineError>>;
    /// Waits for the oldest queued batch.
    fn collect(&mut self) -> impl Future<Output = Result<BatchRecord, EngineError>>;
}
