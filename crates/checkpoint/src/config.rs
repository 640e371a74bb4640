//! `config.json`, as Hugging Face writes it, reduced to what a decoder-only transformer needs.

use crate::published_file::{LfsPointer, plain_text};
use crate::rotary::Rotary;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// Longest `config.json` that is read, in bytes.
pub const MAX_CONFIG_BYTES: usize = 1 << 20;

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(
        "config.json is {bytes} bytes long, more than {MAX_CONFIG_BYTES}; it is not a model configuration"
    )]
    TooLong { bytes: usize },
    #[error("config.json is not the configuration of a decoder-only transformer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("config.json cannot be read: {0}")]
    Pointer(#[from] LfsPointer),
    #[error("config.json (model_type {model_type}): {field} {reason}")]
    Field {
        model_type: String,
        field: &'static str,
        reason: String,
    },
}

/// Shape and constants of a decoder-only transformer. Every field has been checked against the
/// others: heads divide, sizes are positive and bounded.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Hugging Face's `model_type`, e.g. `llama`. The engine knows which ones it can run.
    pub model_type: String,
    /// `d`, the width of the residual stream.
    pub hidden_size: usize,
    /// `L`, the number of blocks.
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn_size: usize,
    pub vocab_size: usize,
    /// Longest sequence the model was trained for, in tokens.
    pub context: usize,
    /// How many tokens a token of a sliding block sees, itself among them.
    pub sliding_window: Option<usize>,
    /// Which blocks slide; those that it does not name do not.
    pub slides: Vec<bool>,
    pub norm_epsilon: f32,
    pub rotary: Rotary,
    /// The rotary positions of blocks that slide, where theirs are others.
    pub local_rotary: Option<Rotary>,
    /// Which blocks know no positions; those that it does not name do.
    pub positionless: Vec<bool>,
    /// What products of queries and keys are multiplied by, where it is not `1 / √head_dim`.
    pub attention_scale: Option<f32>,
    /// What embeddings are multiplied by, what attention and the feed-forward part add, and logits.
    pub embedding_scale: f32,
    pub residual_scale: f32,
    pub logits_scale: f32,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Hugging Face's `hidden_act`, e.g. `silu`.
    pub activation: String,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    /// Tokens that end an answer.
    pub end_tokens: Vec<u32>,
}

/// The fields as published; absent ones take the defaults of transformers' class ([`Defaults`]).
#[derive(Deserialize)]
struct Published {
    model_type: String,
    #[serde(alias = "n_embd")]
    hidden_size: Option<u64>,
    #[serde(alias = "n_layer")]
    num_hidden_layers: Option<u64>,
    #[serde(alias = "n_head")]
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    #[serde(alias = "n_inner")]
    intermediate_size: Option<u64>,
    vocab_size: Option<u64>,
    #[serde(alias = "n_positions")]
    max_position_embeddings: Option<u64>,
    #[serde(default, deserialize_with = "stated")]
    sliding_window: Stated,
    use_sliding_window: Option<bool>,
    /// Every so many blocks of a Gemma 3 one attends to everything.
    sliding_window_pattern: Option<u64>,
    /// The first block of a Qwen that slides.
    max_window_layers: Option<u64>,
    #[serde(alias = "layer_norm_epsilon")]
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_local_base_freq: Option<f64>,
    /// 1 for the blocks of a SmolLM3 that do know positions.
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<u64>,
    query_pre_attn_scalar: Option<f64>,
    attention_multiplier: Option<f64>,
    embedding_multiplier: Option<f64>,
    residual_multiplier: Option<f64>,
    logits_scaling: Option<f64>,
    attn_logit_softcapping: Option<f64>,
    final_logit_softcapping: Option<f64>,
    use_bidirectional_attention: Option<bool>,
    scale_attn_weights: Option<bool>,
    scale_attn_by_inverse_layer_idx: Option<bool>,
    add_cross_attention: Option<bool>,
    rope_scaling: Option<Map<String, Value>>,
    /// The place in which transformers 5 keeps what `rope_theta` and `rope_scaling` said before.
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<u64>,
    /// Which blocks attend to a window; absent: none, but for what `sliding_window` says.
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    #[serde(alias = "activation_function")]
    hidden_act: Option<String>,
    /// Gemma's name for it, which counts where both are there.
    hidden_activation: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    eos_token_id: Option<Value>,
}

