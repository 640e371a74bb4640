//! One micro-batch forwards and backwards, a block at a time, so that whoever drives it may do something in between.
//!
//! The input of each block above the lowest adapter is kept. What a block's operations note for their backward is kept for the
//! last blocks, as far as memory was granted, and computed again for the others. Below the lowest adapter nothing has a derivative.

use super::adapter::Adapter;
use super::changes::{Changes, Penalty};
use super::example::Rows;
use super::kernels::TrainingKernels;
use super::model::BaseModel;
use super::walk::{Noted, Penalised, Tensor, Tensors, Walk};
use crate::op::Value;
use std::sync::Arc;

/// Where a pass has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The next block up to the lowest adapter.
    Below(usize),
    /// The next block of the base model, for what a penalty compares with.
    Base(usize),
    Forward(usize),
    Head,
    Backward(usize),
    Done,
}

/// What all passes of a run share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'a> {
    pub model: &'a BaseModel,
    pub kernels: &'a dyn TrainingKernels,
    pub adapter: &'a Adapter,
    pub changes: &'a Changes,
    pub penalty: Option<&'a Penalty>,
    /// Bytes of notes that may be kept from the way there for the way back.
    pub notes_bytes: usize,
}

/// A micro-batch on its way.
#[derive(Debug)]
pub(super) struct Pass {
    rows: Rows,
    stage: Stage,
    /// One divided by the response tokens that a step's loss is averaged over.
    share: f32,
    /// The residual stream, `[rows, d]`.
    residual: Tensor,
    /// What enters the lowest adapted block, once it is known.
    entry: Option<Tensor>,
    /// The base model's projections on the penalty's direction, `[rows]`.
    base: Vec<f32>,
    /// What entered each block from the lowest adapted one on.
    inputs: Vec<Tensor>,
    /// What each of these blocks noted, where it was kept.
    notes: Vec<Option<Vec<Noted>>>,
    d_residual: Vec<f32>,
    /// Sums over the response tokens.
    pub loss: f64,
    pub penalty: f64,
}

impl Pass {
    /// Of `rows`, in a step whose loss is averaged over `response_tokens`. `entry` is what enters the lowest adapted block,
    /// where it is known from before.
    pub fn new(rows: Rows, response_tokens: usize, entry: Option<Vec<f32>>) -> Self {
        Self {
            rows,
            stage: Stage::Below(0),
            share: 1.0 / response_tokens as f32,
            residual: Tensor::default(),
            entry: entry.map(Tensor::new),
            base: Vec::new(),
            inputs: Vec::new(),
            notes: Vec::new(),
            d_residual: Vec::new(),
            loss: 0.0,
            penalty: 0.0,
        }
    }

    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// What entered the lowest adapted block, `[rows, d]`, once the pass has come so far.
    pub fn entry(&self) -> Option<&[f32]> {
        self.entry.as_ref().map(|entry| &entry[..])
    }

    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    fn walk<'a>(&'a self, shared: &Shared<'a>, adapted: bool) -> Walk<'a> {
        let penalised = shared.penalty.map(|penalty| Penalised {
            penalty,
            base: &self.base,
            share: self.share,
        });
        Walk {
            model: shared.model,
            kernels: shared.kernels,
            adapter: adapted.then_some(shared.adapter),
            changes: shared.changes,
            penalised: penalised.filter(|_| adapted),
            rows: &self.rows,
        }
    }

