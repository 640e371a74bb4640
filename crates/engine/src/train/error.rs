//! What can go wrong in training, for the person who meets it.

use crate::error::EngineError;
use crate::steering::PlanError;

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error("this adapter does not fit: {reason}")]
    Adapter { reason: String },
    #[error("these settings cannot be trained with: {reason}")]
    Settings { reason: String },
    #[error("there is nothing to learn from: no example has a response token")]
    NothingToLearn,
    #[error("example {number} {reason}")]
    Example {
        /// Counted from 1, as the lines of a file are.
        number: usize,
        reason: String,
    },
    #[error(
        "the loss or its gradient is no longer a finite number at step {step}; the adapter is as it was before that step. \
         Start again with a lower learning rate, a smaller penalty or a smaller push"
    )]
    NotFinite { step: u32 },
    #[error("this state belongs to another run: {reason}")]
    OtherRun { reason: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}