/// A size whose absence is not the same as a stated `null`.
#[derive(Clone, Copy, Default)]
enum Stated {
    #[default]
    Absent,
    None,
    Size(u64),
}

fn stated<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Stated, D::Error> {
    let value = Option::<u64>::deserialize(deserializer)?;
    Ok(value.map_or(Stated::None, Stated::Size))
}

/// What transformers' configuration classes take where `config.json` says nothing.
struct Defaults {
    tied: bool,
    activation: &'static str,
    norm_epsilon: f64,
    rope_theta: f64,
    head_dim: Option<u64>,
    kv_heads: Option<u64>,
    window: Option<u64>,
    /// Every so many blocks one is of another kind.
    pattern: Option<u64>,
}

impl Defaults {
    fn of(model_type: &str) -> Self {
        let llama = Self {
            tied: false,
            activation: "silu",
            norm_epsilon: 1e-6,
            rope_theta: 10_000.0,
            head_dim: None,
            kv_heads: None,
            window: None,
            pattern: None,
        };
        match model_type {
            "mistral" => Self {
                window: Some(4096),
                ..llama
            },
            "gpt2" => Self {
                tied: true,
                activation: "gelu_new",
                norm_epsilon: 1e-5,
                ..llama
            },
            "gemma3_text" => Self {
                tied: true,
                activation: "gelu_pytorch_tanh",
                rope_theta: 1e6,
                head_dim: Some(256),
                kv_heads: Some(4),
                window: Some(4096),
                pattern: Some(6),
                ..llama
            },
            "smollm3" => Self {
                tied: true,
                rope_theta: 2e6,
                kv_heads: Some(4),
                pattern: Some(4),
                ..llama
            },
            "olmo2" => Self {
                norm_epsilon: 1e-5,
                ..llama
            },
            "phi3" => Self {
                norm_epsilon: 1e-5,
                ..llama
            },
            _ => llama,
        }
    }
}

/// The activation of models of that type, where their files do not name it.
pub(crate) fn activation_of(model_type: &str) -> &'static str {
    Defaults::of(model_type).activation
}

/// `otherwise`, changed as one of the `rope_…` fields says; under a kind of block where they are nested by it.
fn stated_rotary(
    rope: &Map<String, Value>,
    otherwise: Rotary,
    (kind, others): (&str, &[&str]),
    context: usize,
    original: Option<u64>,
) -> Result<Rotary, String> {
    if !rope.values().any(Value::is_object) {
        return otherwise.stated(rope, context, original);
    }
    let mut own = None;
    for (key, value) in rope.iter().filter(|(_, value)| !value.is_null()) {
        match value {
            Value::Object(rope) if key == kind => own = Some(rope),
            Value::Object(_) if others.contains(&key.as_str()) => {}
            _ => {
                let shown: String = format!("{key}: {value}").chars().take(100).collect();
                return Err(format!("has {shown}, which is not supported"));
            }
        }
    }
    match own {
        Some(rope) => otherwise.stated(rope, context, original),
        None => Ok(otherwise),
    }
}

const FULL_ATTENTION: &str = "full_attention";
const SLIDING_ATTENTION: &str = "sliding_attention";

/// The ids of `eos_token_id`: one, several or none. Converters write −1 for none.
fn end_tokens(stated: &Value, vocab_size: usize) -> Result<Vec<u32>, String> {
    let listed = match stated {
        Value::Array(ids) => ids.as_slice(),
        id => std::slice::from_ref(id),
    };
    if listed.len() > 64 {
        return Err(format!("lists {} tokens, more than 64", listed.len()));
    }
    let mut tokens = Vec::new();
    for id in listed {
        let number = match id {
            Value::Null => continue,
            id => id.as_i64().ok_or_else(|| {
                let id: String = id.to_string().chars().take(64).collect();
                format!("is {id}, which is no token's number")
            })?,
        };
        match u32::try_from(number) {
            Ok(token) if (token as usize) < vocab_size => tokens.push(token),
            Err(_) if number < 0 => {}
            _ => {
                return Err(format!(
                    "is {number}, but the vocabulary has {vocab_size} tokens"
                ));
            }
        }
    }
    Ok(tokens)
}

