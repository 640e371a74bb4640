//! Llama, Mistral and Qwen2: pre-norm blocks of grouped-query attention with rotary positions and a gated feed-forward part
//! (Touvron et al., "LLaMA", 2023; Jiang et al., "Mistral 7B", 2023). Qwen2 adds biases to the projections to queries, keys
//! and values (Yang et al., "Qwen2", 2024). Which of them a model has, and their names, says the table of families.

use super::Model;
use crate::index::{Layer, Site};
use crate::op::{Op, Value::*};
use trimtab_checkpoint::family::WeightRole as Weight;

/// From the tokens to the residual stream after the last block.
pub fn body(model: &Model<'_>) -> Vec<Op> {
    let embed = Op::Embed {
        matrix: model.matrix(Weight::Embedding, 0),
    };
    let first = Op::Boundary {
        site: Site::residual(Layer(0)),
        of: Residual,
    };
    let blocks = (0..model.config.layers).flat_map(|index| block(model, index));
    [embed, first].into_iter().chain(blocks).collect()
}

/// Zero-based block `index`, whose output is layer `index + 1`.
fn block(model: &Model<'_>, index: usize) -> Vec<Op> {
    let layer = Layer(index as u32 + 1);
    let theta = model.config.rope_theta;
    let norm = |role| model.norm(role, index);
    let project = |of, by: &[_]| model.project(of, by, index);
    let boundary = |site, of| Op::Boundary { site, of };
    vec![
        norm(Weight::AttentionNorm),
        project(
            Normed,
            &[
                (Weight::Query, Queries),
                (Weight::Key, Keys),
                (Weight::Value, Values),
            ],
        ),
        Op::Rotate { of: Queries, theta },
        Op::Rotate { of: Keys, theta },
        Op::Attend { block: index },
        boundary(Site::heads(layer), Heads),
        project(Heads, &[(Weight::AttentionOutput, Attended)]),
        boundary(Site::after_attention(layer), Attended),
        Op::Add { of: Attended },
        norm(Weight::FeedForwardNorm),
        project(Normed, &[(Weight::Gate, Gate), (Weight::Up, Up)]),
        Op::Gate {
            by: model.activation,
        },
        project(Gate, &[(Weight::Down, FedForward)]),
        Op::Add { of: FedForward },
        boundary(Site::residual(layer), Residual),
    ]
}

/// From the residual stream to logits.
pub fn head(model: &Model<'_>) -> Vec<Op> {
    let head = match model.config.tied_embeddings {
        true => Weight::Embedding,
        false => Weight::OutputHead,
    };
    vec![
        model.norm(Weight::FinalNorm, 0),
        Op::Head {
            of: Normed,
            matrix: model.matrix(head, 0),
        },
    ]
}
