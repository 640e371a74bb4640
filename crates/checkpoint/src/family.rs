//! The table of families: which weights a family's models have, and what these are called on Hugging Face and in GGUF
//! files. A family that shares a table of names is one more entry of [`FAMILIES`].

use crate::config::ModelConfig;
use std::borrow::Cow;
use std::collections::HashSet;

/// The part that a weight plays in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightRole {
    /// `[vocabulary, d]`, one row a token.
    Embedding,
    /// `[context, d]`, one row a position.
    Positions,
    /// `[d]`, the gain of the norm before attention.
    AttentionNorm,
    AttentionNormBias,
    /// `[heads · head_dim, d]`
    Query,
    QueryBias,
    /// The gain of the norm of queries: of each head `[head_dim]`, or of all together `[heads · head_dim]`.
    QueryNorm,
    /// `[kv_heads · head_dim, d]`
    Key,
    KeyBias,
    /// As [`Self::QueryNorm`], of keys.
    KeyNorm,
    /// `[kv_heads · head_dim, d]`
    Value,
    ValueBias,
    /// `[d, heads · head_dim]`
    AttentionOutput,
    AttentionOutputBias,
    /// `[d]`, the gain of the norm of what attention adds.
    AttendedNorm,
    /// `[d]`, the gain of the norm before the feed-forward part.
    FeedForwardNorm,
    FeedForwardNormBias,
    /// `[ffn, d]`
    Gate,
    /// `[ffn, d]`
    Up,
    UpBias,
    /// `[d, ffn]`
    Down,
    DownBias,
    /// `[d]`, the gain of the norm of what the feed-forward part adds.
    FedForwardNorm,
    /// `[d]`, the gain of the norm behind the last block.
    FinalNorm,
    FinalNormBias,
    /// `[vocabulary, d]`, absent where the embedding is the output head, too.
    OutputHead,
}

impl WeightRole {
    const BEFORE_BLOCKS: [Self; 2] = [Self::Embedding, Self::Positions];
    const IN_BLOCK: [Self; 21] = [
        Self::AttentionNorm,
        Self::AttentionNormBias,
        Self::QueryBias,
        Self::Query,
        Self::QueryNorm,
        Self::KeyBias,
        Self::Key,
        Self::KeyNorm,
        Self::ValueBias,
        Self::Value,
        Self::AttentionOutput,
        Self::AttentionOutputBias,
        Self::AttendedNorm,
        Self::FeedForwardNorm,
        Self::FeedForwardNormBias,
        Self::Gate,
        Self::Up,
        Self::UpBias,
        Self::Down,
        Self::DownBias,
        Self::FedForwardNorm,
    ];
    const BEHIND_BLOCKS: [Self; 3] = [Self::FinalNorm, Self::FinalNormBias, Self::OutputHead];

    /// The role of the bias that is added behind a matrix or a gain of this role, in families that have one.
    pub const fn bias(self) -> Option<Self> {
        match self {
            Self::AttentionNorm => Some(Self::AttentionNormBias),
            Self::Query => Some(Self::QueryBias),
            Self::Key => Some(Self::KeyBias),
            Self::Value => Some(Self::ValueBias),
            Self::AttentionOutput => Some(Self::AttentionOutputBias),
            Self::FeedForwardNorm => Some(Self::FeedForwardNormBias),
            Self::Up => Some(Self::UpBias),
            Self::Down => Some(Self::DownBias),
            Self::FinalNorm => Some(Self::FinalNormBias),
            _ => None,
        }
    }

    const fn is_gain(self) -> bool {
        matches!(
            self,
            Self::AttentionNorm
                | Self::QueryNorm
                | Self::KeyNorm
                | Self::AttendedNorm
                | Self::FeedForwardNorm
                | Self::FedForwardNorm
                | Self::FinalNorm
        )
    }
}

/// The tensor that holds one weight; `{i}` stands for the zero-based block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightName {
    /// The name in our model directories, and on Hugging Face unless [`Self::transposed`] says otherwise.
    pub name: &'static str,
    pub gguf: &'static str,
    /// The roles whose rows lie in this tensor one after another, where it holds several.
    pub stacked: &'static [WeightRole],
    /// The name on Hugging Face of a matrix that lies there as `[columns, rows]`, as a layer of type `Conv1D` has it.
    pub transposed: Option<&'static str>,
}

