//! Qwen2: llama with biases on the projections to queries, keys and values (Yang et al., "Qwen2", 2024).

use super::llama;
use crate::op::{Activation, NamedOp, Op, Value};
use trimtab_checkpoint::ModelConfig;

/// From the tokens to the residual stream after the last block.
pub fn body(config: &ModelConfig, activation: Activation) -> Vec<NamedOp> {
    let mut ops = llama::body(config, activation);
    for op in &mut ops {
        if let Op::Project { by, .. } = op {
            for factor in by {
                if matches!(factor.to, Value::Queries | Value::Keys | Value::Values) {
                    factor.bias = Some(factor.matrix.replace(".weight", ".bias"));
                }
            }
        }
    }
    ops
}
