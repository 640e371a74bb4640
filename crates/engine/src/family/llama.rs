//! Llama and its kin: pre-norm blocks of grouped-query attention with rotary positions and a gated feed-forward part
//! (Touvron et al., "LLaMA", 2023; Jiang et al., "Mistral 7B", 2023). Qwen2 adds biases to the projections to queries, keys
//! and values (Yang et al., "Qwen2", 2024), Qwen3 norms of each head's queries and keys instead (Yang et al., "Qwen3", 2025).
//! SmolLM3 has blocks without positions (after Yang et al., "RoPE to NoPE and back again", 2025), Phi-3 turns a part of each head
//! (Abdin et al., "Phi-3 Technical Report", 2024), and Granite multiplies embeddings, scores, what is added and logits by constants
//! of its own. Which of them a model has says its configuration, and its weights and their names the table of families.

use super::Model;
use crate::index::{Layer, Site};
use crate::op::{Op, Value::*};
use trimtab_checkpoint::family::WeightRole as Weight;

/// Zero-based block `index`, whose output is layer `index + 1`.
pub fn block(model: &Model<'_>, index: usize) -> Vec<Op> {
    let layer = Layer(index as u32 + 1);
    let norm = |of, gain, to| model.norm(of, gain, to, index);
    let norm_if_any = |of, gain| model.norm_if_any(of, gain, of, index);
    let project = |of, by: &[_]| model.project(of, by, index);
    let boundary = |site, of| Op::Boundary { site, of };
    let mut block = vec![
        norm(Residual, Weight::AttentionNorm, Normed),
        model.queries_keys_values(Normed, index),
    ];
    block.extend(norm_if_any(Queries, Weight::QueryNorm));
    block.extend(norm_if_any(Keys, Weight::KeyNorm));
    block.extend(model.rotate(index));
    block.extend([
        model.attend(index),
        boundary(Site::heads(layer), Heads),
        project(Heads, &[(Weight::AttentionOutput, Attended)]),
        boundary(Site::after_attention(layer), Attended),
        model.add(Attended),
        norm(Residual, Weight::FeedForwardNorm, Normed),
        model.gate_and_up(Normed, index),
        Op::Gate {
            by: model.activation,
        },
        project(Gate, &[(Weight::Down, FedForward)]),
        model.add(FedForward),
        boundary(Site::residual(layer), Residual),
    ]);
    block
}
