//! Llama and Mistral: pre-norm blocks of grouped-query attention with rotary positions and a gated feed-forward part
//! (Touvron et al., "LLaMA", 2023; Jiang et al., "Mistral 7B", 2023). Names of weights are Hugging Face's.

use crate::index::{Layer, Site};
use crate::op::{Activation, Factor, NamedOp, Op, Value::*};
use trimtab_checkpoint::ModelConfig;

/// From the tokens to the residual stream after the last block.
pub fn body(config: &ModelConfig, activation: Activation) -> Vec<NamedOp> {
    let mut ops = vec![
        Op::Embed {
            matrix: EMBEDDING.into(),
        },
        boundary(Site::residual(Layer(0)), Residual),
    ];
    for index in 0..config.layers {
        ops.extend(block(config, index, activation));
    }
    ops
}

/// Zero-based block `index`, whose output is layer `index + 1`.
pub fn block(config: &ModelConfig, index: usize, activation: Activation) -> Vec<NamedOp> {
    let layer = Layer(index as u32 + 1);
    let (theta, epsilon) = (config.rope_theta, config.norm_epsilon);
    let weight = |name: &str| format!("model.layers.{index}.{name}.weight");
    let norm = |name: &str| Op::Norm {
        of: Residual,
        gain: weight(name),
        epsilon,
        to: Normed,
    };
    let by = |name: &str, to| Factor {
        matrix: weight(name),
        bias: None,
        to,
    };
    vec![
        norm("input_layernorm"),
        Op::Project {
            of: Normed,
            by: vec![
                by("self_attn.q_proj", Queries),
                by("self_attn.k_proj", Keys),
                by("self_attn.v_proj", Values),
            ],
        },
        Op::Rotate { of: Queries, theta },
        Op::Rotate { of: Keys, theta },
        Op::Attend { block: index },
        boundary(Site::heads(layer), Heads),
        Op::Project {
            of: Heads,
            by: vec![by("self_attn.o_proj", Attended)],
        },
        boundary(Site::after_attention(layer), Attended),
        Op::Add { of: Attended },
        norm("post_attention_layernorm"),
        Op::Project {
            of: Normed,
            by: vec![by("mlp.gate_proj", Gate), by("mlp.up_proj", Up)],
        },
        Op::Gate { by: activation },
        Op::Project {
            of: Gate,
            by: vec![by("mlp.down_proj", FedForward)],
        },
        Op::Add { of: FedForward },
        boundary(Site::residual(layer), Residual),
    ]
}

/// From the residual stream to logits.
pub fn head(config: &ModelConfig) -> Vec<NamedOp> {
    let epsilon = config.norm_epsilon;
    let matrix = if config.tied_embeddings {
        EMBEDDING
    } else {
        "lm_head.weight"
    };
    vec![
        Op::Norm {
            of: Residual,
            gain: "model.norm.weight".into(),
            epsilon,
            to: Normed,
        },
        Op::Head {
            of: Normed,
            matrix: matrix.into(),
        },
    ]
}

const EMBEDDING: &str = "model.embed_tokens.weight";

fn boundary(site: Site, of: crate::op::Value) -> NamedOp {
    Op::Boundary { site, of }
}
