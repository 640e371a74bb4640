//! Gemma 3: norms before and after attention and the feed-forward part, norms of each head's queries and keys, embeddings times √d,
//! and for every block that attends to everything several that slide over a window, with rotary positions of a smaller base
//! (Gemma team, "Gemma 3 Technical Report", 2025). Its gains are kept as what they are above one.

use super::Model;
use crate::index::{Layer, Site};
use crate::op::{Op, Value::*};
use trimtab_checkpoint::family::WeightRole as Weight;

/// Zero-based block `index`, whose output is layer `index + 1`.
pub fn block(model: &Model<'_>, index: usize) -> Vec<Op> {
    let layer = Layer(index as u32 + 1);
    let norm = |of, gain, to| model.norm(of, gain, to, index);
    let project = |of, by: &[_]| model.project(of, by, index);
    let boundary = |site, of| Op::Boundary { site, of };
    let mut block = vec![
        norm(Residual, Weight::AttentionNorm, Normed),
        model.queries_keys_values(Normed, index),
        norm(Queries, Weight::QueryNorm, Queries),
        norm(Keys, Weight::KeyNorm, Keys),
    ];
    block.extend(model.rotate(index));
    block.extend([
        model.attend(index),
        boundary(Site::heads(layer), Heads),
        project(Heads, &[(Weight::AttentionOutput, Attended)]),
        boundary(Site::after_attention(layer), Attended),
        norm(Attended, Weight::AttendedNorm, Attended),
        model.add(Attended),
        norm(Residual, Weight::FeedForwardNorm, Normed),
        model.gate_and_up(Normed, index),
        Op::Gate {
            by: model.activation,
        },
        project(Gate, &[(Weight::Down, FedForward)]),
        norm(FedForward, Weight::FedForwardNorm, FedForward),
        model.add(FedForward),
        boundary(Site::residual(layer), Residual),
    ]);
    block
}
