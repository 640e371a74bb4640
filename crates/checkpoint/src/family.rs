//! The table of families: which weights a family's models have, and what these are called on Hugging Face and in GGUF
//! files. A family that shares a table of names is one more entry of [`FAMILIES`].

use crate::config::ModelConfig;
use std::collections::HashSet;

/// The part that a weight plays in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightRole {
    /// `[vocabulary, d]`, one row a token.
    Embedding,
    /// `[d]`, the gain of the norm before attention.
    AttentionNorm,
    /// `[heads · head_dim, d]`
    Query,
    QueryBias,
    /// `[kv_heads · head_dim, d]`
    Key,
    KeyBias,
    /// `[kv_heads · head_dim, d]`
    Value,
    ValueBias,
    /// `[d, heads · head_dim]`
    AttentionOutput,
    /// `[d]`, the gain of the norm before the feed-forward part.
    FeedForwardNorm,
    /// `[ffn, d]`
    Gate,
    /// `[ffn, d]`
    Up,
    /// `[d, ffn]`
    Down,
    /// `[d]`, the gain of the norm behind the last block.
    FinalNorm,
    /// `[vocabulary, d]`, absent where the embedding is the output head, too.
    OutputHead,
}

impl WeightRole {
    const BEFORE_BLOCKS: [Self; 1] = [Self::Embedding];
    const IN_BLOCK: [Self; 12] = [
        Self::AttentionNorm,
        Self::QueryBias,
        Self::Query,
        Self::KeyBias,
        Self::Key,
        Self::ValueBias,
        Self::Value,
        Self::AttentionOutput,
        Self::FeedForwardNorm,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];
    const BEHIND_BLOCKS: [Self; 2] = [Self::FinalNorm, Self::OutputHead];

    /// The role of the bias that is added behind a matrix of this role, in families that have one.
    pub const fn bias(self) -> Option<Self> {
        match self {
            Self::Query => Some(Self::QueryBias),
            Self::Key => Some(Self::KeyBias),
            Self::Value => Some(Self::ValueBias),
            _ => None,
        }
    }
}

/// The names of one weight; `{i}` stands for the zero-based block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightName {
    /// The name on Hugging Face and in our model directories.
    pub name: &'static str,
    pub gguf: &'static str,
}

/// The operations that a family's models consist of; the engine has a file of them for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Llama,
}

/// A family of models that one description of a block fits.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Hugging Face's `model_type`; also the architecture in GGUF files, but a mistral's is `llama` there.
    pub model_type: &'static str,
    /// Hugging Face's class, for the `architectures` of a `config.json`.
    pub class: &'static str,
    pub architecture: Architecture,
    /// Biases on q, k and v, and none on the output projection.
    pub qkv_bias: bool,
    /// GGUF files have the rows of q and k in the order of interleaved rotary positions, `(head, pair, half)`, where
    /// Hugging Face has `(head, half, pair)`.
    pub gguf_interleaved: bool,
    pub names: fn(WeightRole) -> WeightName,
}

pub const FAMILIES: [Family; 3] = [
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        architecture: Architecture::Llama,
        qkv_bias: false,
        gguf_interleaved: true,
        names: llama_names,
    },
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        architecture: Architecture::Llama,
        qkv_bias: false,
        gguf_interleaved: true,
        names: llama_names,
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        architecture: Architecture::Llama,
        qkv_bias: true,
        gguf_interleaved: false,
        names: llama_names,
    },
];

/// The names that llama, mistral and qwen2 share.
#[rustfmt::skip]
fn llama_names(role: WeightRole) -> WeightName {
    let (name, gguf) = match role {
        WeightRole::Embedding => ("model.embed_tokens.weight", "token_embd.weight"),
        WeightRole::AttentionNorm => ("model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight"),
        WeightRole::QueryBias => ("model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias"),
        WeightRole::Query => ("model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight"),
        WeightRole::KeyBias => ("model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias"),
        WeightRole::Key => ("model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight"),
        WeightRole::ValueBias => ("model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias"),
        WeightRole::Value => ("model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"),
        WeightRole::AttentionOutput => ("model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"),
        WeightRole::FeedForwardNorm => ("model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight"),
        WeightRole::Gate => ("model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"),
        WeightRole::Up => ("model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"),
        WeightRole::Down => ("model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"),
        WeightRole::FinalNorm => ("model.norm.weight", "output_norm.weight"),
        WeightRole::OutputHead => ("lm_head.weight", "output.weight"),
    };
    WeightName { name, gguf }
}

/// Why a model is not one of those that are computed here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FamilyError {
    #[error("its architecture is `{model_type}`; those that are supported are {supported}")]
    Unknown {
        model_type: String,
        supported: String,
    },
    #[error(
        "its config.json asks for {field}, and {lost} is not computed here; use a checkpoint without"
    )]
    Bias {
        field: &'static str,
        lost: &'static str,
    },
    #[error(
        "it has a tensor {tensor:?}, which a model of type {model_type:?} does not have here; computed without it, every answer \
         would be wrong"
    )]
    UnknownTensor {
        tensor: String,
        model_type: &'static str,
    },
}

/// One weight that a model must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelWeight {
    pub role: WeightRole,
    /// The zero-based block that it belongs to, if any.
    pub block: Option<usize>,
    /// Its name on Hugging Face and in our model directories.
    pub name: String,
    pub gguf: String,
    /// A vector has one row.
    pub rows: usize,
    pub cols: usize,
    /// Whether it has one dimension.
    pub vector: bool,
}

