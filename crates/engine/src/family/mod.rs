//! Families of decoder-only transformers, each a file with the flat list of operations that it consists of. Which family a
//! model belongs to, and which weights it has, says the table in [`trimtab_checkpoint::family`].

pub mod llama;

use crate::error::EngineError;
use crate::op::{Activation, Factor, ForwardPass, MatrixId, Op, Value, VectorId};
use trimtab_checkpoint::ModelConfig;
use trimtab_checkpoint::family::{Architecture, Family, ModelWeight, WeightRole};

/// A model whose list of operations is put together: its configuration and the numbers of its weights. Blocks are counted
/// from 0; for weights outside the blocks the number says nothing.
#[derive(Debug)]
pub struct Model<'a> {
    pub config: &'a ModelConfig,
    pub activation: Activation,
    matrices: &'a [ModelWeight],
    vectors: &'a [ModelWeight],
}

impl Model<'_> {
    pub fn matrix(&self, role: WeightRole, block: usize) -> MatrixId {
        let number = number(self.matrices, role, block);
        MatrixId(number.expect("the table of families has every matrix that is asked for"))
    }

    /// The residual stream, normalised by a gain of that role.
    pub fn norm(&self, gain: WeightRole, block: usize) -> Op {
        let number = number(self.vectors, gain, block);
        Op::Norm {
            of: Value::Residual,
            gain: VectorId(number.expect("the table of families has every gain that is asked for")),
            epsilon: self.config.norm_epsilon,
            to: Value::Normed,
        }
    }

    /// A projection of `of` by matrices of these roles, with their biases where the family has them.
    pub fn project(&self, of: Value, by: &[(WeightRole, Value)], block: usize) -> Op {
        let factor = |&(role, to): &(WeightRole, Value)| Factor {
            matrix: self.matrix(role, block),
            bias: role
                .bias()
                .and_then(|bias| number(self.vectors, bias, block))
                .map(VectorId),
            to,
        };
        let by = by.iter().map(factor).collect();
        Op::Project { of, by }
    }
}

fn number(weights: &[ModelWeight], role: WeightRole, block: usize) -> Option<usize> {
    weights
        .iter()
        .position(|weight| weight.role == role && weight.block.is_none_or(|own| own == block))
}

impl ForwardPass {
    /// The forward pass of the model's family.
    ///
    /// # Errors
    /// A family or an activation that is not known.
    pub fn of(config: &ModelConfig) -> Result<Self, EngineError> {
        let family = Family::of(config)?;
        let activation = match config.activation.as_str() {
            "silu" => Activation::Silu,
            "gelu_pytorch_tanh" | "gelu_new" => Activation::GeluTanh,
            other => {
                let reason = format!("its activation {other:?} is not known");
                return Err(EngineError::UnsupportedModel { reason });
            }
        };
        let weights = family.weights(config).into_iter();
        let (vectors, matrices): (Vec<_>, Vec<_>) = weights.partition(|weight| weight.vector);
        let model = Model {
            config,
            activation,
            matrices: &matrices,
            vectors: &vectors,
        };
        let (body, head) = match family.architecture {
            Architecture::Llama => (llama::body(&model), llama::head(&model)),
        };
        Ok(Self {
            matrices,
            vectors,
            body,
            head,
        })
    }
}
