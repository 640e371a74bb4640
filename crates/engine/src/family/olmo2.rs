//! OLMo 2: norms after attention and the feed-forward part, none before, and norms of queries and keys over all heads together
//! (OLMo team, "2 OLMo 2 Furious", 2025).

use super::Model;
use crate::index::{Layer, Site};
use crate::op::{Op, Value::*};
use trimtab_checkpoint::family::WeightRole as Weight;

/// Zero-based block `index`, whose output is layer `index + 1`.
pub fn block(model: &Model<'_>, index: usize) -> Vec<Op> {
    let layer = Layer(index as u32 + 1);
    let norm = |of, gain| model.norm(of, gain, of, index);
    let project = |of, by: &[_]| model.project(of, by, index);
    let boundary = |site, of| Op::Boundary { site, of };
    let mut block = vec![
        model.queries_keys_values(Residual, index),
        norm(Queries, Weight::QueryNorm),
        norm(Keys, Weight::KeyNorm),
    ];
    block.extend(model.rotate(index));
    block.extend([
        model.attend(index),
        boundary(Site::heads(layer), Heads),
        project(Heads, &[(Weight::AttentionOutput, Attended)]),
        boundary(Site::after_attention(layer), Attended),
        norm(Attended, Weight::AttendedNorm),
        model.add(Attended),
        model.gate_and_up(Residual, index),
        Op::Gate {
            by: model.activation,
        },
        project(Gate, &[(Weight::Down, FedForward)]),
        norm(FedForward, Weight::FedForwardNorm),
        model.add(FedForward),
        boundary(Site::residual(layer), Residual),
    ]);
    block
}