/// The operations that a family's models consist of; the engine has a file of them for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Gemma3,
    Gpt2,
    Olmo2,
}

/// A family of models that one description of a block fits.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Hugging Face's `model_type`.
    pub model_type: &'static str,
    /// Hugging Face's class, for the `architectures` of a `config.json`.
    pub class: &'static str,
    /// The architecture in GGUF files. A mistral's is `llama` there.
    pub gguf: &'static str,
    pub architecture: Architecture,
    /// GGUF files have the rows of q and k in the order of interleaved rotary positions, `(head, pair, half)`, where
    /// Hugging Face has `(head, half, pair)`.
    pub gguf_interleaved: bool,
    /// The gain of a norm is this much more than what Hugging Face and our model directories hold; GGUF files hold the gain.
    pub gains_above_stored: f32,
    /// Norms of queries and keys are of all heads together.
    pub joint_head_norms: bool,
    /// The weight map. Its models have no weight in a role without a name.
    pub names: fn(WeightRole) -> Option<WeightName>,
}

const LLAMA: Family = Family {
    model_type: "llama",
    class: "LlamaForCausalLM",
    gguf: "llama",
    architecture: Architecture::Llama,
    gguf_interleaved: true,
    gains_above_stored: 0.0,
    joint_head_norms: false,
    names: llama_names,
};

pub const FAMILIES: [Family; 10] = [
    LLAMA,
    Family {
        model_type: "mistral",
        class: "MistralForCausalLM",
        ..LLAMA
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        gguf: "qwen2",
        gguf_interleaved: false,
        names: qwen2_names,
        ..LLAMA
    },
    Family {
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        gguf: "qwen3",
        gguf_interleaved: false,
        names: qwen3_names,
        ..LLAMA
    },
    Family {
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        gguf: "gemma3",
        architecture: Architecture::Gemma3,
        gguf_interleaved: false,
        gains_above_stored: 1.0,
        names: gemma3_names,
        ..LLAMA
    },
    Family {
        model_type: "gpt2",
        class: "GPT2LMHeadModel",
        gguf: "gpt2",
        architecture: Architecture::Gpt2,
        gguf_interleaved: false,
        names: gpt2_names,
        ..LLAMA
    },
    Family {
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        gguf: "phi3",
        gguf_interleaved: false,
        names: phi3_names,
        ..LLAMA
    },
    Family {
        model_type: "smollm3",
        class: "SmolLM3ForCausalLM",
        gguf: "smollm3",
        ..LLAMA
    },
    Family {
        model_type: "olmo2",
        class: "Olmo2ForCausalLM",
        gguf: "olmo2",
        architecture: Architecture::Olmo2,
        gguf_interleaved: false,
        joint_head_norms: true,
        names: olmo2_names,
        ..LLAMA
    },
    Family {
        model_type: "granite",
        class: "GraniteForCausalLM",
        gguf: "granite",
        ..LLAMA
    },
];

const fn named(name: &'static str, gguf: &'static str) -> Option<WeightName> {
    Some(WeightName {
        name,
        gguf,
        stacked: &[],
        transposed: None,
    })
}

/// One of several weights that lie in a tensor.
const fn stacked(
    name: &'static str,
    gguf: &'static str,
    stacked: &'static [WeightRole],
) -> Option<WeightName> {
    Some(WeightName {
        name,
        gguf,
        stacked,
        transposed: None,
    })
}

/// A matrix, or several, that Hugging Face has as `[columns, rows]` under the name `transposed`.
const fn conv1d(
    name: &'static str,
    transposed: &'static str,
    gguf: &'static str,
    stacked: &'static [WeightRole],
) -> Option<WeightName> {
    Some(WeightName {
        name,
        gguf,
        stacked,
        transposed: Some(transposed),
    })
}

const QKV: &[WeightRole] = &[WeightRole::Query, WeightRole::Key, WeightRole::Value];
const QKV_BIAS: &[WeightRole] = &[
    WeightRole::QueryBias,
    WeightRole::KeyBias,
    WeightRole::ValueBias,
];
const GATE_UP: &[WeightRole] = &[WeightRole::Gate, WeightRole::Up];

