//! The list of operations as today's kernels compute it: block by block, each block as a few kernels that keep what lies
//! between operations to themselves. A list that has something else in it is declined, and computed one by one (`super::plain`); where
//! something between is wanted, kernels that leave it in memory take the place of those that do not (`super::plan`).

use crate::index::Place;
use crate::op::{
    Activation, Attention, Factor, ForwardPass, MatrixId, Norm, NormKind, Op, RotationId, Value::*,
    VectorId,
};

/// The weights of a model by the kernels that read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    pub embedding: MatrixId,
    pub blocks: Vec<FusedBlock>,
    pub rotation: RotationId,
    pub activation: Activation,
    pub final_norm: VectorId,
    pub head: MatrixId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct FusedBlock {
    pub attention_norm: VectorId,
    pub qkv: [Factor; 3],
    pub output: MatrixId,
    pub feed_forward_norm: VectorId,
    pub gate_up: [MatrixId; 2],
    pub down: MatrixId,
}

/// Recognises the operations of `pass`, whose heads are `head_dim` wide; `None`: they are computed one by one (`super::plain`).
pub fn fuse(pass: &ForwardPass, head_dim: usize) -> Option<Fused> {
    let [
        Op::Embed { matrix, scale: 1.0 },
        Op::Boundary { .. },
        rest @ ..,
    ] = &pass.body[..]
    else {
        return None;
    };
    let [
        Op::Norm {
            of: Residual,
            by: final_norm,
            to: Normed,
        },
        Op::Head {
            of: Normed,
            matrix: head,
            scale: 1.0,
        },
    ] = pass.head[..]
    else {
        return None;
    };
    let (mut blocks, mut kinds, mut rest) = (Vec::new(), None, rest);
    while !rest.is_empty() {
        let (block, kind, after) = first_block(rest)?;
        // One table of rotations and one activation serve all blocks.
        if *kinds.get_or_insert(kind) != kind {
            return None;
        }
        blocks.push(block);
        rest = after;
    }
    let (rotation, activation, attention) = kinds?;
    if attention != Attention::over_everything(head_dim) {
        return None;
    }
    // Rows of q and k are laid out in pairs that are half a head apart.
    if 2 * pass.rotation(rotation).frequencies.len() != head_dim {
        return None;
    }
    Some(Fused {
        embedding: *matrix,
        blocks,
        rotation,
        activation,
        final_norm: plain(final_norm)?,
        head,
    })
}

/// What is the same in all blocks that are merged.
type Kinds = (RotationId, Activation, Attention);

/// The block that `ops` begin with, its rotation, activation and attention, and the operations after it.
fn first_block(ops: &[Op]) -> Option<(FusedBlock, Kinds, &[Op])> {
    let [
        Op::Norm {
            of: Residual,
            by: attention_norm,
            to: Normed,
        },
        Op::Project {
            of: Normed,
            by: qkv,
        },
        Op::Rotate {
            of: Queries,
            by: rotation,
        },
        Op::Rotate {
            of: Keys,
            by: of_keys,
        },
        Op::Attend { by: attention, .. },
        Op::Boundary { site: heads, .. },
        Op::Project {
            of: Heads,
            by: output,
        },
        Op::Boundary {
            site: after_attention,
            ..
        },
        Op::Add {
            of: Attended,
            scale: 1.0,
        },
        Op::Norm {
            of: Residual,
            by: feed_forward_norm,
            to: Normed,
        },
        Op::Project {
            of: Normed,
            by: gate_up,
        },
        Op::Gate { by: activation },
        Op::Project { of: Gate, by: down },
        Op::Add {
            of: FedForward,
            scale: 1.0,
        },
        Op::Boundary { site: residual, .. },
        rest @ ..,
    ] = ops
    else {
        return None;
    };
    let places = [heads, after_attention, residual].map(|site| site.place);
    let qkv: [Factor; 3] = qkv[..].try_into().ok()?;
    let (
        [
            Factor {
                matrix: output,
                bias: None,
                to: Attended,
            },
        ],
        [
            Factor {
                matrix: gate,
                bias: None,
                to: Gate,
            },
            Factor {
                matrix: up,
                bias: None,
                to: Up,
            },
        ],
        [
            Factor {
                matrix: down,
                bias: None,
                to: FedForward,
            },
        ],
    ) = (&output[..], &gate_up[..], &down[..])
    else {
        return None;
    };
    let recognised = places == [Place::Heads, Place::AfterAttention, Place::Residual]
        && qkv.map(|factor| factor.to) == [Queries, Keys, Values]
        && qkv
            .iter()
            .all(|factor| factor.bias.is_some() == qkv[0].bias.is_some())
        && rotation == of_keys;
    let block = FusedBlock {
        attention_norm: plain(*attention_norm)?,
        qkv,
        output: *output,
        feed_forward_norm: plain(*feed_forward_norm)?,
        gate_up: [*gate, *up],
        down: *down,
    };
    recognised.then_some((block, (*rotation, *activation, *attention), rest))
}

/// The gain of a norm that has nothing else.
fn plain(norm: Norm) -> Option<VectorId> {
    (norm.kind == NormKind::RootMeanSquare && norm.bias.is_none()).then_some(norm.gain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::stand_in::published_shapes;

    #[test]
    fn the_lists_of_known_families_are_recognised_and_others_declined() {
        let (_, mut config) = published_shapes().next().unwrap();
        for family in ["llama", "qwen2"] {
            config.model_type = family.into();
            let pass = ForwardPass::of(&config).unwrap();
            let fused = fuse(&pass, config.head_dim).unwrap();
            assert_eq!(fused.blocks.len(), config.layers);
            for without in [2, 6, 9, pass.body.len() - 1] {
                let mut other = pass.clone();
                other.body.remove(without);
                assert!(
                    fuse(&other, config.head_dim).is_none(),
                    "{family} without operation {without}"
                );
            }
        }
    }
}