impl Published {
    /// Which blocks attend to a window.
    fn slides(&self, defaults: &Defaults, layers: usize) -> Result<Vec<bool>, String> {
        let stated = self.layer_types.iter().flatten();
        let mut unknown =
            stated.filter(|kind| ![FULL_ATTENTION, SLIDING_ATTENTION].contains(&kind.as_str()));
        if let Some(unknown) = unknown.next() {
            let unknown: String = unknown.chars().take(64).collect();
            return Err(format!("has {unknown:?}, which is not supported"));
        }
        let all = |slides: bool| vec![slides; layers];
        Ok(match (self.model_type.as_str(), &self.layer_types) {
            // transformers knows no windows there, whatever is stated.
            ("llama" | "gpt2" | "granite" | "olmo2", _) => Vec::new(),
            ("mistral" | "phi3", _) => all(matches!(
                (self.sliding_window, defaults.window),
                (Stated::Size(_), _) | (Stated::Absent, Some(_))
            )),
            (_, Some(kinds)) if kinds.len() == layers => {
                kinds.iter().map(|kind| kind == SLIDING_ATTENTION).collect()
            }
            (_, Some(kinds)) => {
                return Err(format!("names {} blocks of {layers}", kinds.len()));
            }
            ("gemma3_text", None) => {
                let pattern = self
                    .sliding_window_pattern
                    .or(defaults.pattern)
                    .unwrap_or(1);
                let last = |block: u64| (block + 1).is_multiple_of(pattern.max(1));
                (0..layers as u64).map(|block| !last(block)).collect()
            }
            (_, None) if self.use_sliding_window == Some(true) => {
                let first = self.max_window_layers.unwrap_or(28);
                (0..layers as u64).map(|block| block >= first).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Which blocks know no positions.
    fn positionless(&self, defaults: &Defaults, layers: usize) -> Vec<bool> {
        if self.model_type != "smollm3" {
            return Vec::new();
        }
        let every = self
            .no_rope_layer_interval
            .or(defaults.pattern)
            .unwrap_or(4)
            .max(1);
        match &self.no_rope_layers {
            Some(known) => known.iter().map(|known| *known == 0).collect(),
            None => (1..=layers as u64)
                .map(|block| block.is_multiple_of(every))
                .collect(),
        }
    }
}

impl ModelConfig {
    /// Reads and checks a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names the field that is missing, out of bounds, in conflict with another, or that asks for
    /// something no engine here computes.
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        if json.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { bytes: json.len() });
        }
        let published: Published = serde_json::from_slice(&plain_text(json)?)?;
        let fail = |field: &'static str, reason: String| ConfigError::Field {
            model_type: published.model_type.chars().take(64).collect(),
            field,
            reason,
        };
        let size =
            |field: &'static str, value: Option<u64>, bounds: RangeInclusive<u64>| match value {
                None => Err(fail(field, "is missing".into())),
                Some(value) if bounds.contains(&value) => Ok(value as usize),
                Some(value) => Err(fail(
                    field,
                    format!("is {value}, outside {}..={}", bounds.start(), bounds.end()),
                )),
            };