/// The names that most families share.
#[rustfmt::skip]
fn llama_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::Embedding => named("model.embed_tokens.weight", "token_embd.weight"),
        WeightRole::AttentionNorm => named("model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight"),
        WeightRole::Query => named("model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight"),
        WeightRole::Key => named("model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight"),
        WeightRole::Value => named("model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight"),
        WeightRole::AttentionOutput => named("model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight"),
        WeightRole::FeedForwardNorm => named("model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight"),
        WeightRole::Gate => named("model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight"),
        WeightRole::Up => named("model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight"),
        WeightRole::Down => named("model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight"),
        WeightRole::FinalNorm => named("model.norm.weight", "output_norm.weight"),
        WeightRole::OutputHead => named("lm_head.weight", "output.weight"),
        _ => None,
    }
}

/// Biases behind the projections to queries, keys and values.
#[rustfmt::skip]
fn qwen2_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::QueryBias => named("model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias"),
        WeightRole::KeyBias => named("model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias"),
        WeightRole::ValueBias => named("model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias"),
        _ => llama_names(role),
    }
}

/// Norms of each head's queries and keys.
#[rustfmt::skip]
fn qwen3_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::QueryNorm => named("model.layers.{i}.self_attn.q_norm.weight", "blk.{i}.attn_q_norm.weight"),
        WeightRole::KeyNorm => named("model.layers.{i}.self_attn.k_norm.weight", "blk.{i}.attn_k_norm.weight"),
        _ => llama_names(role),
    }
}

/// Norms of each head's queries and keys, and norms before and after attention and the feed-forward part.
#[rustfmt::skip]
fn gemma3_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::AttendedNorm => named("model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.post_attention_norm.weight"),
        WeightRole::FeedForwardNorm => named("model.layers.{i}.pre_feedforward_layernorm.weight", "blk.{i}.ffn_norm.weight"),
        WeightRole::FedForwardNorm => named("model.layers.{i}.post_feedforward_layernorm.weight", "blk.{i}.post_ffw_norm.weight"),
        _ => qwen3_names(role),
    }
}

/// Norms of queries and keys, and norms after attention and the feed-forward part, none before.
fn olmo2_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::AttentionNorm | WeightRole::FeedForwardNorm => None,
        _ => gemma3_names(role),
    }
}

/// q, k and v in one matrix, gate and up in another.
#[rustfmt::skip]
fn phi3_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::Query | WeightRole::Key | WeightRole::Value =>
            stacked("model.layers.{i}.self_attn.qkv_proj.weight", "blk.{i}.attn_qkv.weight", QKV),
        WeightRole::Gate | WeightRole::Up =>
            stacked("model.layers.{i}.mlp.gate_up_proj.weight", "blk.{i}.ffn_up.weight", GATE_UP),
        _ => llama_names(role),
    }
}