    /// One block further, or the head; adds to `gradient` on the way back.
    pub fn advance(&mut self, shared: &Shared<'_>, gradient: &mut [f32]) {
        let lowest = shared.adapter.lowest_block();
        let last = shared.model.config().layers;
        self.stage = match self.stage {
            Stage::Below(next) => match &self.entry {
                Some(entry) => {
                    self.residual = Arc::clone(entry);
                    self.enter(shared, lowest)
                }
                None => {
                    self.below(shared, next);
                    match next + 1 > lowest {
                        true => {
                            self.entry = Some(Arc::clone(&self.residual));
                            self.enter(shared, lowest)
                        }
                        false => Stage::Below(next + 1),
                    }
                }
            },
            Stage::Base(block) => {
                self.forward(shared, block, false);
                match shared.penalty {
                    Some(penalty) if block + 1 == penalty.layer.index() => {
                        let rows = self.residual.chunks(penalty.direction.len());
                        let dot = |h| shared.kernels.dot(h, &penalty.direction);
                        self.base = rows.map(dot).collect();
                        if let Some(entry) = &self.entry {
                            self.residual = Arc::clone(entry);
                        }
                        Stage::Forward(lowest)
                    }
                    _ => Stage::Base(block + 1),
                }
            }
            Stage::Forward(block) => {
                self.forward(shared, block, true);
                match block + 1 == last {
                    true => Stage::Head,
                    false => Stage::Forward(block + 1),
                }
            }
            Stage::Head => {
                let walk = self.walk(shared, true);
                let loss = walk.loss(&self.residual, Some(self.share));
                self.loss = loss.sum;
                self.d_residual = loss.d_residual;
                self.residual = Tensor::default();
                Stage::Backward(last - 1)
            }
            Stage::Backward(block) => {
                self.backward(shared, block, gradient);
                match block == lowest {
                    true => Stage::Done,
                    false => Stage::Backward(block - 1),
                }
            }
            Stage::Done => Stage::Done,
        };
    }

    fn enter(&self, shared: &Shared<'_>, lowest: usize) -> Stage {
        match shared.penalty {
            Some(_) => Stage::Base(lowest),
            None => Stage::Forward(lowest),
        }
    }

    /// The embedding, or the block before number `next`.
    fn below(&mut self, shared: &Shared<'_>, next: usize) {
        match next.checked_sub(1) {
            Some(block) => self.forward(shared, block, false),
            None => {
                let mut values = Tensors::default();
                let ops = shared.model.before_blocks();
                self.walk(shared, false).forward(ops, &mut values, None);
                self.residual = values.take(Value::Residual);
            }
        }
    }

    fn forward(&mut self, shared: &Shared<'_>, block: usize, adapted: bool) {
        let input = std::mem::take(&mut self.residual);
        let mut values = Tensors::with(Value::Residual, Arc::clone(&input));
        let ops = shared.model.block(block);
        let mut notes = Vec::new();
        let keep = adapted && self.keeps(shared, block);
        let wanted = keep.then_some(&mut notes);
        self.walk(shared, adapted).forward(ops, &mut values, wanted);
        self.residual = values.take(Value::Residual);
        if adapted {
            self.inputs.push(input);
            self.notes.push(keep.then_some(notes));
        }
    }

    /// Whether the notes of a block fit what was granted, together with those of the blocks above it.
    fn keeps(&self, shared: &Shared<'_>, block: usize) -> bool {
        let above = shared.model.config().layers - block;
        let of_block = shared.model.note_numbers() * self.rows.count() * size_of::<f32>();
        // The last block's are wanted at once.
        above == 1 || above.saturating_mul(of_block) <= shared.notes_bytes
    }

    fn backward(&mut self, shared: &Shared<'_>, block: usize, gradient: &mut [f32]) {
        let (Some(input), Some(notes)) = (self.inputs.pop(), self.notes.pop()) else {
            return;
        };
        let mut d = Tensors::with(Value::Residual, std::mem::take(&mut self.d_residual));
        let walk = self.walk(shared, true);
        let ops = shared.model.block(block);
        let notes = notes.unwrap_or_else(|| {
            let mut notes = Vec::new();
            let mut values = Tensors::with(Value::Residual, input);
            walk.forward(ops, &mut values, Some(&mut notes));
            notes
        });
        let penalty = walk.penalty(&notes);
        let lowest = block == shared.adapter.lowest_block();
        walk.backward(ops, notes, &mut d, lowest, gradient);
        self.penalty += penalty;
        self.d_residual = match lowest {
            true => Vec::new(),
            false => d.take(Value::Residual),
        };
    }
}