        let defaults = Defaults::of(&published.model_type);
        let unsupported = [
            (
                "attn_logit_softcapping",
                published.attn_logit_softcapping.is_some(),
            ),
            (
                "final_logit_softcapping",
                published.final_logit_softcapping.is_some(),
            ),
            (
                "use_bidirectional_attention",
                published.use_bidirectional_attention == Some(true),
            ),
            (
                "scale_attn_weights",
                published.scale_attn_weights == Some(false),
            ),
            (
                "scale_attn_by_inverse_layer_idx",
                published.scale_attn_by_inverse_layer_idx == Some(true),
            ),
            (
                "add_cross_attention",
                published.add_cross_attention == Some(true),
            ),
        ];
        if let Some((field, _)) = unsupported.into_iter().find(|(_, asked)| *asked) {
            return Err(fail(field, "asks for what is not supported".into()));
        }
        let hidden_size = size("hidden_size", published.hidden_size, 1..=1 << 16)?;
        let layers = size("num_hidden_layers", published.num_hidden_layers, 1..=1024)?;
        let heads = size(
            "num_attention_heads",
            published.num_attention_heads,
            1..=1024,
        )?;
        let kv_heads = size(
            "num_key_value_heads",
            published
                .num_key_value_heads
                .or(defaults.kv_heads)
                .or(published.num_attention_heads),
            1..=1024,
        )?;
        let four_times = (published.model_type == "gpt2").then_some(4 * hidden_size as u64);
        let ffn_size = size(
            "intermediate_size",
            published.intermediate_size.or(four_times),
            1..=1 << 20,
        )?;
        let vocab_size = size("vocab_size", published.vocab_size, 1..=1 << 22)?;
        let context = size(
            "max_position_embeddings",
            published.max_position_embeddings,
            1..=1 << 24,
        )?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(fail(
                "num_key_value_heads",
                format!("is {kv_heads} and does not divide the {heads} heads"),
            ));
        }
        let head_dim = published.head_dim.or(defaults.head_dim);
        if head_dim.is_none() && !hidden_size.is_multiple_of(heads) {
            return Err(fail(
                "hidden_size",
                format!("is {hidden_size}, no multiple of the {heads} heads"),
            ));
        }
        let head_dim = size(
            "head_dim",
            head_dim.or(Some((hidden_size / heads) as u64)),
            1..=1024,
        )?;
        if !head_dim.is_multiple_of(2) {
            return Err(fail(
                "head_dim",
                format!("is {head_dim}; rotary positions need an even one"),
            ));
        }
        let slides = published
            .slides(&defaults, layers)
            .map_err(|reason| fail("layer_types", reason))?;
        let window = match (published.sliding_window, slides.contains(&true)) {
            (_, false) | (Stated::None, _) => None,
            (Stated::Size(window), _) => Some(window),
            (Stated::Absent, _) if defaults.window.is_some() => defaults.window,
            (Stated::Absent, _) => {
                return Err(fail(
                    "layer_types",
                    format!("has {SLIDING_ATTENTION}, and sliding_window does not say how far"),
                ));
            }
        };
        let window = window
            .map(|window| size("sliding_window", Some(window), 1..=1 << 24))
            .transpose()?
            .filter(|window| *window < context);
        let slides = if window.is_some() { slides } else { Vec::new() };

        let original = published.original_max_position_embeddings;
        let rotary = |theta: f64, kind: &str, others: &[&str]| -> Result<Rotary, ConfigError> {
            let mut rotary = Rotary {
                fraction: published.partial_rotary_factor.unwrap_or(1.0) as f32,
                ..Rotary::unscaled(theta as f32)
            };
            for (field, rope) in [
                ("rope_scaling", &published.rope_scaling),
                ("rope_parameters", &published.rope_parameters),
            ] {
                // Older words scale the blocks that attend to everything only.
                let flat = |rope: &&Map<String, Value>| !rope.values().any(Value::is_object);
                let rope = rope.as_ref();
                if let Some(rope) = rope.filter(|rope| kind == FULL_ATTENTION || !flat(rope)) {
                    rotary = stated_rotary(rope, rotary, (kind, others), context, original)
                        .and_then(|rotary| rotary.check(head_dim).map(|()| rotary))
                        .map_err(|reason| fail(field, reason))?;
                }
            }
            if rotary.fraction != 1.0 && published.model_type != "phi3" {
                return Err(fail(
                    "partial_rotary_factor",
                    format!(
                        "is {}, and only heads that are rotated whole are supported",
                        rotary.fraction
                    ),
                ));
            }
            match (1.0..=1e12).contains(&rotary.theta) {
                true => Ok(rotary),
                false => Err(fail(
                    "rope_theta",
                    format!("is {}, outside 1..=1e12", rotary.theta),
                )),
            }
        };
        let theta = published.rope_theta.unwrap_or(defaults.rope_theta);
        let mixed = published.model_type == "gemma3_text";
        let nested: &[&str] = if mixed { &[SLIDING_ATTENTION] } else { &[] };
        let local_rotary = match mixed && window.is_some() {
            true => {
                let theta = published.rope_local_base_freq.unwrap_or(10_000.0);
                Some(rotary(theta, SLIDING_ATTENTION, &[FULL_ATTENTION])?)
            }
            false => None,
        };
        let rotary = rotary(theta, FULL_ATTENTION, nested)?;
        let context = context.min(rotary.longest().unwrap_or(context));
        let norm_epsilon = published.rms_norm_eps.unwrap_or(defaults.norm_epsilon);
        if !(1e-12..=1e-1).contains(&norm_epsilon) {
            return Err(fail(
                "rms_norm_eps",
                format!("is {norm_epsilon}, outside 1e-12..=0.1"),
            ));
        }
        let scale = |field: &'static str, stated: Option<f64>| match stated {
            Some(scale) if !(1e-6..=1e6).contains(&scale) => {
                Err(fail(field, format!("is {scale}, outside 1e-6..=1e6")))
            }
            stated => Ok(stated),
        };
        let per_root = |scalar: f64| 1.0 / scalar.sqrt();
        let attention_scale = scale("attention_multiplier", published.attention_multiplier)?
            .or(scale("query_pre_attn_scalar", published.query_pre_attn_scalar)?.map(per_root));
        let embedding_scale = scale("embedding_multiplier", published.embedding_multiplier)?;
        let embedding_scale = embedding_scale.or(mixed.then_some((hidden_size as f64).sqrt()));
        let residual_scale = scale("residual_multiplier", published.residual_multiplier)?;
        let logits_scaling = scale("logits_scaling", published.logits_scaling)?;

        let end_tokens = match &published.eos_token_id {
            None => Vec::new(),
            Some(stated) => {
                end_tokens(stated, vocab_size).map_err(|reason| fail("eos_token_id", reason))?
            }
        };

        Ok(Self {
            hidden_size,
            layers,
            heads,
            kv_heads,
            head_dim,
            ffn_size,
            vocab_size,
            context,
            sliding_window: window,
            slides,
            norm_epsilon: norm_epsilon as f32,
            rotary,
            local_rotary,
            positionless: published.positionless(&defaults, layers),
            attention_scale: attention_scale.map(|scale| scale as f32),
            embedding_scale: embedding_scale.unwrap_or(1.0) as f32,
            residual_scale: residual_scale.unwrap_or(1.0) as f32,
            logits_scale: (1.0 / logits_scaling.unwrap_or(1.0)) as f32,
            tied_embeddings: published.tie_word_embeddings.unwrap_or(defaults.tied),
            activation: published
                .hidden_activation
                .or(published.hidden_act)
                .unwrap_or_else(|| defaults.activation.into()),
            attention_bias: published
                .attention_bias
                .unwrap_or(published.model_type == "qwen2"),
            mlp_bias: published.mlp_bias.unwrap_or(false),
            end_tokens,
            model_type: published.model_type,
        })
    }

    /// Lets answers end with `tokens`, too: those of the chat template ([`ChatTemplate::end_tokens`]), which fine-tunes often
    /// leave out of their configuration. Tokens that the model cannot write change nothing.
    ///
    /// [`ChatTemplate::end_tokens`]: crate::ChatTemplate::end_tokens
    pub fn end_answers_with(&mut self, tokens: impl IntoIterator<Item = u32>) {
        for token in tokens {
            if (token as usize) < self.vocab_size && !self.end_tokens.contains(&token) {
                self.end_tokens.push(token);
            }
        }
    }
}