#[rustfmt::skip]
fn gpt2_names(role: WeightRole) -> Option<WeightName> {
    match role {
        WeightRole::Embedding => named("transformer.wte.weight", "token_embd.weight"),
        WeightRole::Positions => named("transformer.wpe.weight", "position_embd.weight"),
        WeightRole::AttentionNorm => named("transformer.h.{i}.ln_1.weight", "blk.{i}.attn_norm.weight"),
        WeightRole::AttentionNormBias => named("transformer.h.{i}.ln_1.bias", "blk.{i}.attn_norm.bias"),
        WeightRole::Query | WeightRole::Key | WeightRole::Value => conv1d(
            "transformer.h.{i}.attn.c_attn.linear.weight", "transformer.h.{i}.attn.c_attn.weight", "blk.{i}.attn_qkv.weight", QKV),
        WeightRole::QueryBias | WeightRole::KeyBias | WeightRole::ValueBias =>
            stacked("transformer.h.{i}.attn.c_attn.bias", "blk.{i}.attn_qkv.bias", QKV_BIAS),
        WeightRole::AttentionOutput => conv1d(
            "transformer.h.{i}.attn.c_proj.linear.weight", "transformer.h.{i}.attn.c_proj.weight", "blk.{i}.attn_output.weight", &[]),
        WeightRole::AttentionOutputBias => named("transformer.h.{i}.attn.c_proj.bias", "blk.{i}.attn_output.bias"),
        WeightRole::FeedForwardNorm => named("transformer.h.{i}.ln_2.weight", "blk.{i}.ffn_norm.weight"),
        WeightRole::FeedForwardNormBias => named("transformer.h.{i}.ln_2.bias", "blk.{i}.ffn_norm.bias"),
        WeightRole::Up => conv1d(
            "transformer.h.{i}.mlp.c_fc.linear.weight", "transformer.h.{i}.mlp.c_fc.weight", "blk.{i}.ffn_up.weight", &[]),
        WeightRole::UpBias => named("transformer.h.{i}.mlp.c_fc.bias", "blk.{i}.ffn_up.bias"),
        WeightRole::Down => conv1d(
            "transformer.h.{i}.mlp.c_proj.linear.weight", "transformer.h.{i}.mlp.c_proj.weight", "blk.{i}.ffn_down.weight", &[]),
        WeightRole::DownBias => named("transformer.h.{i}.mlp.c_proj.bias", "blk.{i}.ffn_down.bias"),
        WeightRole::FinalNorm => named("transformer.ln_f.weight", "output_norm.weight"),
        WeightRole::FinalNormBias => named("transformer.ln_f.bias", "output_norm.bias"),
        WeightRole::OutputHead => named("lm_head.weight", "output.weight"),
        _ => None,
    }
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

/// One weight that a model must have: all rows of a tensor, or some of them.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelWeight {
    pub role: WeightRole,
    /// The zero-based block that it belongs to, if any.
    pub block: Option<usize>,
    /// The tensor's name in our model directories.
    pub name: String,
    /// Its name on Hugging Face, where the matrix lies there as `[cols, rows]`.
    pub transposed: Option<String>,
    pub gguf: String,
    /// A vector has one row.
    pub rows: usize,
    pub cols: usize,
    /// Whether it has one dimension.
    pub vector: bool,
    /// The tensor's row (or, of a vector, its element) that is the first of this weight, and how many the tensor has.
    pub first: usize,
    pub of: usize,
    /// What is added to the numbers of the tensor, but for GGUF's.
    pub above_stored: f32,
}

impl ModelWeight {
    /// The module on Hugging Face that holds the tensor, `model.layers.3.self_attn.q_proj`.
    pub fn module(&self) -> &str {
        let published = self.transposed.as_ref().unwrap_or(&self.name);
        published.strip_suffix(".weight").unwrap_or(published)
    }

    /// Whether it has one row a token.
    pub fn is_token_table(&self) -> bool {
        matches!(self.role, WeightRole::Embedding | WeightRole::OutputHead)
    }

    /// The tensor's shape in our model directories.
    pub fn tensor_shape(&self) -> [usize; 2] {
        match self.vector {
            true => [1, self.of],
            false => [self.of, self.cols],
        }
    }
}

