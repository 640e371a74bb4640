//! Model directories: configuration, weights, tokenizer and chat template.
//!
//! Nothing here knows a GPU or a browser. Weights are read header first and then tensor by
//! tensor through a [`ByteSource`], so that a caller never holds the whole file.

pub mod adapter;
pub mod chat;
pub mod config;
pub mod convert;
pub mod encoding;
mod error;
pub mod family;
pub mod header;
pub mod hub;
pub mod layout;
pub mod manifest;
pub mod published_file;
pub mod rotary;
pub mod source;
pub mod text;
pub mod tokenizer;
pub mod weights;

pub use chat::{ChatError, ChatTemplate, ChatTokens, Message, Part};
pub use config::{ConfigError, ModelConfig};
pub use encoding::{BLOCK, Encoding};
pub use error::WeightError;
pub use layout::StoredTensor;
pub use rotary::Rotary;
#[cfg(not(target_arch = "wasm32"))]
pub use source::FileSource;
pub use source::{ByteSource, SourceError};
pub use tokenizer::{Pieces, Tokenizer, TokenizerError};
pub use weights::{WeightFile, WeightRows};
