//! The head and its loss, in pieces of rows: all logits of a micro-batch at once would be its largest tensor.

use super::kernels::TrainingKernels;
use super::model::BaseModel;
use super::walk::{Tensors, Walk};
use crate::index::TokenId;
use crate::op::{Op, Value};

/// Rows whose logits are there together: enough to reuse each unpacked weight, few enough for a browser tab's memory.
const PIECE: usize = 48;

/// What the rows of a micro-batch lost, and the derivative by the residual stream that they had.
#[derive(Debug, Default)]
pub(super) struct Loss {
    /// Negative log-likelihood in nats, summed over response tokens.
    pub sum: f64,
    /// `[rows, d]`; empty where no backward was asked for.
    pub d_residual: Vec<f32>,
}

impl Walk<'_> {
    /// The loss of every response token given `residual` (`[rows, d]`), the stream behind the last block; with a `weight`,
    /// derivatives of `weight` times their sum.
    pub fn loss(&self, residual: &[f32], weight: Option<f32>) -> Loss {
        let width = self.model.config().hidden_size;
        let mut loss = Loss::default();
        if weight.is_some() {
            loss.d_residual = vec![0.0; residual.len()];
        }
        for piece in self.rows.predicting.chunks(PIECE) {
            let rows = piece
                .iter()
                .flat_map(|(row, _)| residual[row * width..][..width].iter().copied());
            let targets: Vec<TokenId> = piece.iter().map(|(_, target)| *target).collect();
            let (sum, dx) = self.piece(rows.collect(), &targets, weight);
            loss.sum += sum;
            for ((row, _), dx) in piece.iter().zip(dx.chunks(width)) {
                loss.d_residual[row * width..][..width].copy_from_slice(dx);
            }
        }
        loss
    }

    fn piece(
        &self,
        residual: Vec<f32>,
        targets: &[TokenId],
        weight: Option<f32>,
    ) -> (f64, Vec<f32>) {
        let (kernels, model): (&dyn TrainingKernels, &BaseModel) = (self.kernels, self.model);
        let ops = &model.pass().head;
        let mut values = Tensors::with(Value::Residual, residual.into());
        let mut notes = Vec::new();
        self.forward(ops, &mut values, Some(&mut notes));
        let mut sum = 0.0;
        let mut d = Tensors::default();
        for op in ops {
            if let Op::Head { of, matrix, scale } = op {
                let matrix = &model.weights()[*matrix];
                let mut logits = kernels.project(&[matrix], values.get(*of)).swap_remove(0);
                if *scale != 1.0 {
                    logits.iter_mut().for_each(|logit| *logit *= scale);
                }
                // The derivative by a logit before it was scaled is that by the scaled one times the scale.
                let weight = weight.unwrap_or(0.0) * scale;
                let losses = kernels.cross_entropy(&mut logits, targets, weight);
                sum += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
                if weight != 0.0 {
                    let mut dx = vec![0.0; targets.len() * matrix.cols];
                    kernels.project_backward(&[(matrix, &logits)], &mut dx);
                    d.set(*of, dx);
                }
            }
        }
        if weight.is_none() {
            return (sum, Vec::new());
        }
        self.backward(ops, notes, &mut d, false, &mut []);
        (sum, d.take(Value::Residual))
    }
}
