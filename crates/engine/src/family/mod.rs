//! Families of decoder-only transformers, each a file with the flat list of operations that its blocks consist of. Which family a
//! model belongs to, and which weights it has, says the table in [`trimtab_checkpoint::family`].

pub mod gemma3;
pub mod gpt2;
pub mod llama;
pub mod olmo2;

use crate::error::EngineError;
use crate::index::{Layer, Site};
use crate::op::{
    Activation, Attention, Factor, ForwardPass, MatrixId, Norm, NormKind, Op, Rotation, RotationId,
    Value, VectorId,
};
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

    /// From the tokens to the residual stream after the last block.
    fn body(&self, block: fn(&Self, usize) -> Vec<Op>) -> Vec<Op> {
        let embed = Op::Embed {
            matrix: self.matrix(WeightRole::Embedding, 0),
            scale: self.config.embedding_scale,
        };
        let learned = number(self.matrices, WeightRole::Positions, 0);
        let positions = learned.map(|id| Op::AddPosition {
            matrix: MatrixId(id),
        });
        let first = Op::Boundary {
            site: Site::residual(Layer(0)),
            of: Value::Residual,
        };
        let blocks = (0..self.config.layers).flat_map(|index| block(self, index));
        let before = [Some(embed), positions, Some(first)].into_iter().flatten();
        before.chain(blocks).collect()
    }

    /// `of`, normalised by its root mean square with a gain of that role.
    pub fn norm(&self, of: Value, gain: WeightRole, to: Value, block: usize) -> Op {
        let norm = self.norm_if_any(of, gain, to, block);
        norm.expect("the table of families has every gain that is asked for")
    }

    /// The same, in families that have such a gain.
    pub fn norm_if_any(&self, of: Value, gain: WeightRole, to: Value, block: usize) -> Option<Op> {
        let by = Norm {
            kind: NormKind::RootMeanSquare,
            gain: self.vector(gain, block)?,
            bias: None,
            epsilon: self.config.norm_epsilon,
        };
        Some(Op::Norm { of, by, to })
    }

    /// The residual stream around its mean, with a gain of that role and the bias that belongs to it.
    pub fn layer_norm(&self, gain: WeightRole, block: usize) -> Op {
        let number = self.vector(gain, block);
        let by = Norm {
            kind: NormKind::Layer,
            gain: number.expect("the table of families has every gain that is asked for"),
            bias: gain.bias().and_then(|bias| self.vector(bias, block)),
            epsilon: self.config.norm_epsilon,
        };
        Op::Norm {
            of: Value::Residual,
            by,
            to: Value::Normed,
        }
    }

    fn vector(&self, role: WeightRole, block: usize) -> Option<VectorId> {
        number(self.vectors, role, block).map(VectorId)
    }

    /// Queries and keys, turned by their positions; nothing in blocks that know none.
    pub fn rotate(&self, block: usize) -> Vec<Op> {
        if named(&self.config.positionless, block) {
            return Vec::new();
        }
        let local = named(&self.config.slides, block) && self.config.local_rotary.is_some();
        let by = RotationId(usize::from(local));
        let turned = [Value::Queries, Value::Keys].into_iter();
        turned.map(|of| Op::Rotate { of, by }).collect()
    }

    pub fn attend(&self, block: usize) -> Op {
        let everything = Attention::over_everything(self.config.head_dim);
        let window = self.config.sliding_window;
        let window = window.filter(|_| named(&self.config.slides, block));
        let by = Attention {
            scale: self.config.attention_scale.unwrap_or(everything.scale),
            window,
        };
        Op::Attend { block, by }
    }

    pub fn add(&self, of: Value) -> Op {
        let scale = self.config.residual_scale;
        Op::Add { of, scale }
    }

    /// The normalised residual stream's logits: by the embedding, where the model has no head of its own.
    pub fn head(&self) -> Op {
        let role = match self.config.tied_embeddings {
            true => WeightRole::Embedding,
            false => WeightRole::OutputHead,
        };
        Op::Head {
            of: Value::Normed,
            matrix: self.matrix(role, 0),
            scale: self.config.logits_scale,
        }
    }

    pub fn queries_keys_values(&self, of: Value, block: usize) -> Op {
        let by = [
            (WeightRole::Query, Value::Queries),
            (WeightRole::Key, Value::Keys),
            (WeightRole::Value, Value::Values),
        ];
        self.project(of, &by, block)
    }

    pub fn gate_and_up(&self, of: Value, block: usize) -> Op {
        let by = [(WeightRole::Gate, Value::Gate), (WeightRole::Up, Value::Up)];
        self.project(of, &by, block)
    }

    /// A projection of `of` by matrices of these roles, with their biases where the family has them.
    pub fn project(&self, of: Value, by: &[(WeightRole, Value)], block: usize) -> Op {
        let factor = |&(role, to): &(WeightRole, Value)| Factor {
            matrix: self.matrix(role, block),
            bias: role.bias().and_then(|bias| self.vector(bias, block)),
            to,
        };
        let by = by.iter().map(factor).collect();
        Op::Project { of, by }
    }
}

/// What a list with an entry for each block says of one that it may be too short for.
fn named(blocks: &[bool], block: usize) -> bool {
    blocks.get(block).copied().unwrap_or(false)
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
        let block = match family.architecture {
            Architecture::Llama => llama::block,
            Architecture::Gemma3 => gemma3::block,
            Architecture::Gpt2 => gpt2::block,
            Architecture::Olmo2 => olmo2::block,
        };
        let last_norm = match family.architecture {
            Architecture::Gpt2 => model.layer_norm(WeightRole::FinalNorm, 0),
            _ => model.norm(Value::Residual, WeightRole::FinalNorm, Value::Normed, 0),
        };
        let body = model.body(block);
        let head = vec![last_norm, model.head()];
        let rotations = [Some(&config.rotary), config.local_rotary.as_ref()].into_iter();
        let rotations = rotations.flatten().map(|rotary| Rotation {
            frequencies: rotary.frequencies(config.head_dim),
            amplitude: rotary.amplitude(),
        });
        let rotations = rotations.collect();
        Ok(Self {
            matrices,
            vectors,
            rotations,
            body,
            head,
        })
    }
}
