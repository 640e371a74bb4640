//! GPT-2: pre-norm blocks with layer norms, learned positions that are added to the embeddings, biases everywhere and a feed-forward
//! part without a gate (Radford et al., "Language Models are Unsupervised Multitask Learners", 2019).

use super::Model;
use crate::index::{Layer, Site};
use crate::op::{Op, Value::*};
use trimtab_checkpoint::family::WeightRole as Weight;

/// From the tokens to the residual stream after the last block.
pub fn body(model: &Model<'_>) -> Vec<Op> {
    let before = [
        model.embed(),
        Op::AddPosition {
            matrix: model.matrix(Weight::Positions, 0),
        },
        Op::Boundary {
            site: Site::residual(Layer(0)),
            of: Residual,
        },
    ];
    let blocks = (0..model.config.layers).flat_map(|index| block(model, index));
    before.into_iter().chain(blocks).collect()
}

/// Zero-based block `index`, whose output is layer `index + 1`.
fn block(model: &Model<'_>, index: usize) -> Vec<Op> {
    let layer = Layer(index as u32 + 1);
    let project = |of, by: &[_]| model.project(of, by, index);
    let boundary = |site, of| Op::Boundary { site, of };
    vec![
        model.layer_norm(Weight::AttentionNorm, index),
        project(
            Normed,
            &[
                (Weight::Query, Queries),
                (Weight::Key, Keys),
                (Weight::Value, Values),
            ],
        ),
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

/// From the residual stream to logits.
pub fn head(model: &Model<'_>) -> Vec<Op> {
    vec![model.layer_norm(Weight::FinalNorm, 0), model.head()]
}
