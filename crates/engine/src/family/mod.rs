//! Families of decoder-only transformers, each a file with the flat list of operations that it consists of.

pub mod llama;
pub mod qwen2;

use crate::error::EngineError;
use crate::op::{Activation, ForwardPass};
use std::collections::HashSet;
use trimtab_checkpoint::family::{self, WeightRole, is_redundant};
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

impl ForwardPass {
    /// The forward pass of the model's family.
    pub fn of(config: &ModelConfig) -> Result<Self, EngineError> {
        let unsupported = |reason: String| EngineError::UnsupportedModel { reason };
        let activation = match config.activation.as_str() {
            "silu" => Activation::Silu,
            "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
            other => {
                return Err(unsupported(format!(
                    "its activation {other:?} is not known"
                )));
            }
        };
        if config.mlp_bias {
            let reason = "biases in the feed-forward part are not supported";
            return Err(unsupported(reason.into()));
        }
        let body = match config.model_type.as_str() {
            "llama" if config.attention_bias => {
                return Err(unsupported(
                    "its config.json asks for attention_bias, and the bias of the output projection \
                     (model.layers.0.self_attn.o_proj.bias and the like) is not computed; use a checkpoint without"
                        .into(),
                ));
            }
            "llama" | "mistral" => llama::body(config, activation),
            "qwen2" => qwen2::body(config, activation),
            _ => {
                return Err(EngineError::UnsupportedArchitecture {
                    model_type: config.model_type.clone(),
                    supported: "llama, mistral and qwen2".into(),
                });
            }
        };
        Ok(Self::new(config, body, llama::head(config)))
    }

    /// Refuses a file with a tensor that no operation reads: left unread, it would make every number wrong without a word.
    pub fn check_names<S: ByteSource>(
        &self,
        config: &ModelConfig,
        file: &WeightFile<S>,
    ) -> Result<(), EngineError> {
        let known: HashSet<&str> = self.tensors().map(|tensor| tensor.name.as_str()).collect();
        // A head beside tied embeddings has their numbers (`WeightFile::has_own_head`).
        let head = family::Family::of(config).map(|family| family.name(WeightRole::OutputHead, 0));
        let copy = |name: &str| head.as_ref().is_ok_and(|head| head == name);
        let unknown = file
            .names()
            .find(|name| !known.contains(name) && !is_redundant(name) && !copy(name));
        match unknown {
            None => Ok(()),
            Some(name) => Err(EngineError::UnsupportedModel {
                reason: format!(
                    "its weight file has a tensor {name:?}, which a model of type {:?} does not have here; \
                     computed without it, every answer would be wrong",
                    config.model_type
                ),
            }),
        }
    }
}
