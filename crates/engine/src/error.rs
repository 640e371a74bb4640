//! Everything that can go wrong, written for the person who meets it.

use crate::Backend;
use crate::memory::Shortage;
use crate::sampling::SamplerError;
use crate::steering::PlanError;
use trimtab_checkpoint::family::FamilyError;
use trimtab_checkpoint::{SourceError, WeightError};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("this model cannot run here: {0}")]
    Family(#[from] FamilyError),
    #[error("this model cannot run here: {reason}")]
    UnsupportedModel { reason: String },
    #[error(transparent)]
    Weights(#[from] WeightError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    #[error(
        "no WebGPU or Vulkan/Metal/DX12 adapter was found ({reason}); choose the CPU instead, or use a browser with WebGPU (Chrome or Edge 113 and later)"
    )]
    NoAdapter { reason: String },
    #[error(
        "the graphics device was lost ({reason}); load the model again, your conversation is kept"
    )]
    DeviceLost { reason: String },
    #[error(
        "the graphics device has not enough memory for {what}; close other tabs, choose a shorter context, or use the CPU"
    )]
    OutOfMemory { what: String },
    #[error(transparent)]
    NoRoom(#[from] Shortage),
    #[error("the graphics device refused {what}: {reason}")]
    Device { what: String, reason: String },
    #[error(
        "{tokens} tokens do not fit: this engine holds {context}{reason}; shorten the conversation{remedy}",
        reason = if *unscaled { ", because the positions of this model are not scaled for longer texts here" } else { "" },
        remedy = if *longest { "" } else { " or load the model with a longer context" }
    )]
    ContextFull {
        tokens: usize,
        context: usize,
        /// Whether the context is bounded by the texts that the model was first trained on: longer ones need other rotary
        /// frequencies from their first token on.
        unscaled: bool,
        /// Whether the model allows no longer context.
        longest: bool,
    },
    #[error("token {token} is not in the vocabulary of {vocab}")]
    NoSuchToken { token: u32, vocab: usize },
    #[error("at most {max} directions can be read at once, {asked} were asked for")]
    TooManyDirections { asked: usize, max: usize },
    #[error(
        "the model computed a number that is not finite at position {position}; {cause}",
        cause = match backend {
            Backend::Gpu => "either this device computes wrongly or the model's weights are broken: choose the CPU, and where that says the same, get the model again",
            Backend::Cpu | Backend::Reference => "its weights are broken, or too large for the form that they were converted to: get the model again, or convert it without quantising",
        }
    )]
    NotFinite { position: u32, backend: Backend },
    #[error(
        "the graphics device{adapter} computes wrongly: in a test before the model was loaded, {what}; it is not used. Update the browser or the graphics driver, and choose the processor (CPU) until then"
    )]
    WrongNumbers {
        /// Its name in parentheses; browsers give none.
        adapter: String,
        what: String,
    },
    #[error("{0}")]
    Usage(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_gpu_is_suspected_of_computing_wrongly() {
        let sentence = |backend| {
            EngineError::NotFinite {
                position: 3,
                backend,
            }
            .to_string()
        };
        assert!(sentence(Backend::Gpu).contains("this device computes wrongly or"));
        for backend in [Backend::Cpu, Backend::Reference] {
            assert!(!sentence(backend).contains("device"));
            assert!(sentence(backend).contains("weights are broken"));
        }
    }
}