impl ModelWeight {
    /// Whether it has one row a token.
    pub fn is_token_table(&self) -> bool {
        matches!(self.role, WeightRole::Embedding | WeightRole::OutputHead)
    }
}

impl Family {
    /// The family of that `model_type` or GGUF architecture.
    ///
    /// # Errors
    /// [`FamilyError::Unknown`], with the names of those that are known.
    pub fn named(model_type: &str) -> Result<&'static Self, FamilyError> {
        let known = FAMILIES
            .iter()
            .find(|family| family.model_type == model_type);
        known.ok_or_else(|| FamilyError::Unknown {
            model_type: model_type.chars().take(64).collect(),
            supported: FAMILIES.map(|family| family.model_type).join(", "),
        })
    }

    /// The family of a model.
    ///
    /// # Errors
    /// A family that is not known, and biases that its models have here in no place.
    pub fn of(config: &ModelConfig) -> Result<&'static Self, FamilyError> {
        let family = Self::named(&config.model_type)?;
        if config.attention_bias && !family.qkv_bias {
            return Err(FamilyError::Bias {
                field: "attention_bias",
                lost: "the bias of the output projection (model.layers.0.self_attn.o_proj.bias and the like)",
            });
        }
        if config.mlp_bias {
            return Err(FamilyError::Bias {
                field: "mlp_bias",
                lost: "a bias in the feed-forward part",
            });
        }
        Ok(family)
    }

    /// Whether models of this configuration have a weight of that role.
    pub fn has(&self, role: WeightRole, config: &ModelConfig) -> bool {
        match role {
            WeightRole::QueryBias | WeightRole::KeyBias | WeightRole::ValueBias => self.qkv_bias,
            WeightRole::OutputHead => !config.tied_embeddings,
            _ => true,
        }
    }

    /// The weight's name on Hugging Face and in our model directories. `block` is the zero-based block, and without
    /// meaning for weights outside the blocks.
    pub fn name(&self, role: WeightRole, block: usize) -> String {
        in_block((self.names)(role).name, block)
    }

    /// Every weight of a model, in the order of the forward pass.
    pub fn weights(&self, config: &ModelConfig) -> Vec<ModelWeight> {
        let outside = |role: &WeightRole| (*role, None);
        let blocks = (0..config.layers)
            .flat_map(|block| WeightRole::IN_BLOCK.map(|role| (role, Some(block))));
        WeightRole::BEFORE_BLOCKS
            .iter()
            .map(outside)
            .chain(blocks)
            .chain(WeightRole::BEHIND_BLOCKS.iter().map(outside))
            .filter(|(role, _)| self.has(*role, config))
            .map(|(role, block)| {
                let WeightName { name, gguf } = (self.names)(role);
                let (rows, cols, vector) = shape(role, config);
                ModelWeight {
                    role,
                    block,
                    name: in_block(name, block.unwrap_or(0)),
                    gguf: in_block(gguf, block.unwrap_or(0)),
                    rows,
                    cols,
                    vector,
                }
            })
            .collect()
    }

    /// The number of heads whose rows a GGUF file has in the order of interleaved positions, for q and k of some families.
    pub fn gguf_interleaved_heads(&self, role: WeightRole, config: &ModelConfig) -> Option<usize> {
        let heads = match role {
            WeightRole::Query | WeightRole::QueryBias => config.heads,
            WeightRole::Key | WeightRole::KeyBias => config.kv_heads,
            _ => return None,
        };
        self.gguf_interleaved.then_some(heads)
    }

    /// Refuses a file with a tensor that models of this family do not have: left unread, it would make every number
    /// wrong without a word. An output head is always allowed: beside tied embeddings, [`WeightFile::has_own_head`] says
    /// whether it differs from them.
    ///
    /// # Errors
    /// [`FamilyError::UnknownTensor`] for the first such name.
    ///
    /// [`WeightFile::has_own_head`]: crate::WeightFile::has_own_head
    pub fn check_names<'a>(
        &self,
        config: &ModelConfig,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Result<(), FamilyError> {
        let weights = self.weights(config).into_iter();
        let mut known: HashSet<String> = weights.map(|weight| weight.name).collect();
        known.insert(self.name(WeightRole::OutputHead, 0));
        match names.find(|name| !known.contains(*name) && !is_redundant(name)) {
            None => Ok(()),
            Some(tensor) => Err(FamilyError::UnknownTensor {
                tensor: tensor.into(),
                model_type: self.model_type,
            }),
        }
    }
}

/// Whether a tensor says nothing that the configuration does not: a table of rotary frequencies.
pub fn is_redundant(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

fn in_block(name: &str, block: usize) -> String {
    name.replace("{i}", &block.to_string())
}

/// `(rows, cols, whether it is a vector)`
fn shape(role: WeightRole, config: &ModelConfig) -> (usize, usize, bool) {
    let (d, ffn) = (config.hidden_size, config.ffn_size);
    let q = config.heads * config.head_dim;
    let kv = config.kv_heads * config.head_dim;
    match role {
        WeightRole::Embedding | WeightRole::OutputHead => (config.vocab_size, d, false),
        WeightRole::AttentionNorm | WeightRole::FeedForwardNorm | WeightRole::FinalNorm => {
            (1, d, true)
        }
        WeightRole::Query => (q, d, false),
        WeightRole::QueryBias => (1, q, true),
        WeightRole::Key | WeightRole::Value => (kv, d, false),
        WeightRole::KeyBias | WeightRole::ValueBias => (1, kv, true),
        WeightRole::AttentionOutput => (d, q, false),
        WeightRole::Gate | WeightRole::Up => (ffn, d, false),
        WeightRole::Down => (d, ffn, false),
    }
}
