//! What a model directory is: configuration, weights, tokenizer and chat template.
//!
//! Nothing here knows a GPU or a browser. Weights are read header first and then tensor by
//! tensor through a [`ByteSource`], so that a caller never holds the whole file.

pub mod config;
pub mod encoding;
pub mod source;
pub mod weights;

pub use config::ModelConfig;
pub use encoding::Encoding;
pub use source::{ByteSource, SourceError};
pub use weights::{StoredTensor, WeightError, WeightFile, WeightRows};
