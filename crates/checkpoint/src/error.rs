//! Why a weight file cannot be used.

use crate::source::SourceError;

#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error("the weight file's header is not usable: {reason}")]
    Header { reason: String },
    #[error("tensor {tensor}: {reason}")]
    Tensor { tensor: String, reason: String },
    #[error(transparent)]
    Source(#[from] SourceError),
}
