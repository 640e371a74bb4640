//! The table of transformer families: what a family's blocks are made of, and what its weights are called.

use crate::error::EngineError;
pub use crate::op::Activation;
use trimtab_checkpoint::ModelConfig;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Positions {
    /// Rotary, halves of a head paired (Hugging Face's `rotate_half`).
    Rotary { theta: f32 },
}

/// A decoder-only transformer with pre-norm blocks and a gated feed-forward part.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    pub activation: Activation,
    pub positions: Positions,
    /// Biases on the q, k and v projections.
    pub qkv_bias: bool,
    pub names: WeightNames,
}

/// Names of the weights in the file; `{i}` stands for the zero-based block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightNames {
    pub embedding: &'static str,
    pub attention_norm: &'static str,
    pub q: &'static str,
    pub k: &'static str,
    pub v: &'static str,
    pub q_bias: &'static str,
    pub k_bias: &'static str,
    pub v_bias: &'static str,
    pub o: &'static str,
    pub ffn_norm: &'static str,
    pub gate: &'static str,
    pub up: &'static str,
    pub down: &'static str,
    pub final_norm: &'static str,
    /// Absent from the file where the embeddings are tied.
    pub head: &'static str,
}

impl WeightNames {
    /// The names that Hugging Face's llama, qwen2, qwen3 and mistral share.
    const LLAMA: Self = Self {
        embedding: "model.embed_tokens.weight",
        attention_norm: "model.layers.{i}.input_layernorm.weight",
        q: "model.layers.{i}.self_attn.q_proj.weight",
        k: "model.layers.{i}.self_attn.k_proj.weight",
        v: "model.layers.{i}.self_attn.v_proj.weight",
        q_bias: "model.layers.{i}.self_attn.q_proj.bias",
        k_bias: "model.layers.{i}.self_attn.k_proj.bias",
        v_bias: "model.layers.{i}.self_attn.v_proj.bias",
        o: "model.layers.{i}.self_attn.o_proj.weight",
        ffn_norm: "model.layers.{i}.post_attention_layernorm.weight",
        gate: "model.layers.{i}.mlp.gate_proj.weight",
        up: "model.layers.{i}.mlp.up_proj.weight",
        down: "model.layers.{i}.mlp.down_proj.weight",
        final_norm: "model.norm.weight",
        head: "lm_head.weight",
    };
}

/// The name of a weight of zero-based block `block`.
pub fn in_block(name: &str, block: usize) -> String {
    name.replace("{i}", &block.to_string())
}

impl Architecture {
    /// Looks the model's family up.
    pub fn of(config: &ModelConfig) -> Result<Self, EngineError> {
        let qkv_bias = match config.model_type.as_str() {
            "llama" if config.attention_bias => {
                return Err(EngineError::UnsupportedModel {
                    reason: "its config.json asks for attention_bias, and the bias of the output projection \
                        (model.layers.0.self_attn.o_proj.bias and the like) is not computed; use a checkpoint without"
                        .into(),
                });
            }
            "llama" | "mistral" => false,
            "qwen2" => true,
            _ => {
                return Err(EngineError::UnsupportedArchitecture {
                    model_type: config.model_type.clone(),
                    supported: "llama, mistral and qwen2".into(),
                });
            }
        };
        let activation = match config.activation.as_str() {
            "silu" => Activation::Silu,
            "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
            other => {
                return Err(EngineError::UnsupportedModel {
                    reason: format!("its activation {other:?} is not known"),
                });
            }
        };
        if config.mlp_bias {
            return Err(EngineError::UnsupportedModel {
                reason: "biases in the feed-forward part are not supported".into(),
            });
        }
        Ok(Self {
            activation,
            positions: Positions::Rotary {
                theta: config.rope_theta,
            },
            qkv_bias,
            names: WeightNames::LLAMA,
        })
    }
}