impl Family {
    /// The family of models of that architecture in GGUF files.
    ///
    /// # Errors
    /// As [`Self::named`].
    pub fn of_gguf(architecture: &str) -> Result<&'static Self, FamilyError> {
        let known = FAMILIES.iter().find(|family| family.gguf == architecture);
        known.map_or_else(|| Self::named(architecture), Ok)
    }

    /// The family of that `model_type`.
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
        if config.attention_bias && (family.names)(WeightRole::QueryBias).is_none() {
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

    /// The names of the weight of that role, where models of this configuration have one.
    fn names(&self, role: WeightRole, config: &ModelConfig) -> Option<WeightName> {
        let tied = role == WeightRole::OutputHead && config.tied_embeddings;
        (self.names)(role).filter(|_| !tied)
    }

    /// The names on Hugging Face and in our model directories of the embedding and of an output head of its own.
    pub fn token_tables(&self) -> [&'static str; 2] {
        [WeightRole::Embedding, WeightRole::OutputHead]
            .map(|role| (self.names)(role).map_or("", |names| names.name))
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
            .filter_map(|(role, block)| {
                let names = self.names(role, config)?;
                let (rows, cols, vector) = self.shape(role, config);
                let length_of = |role: &WeightRole| {
                    let (rows, cols, vector) = self.shape(*role, config);
                    if vector { cols } else { rows }
                };
                let before = names.stacked.iter().take_while(|other| **other != role);
                let first = before.map(length_of).sum();
                let named = |name: &str| name.replace("{i}", &block.unwrap_or(0).to_string());
                Some(ModelWeight {
                    role,
                    block,
                    name: named(names.name),
                    transposed: names.transposed.map(named),
                    gguf: named(names.gguf),
                    rows,
                    cols,
                    vector,
                    first,
                    of: match names.stacked {
                        [] => length_of(&role),
                        all => all.iter().map(length_of).sum(),
                    },
                    above_stored: if role.is_gain() {
                        self.gains_above_stored
                    } else {
                        0.0
                    },
                })
            })
            .collect()
    }

    /// Every tensor of a model as a weight of its own, whose role is that of the first that lies in it.
    pub fn tensors(&self, config: &ModelConfig) -> Vec<ModelWeight> {
        let mut tensors = self.weights(config);
        tensors.retain(|weight| weight.first == 0);
        for tensor in &mut tensors {
            match tensor.vector {
                true => tensor.cols = tensor.of,
                false => tensor.rows = tensor.of,
            }
        }
        tensors
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

    /// `(rows, cols, whether it is a vector)`
    fn shape(&self, role: WeightRole, config: &ModelConfig) -> (usize, usize, bool) {
        let (d, ffn) = (config.hidden_size, config.ffn_size);
        let q = config.heads * config.head_dim;
        let kv = config.kv_heads * config.head_dim;
        let normed = |together: usize| match self.joint_head_norms {
            true => (1, together, true),
            false => (1, config.head_dim, true),
        };
        match role {
            WeightRole::Embedding | WeightRole::OutputHead => (config.vocab_size, d, false),
            WeightRole::Positions => (config.context, d, false),
            WeightRole::AttentionNorm
            | WeightRole::AttentionNormBias
            | WeightRole::AttentionOutputBias
            | WeightRole::AttendedNorm
            | WeightRole::FeedForwardNorm
            | WeightRole::FeedForwardNormBias
            | WeightRole::DownBias
            | WeightRole::FedForwardNorm
            | WeightRole::FinalNorm
            | WeightRole::FinalNormBias => (1, d, true),
            WeightRole::Query => (q, d, false),
            WeightRole::QueryBias => (1, q, true),
            WeightRole::QueryNorm => normed(q),
            WeightRole::Key | WeightRole::Value => (kv, d, false),
            WeightRole::KeyBias | WeightRole::ValueBias => (1, kv, true),
            WeightRole::KeyNorm => normed(kv),
            WeightRole::AttentionOutput => (d, q, false),
            WeightRole::Gate | WeightRole::Up => (ffn, d, false),
            WeightRole::UpBias => (1, ffn, true),
            WeightRole::Down => (d, ffn, false),
        }
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
        let mut known: HashSet<String> = weights
            .flat_map(|weight| [Some(weight.name), weight.transposed])
            .flatten()
            .collect();
        known.insert(self.token_tables()[1].into());
        let unknown = |name: &&str| {
            let written = spellings(name).any(|name| known.contains(&*name));
            !written && !is_redundant(name)
        };
        match names.find(unknown) {
            None => Ok(()),
            Some(tensor) => Err(FamilyError::UnknownTensor {
                tensor: tensor.into(),
                model_type: self.model_type,
            }),
        }
    }
}

/// Whether a tensor says nothing that the configuration does not: a table of rotary frequencies, or the mask of a GPT-2.
pub fn is_redundant(name: &str) -> bool {
    [".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The names under which a tensor of that name is looked for: GPT-2's own checkpoints leave out the model's prefix.
pub fn spellings(name: &str) -> impl Iterator<Item = Cow<'_, str>> {
    const PREFIX: &str = "transformer.";
    let other = match name.strip_prefix(PREFIX) {
        Some(bare) => Cow::Borrowed(bare),
        None => Cow::Owned(format!("{PREFIX}{name}")),
    };
    [Cow::Borrowed(name), other].into_iter()
}
