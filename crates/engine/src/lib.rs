//! The forward pass of a decoder-only transformer, with capture and steering.
//!
//! One plan, two executors: [`gpu`] runs the kernels of `shaders/` through wgpu, natively and in the
//! browser; [`cpu`] runs vector instructions on the processor. [`mod@reference`] is the readable f32 executor that
//! both are checked against. All take batches of rows and give back [`record::TokenRecord`]s;
//! [`engine::Engine`] keeps the conversations' caches on top of any. [`mod@train`] goes through the same plan backwards, too, and
//! trains adapters beside the weights.

pub mod adapter;
mod cache;
pub mod compare;
pub mod cpu;
pub mod device;
mod divergence;
pub mod engine;
pub mod error;
pub mod executor;
pub mod family;
pub mod forced;
pub mod generate;
pub mod gpu;
mod host;
pub mod index;
pub mod memory;
pub mod op;
mod positions;
pub mod reading;
pub mod record;
pub mod reference;
mod run;
pub mod sampling;
mod sequence;
pub mod steering;
pub mod train;
pub mod types;
mod weights;

pub use adapter::{AdapterTerm, AppliedAdapter};
pub use engine::Engine;
pub use error::EngineError;
pub use index::{Layer, Place, Position, SequenceIndex, Site, TokenId};
pub use record::{Prediction, Readings, TokenRecord};
pub use sampling::{Sampler, SamplerError};
pub use steering::{LayerTable, Operation, Scope, SteeringPlan, Term};
pub use types::{Backend, EngineOptions, Precision};
