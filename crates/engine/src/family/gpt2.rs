//! GPT-2: pre-norm blocks with layer norms, learned positions that are added to the embeddings, biases everywhere and a feed-forward
//! part without a gate (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).

use super::Model;
use crate::index::{Layer, Site};
use crate::op::{Op, Value::*};
use trimtab_checkpoint::family::WeightRole as Weight;

/// Zero-based block `index`, whose output is layer `index + 1`.
pub fn block(model: &Model<'_>, index: usize) -> Vec<Op> {
    let layer = Layer(index as u32 + 1);
    let project = |of, by: &[_]| model.project(of, by, index);
    let boundary = |site, of| Op::Boundary { site, of };
    vec![
        model.layer_norm(Weight::AttentionNorm, index),
        model.queries_keys_values(Normed, index),
        model.attend(index),
        boundary(Site::heads(layer), Heads),
        project(Heads, &[(Weight::AttentionOutput, Attended)]),
        boundary(Site::after_attention(layer), Attended),
        model.add(Attended),
        model.layer_norm(Weight::FeedForwardNorm, index),
        project(Normed, &[(Weight::Up, Gate)]),
        Op::Activate {
            by: model.activation,
        },
        project(Gate, &[(Weight::Down, FedForward)]),
        model.add(FedForward),
        boundary(Site::residual(layer), Residual),
    ]
}
