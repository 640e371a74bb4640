//! `config.json`, as Hugging Face writes it, reduced to what a decoder-only transformer needs.

use serde::Deserialize;
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
    /// Longest sequence the model was trained for, in tokens; at most its sliding window.
    pub context: usize,
    /// How many tokens back a token attends, where that is what bounds `context`: within it, windowed attention is
    /// ordinary attention, and beyond it no engine here computes what the model was trained to.
    pub sliding_window: Option<usize>,
    pub norm_epsilon: f32,
    pub rope_theta: f32,
    /// Whether the output head is the embedding matrix.
    pub tied_embeddings: bool,
    /// Hugging Face's `hidden_act`, e.g. `silu`.
    pub activation: String,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    /// Tokens that end an answer.
    pub end_tokens: Vec<u32>,
}

/// The fields as published; absent ones take the defaults of transformers' `LlamaConfig`.
#[derive(Deserialize)]
struct Published {
    model_type: String,
    hidden_size: Option<u64>,
    num_hidden_layers: Option<u64>,
    num_attention_heads: Option<u64>,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    intermediate_size: Option<u64>,
    vocab_size: Option<u64>,
    max_position_embeddings: Option<u64>,
    #[serde(default, deserialize_with = "stated")]
    sliding_window: Stated,
    use_sliding_window: Option<bool>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    /// Where transformers 5 keeps what `rope_theta` and `rope_scaling` said before.
    rope_parameters: Option<Rope>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    eos_token_id: Option<EndTokens>,
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

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EndTokens {
    One(u32),
    Several(Vec<u32>),
}

impl ModelConfig {
    /// Reads and checks a Hugging Face `config.json`.
    ///
    /// # Errors
    /// Names the field that is missing, out of bounds, in conflict with another, or that asks for
    /// something no engine here computes (scaled rotary positions).
    pub fn from_json(json: &[u8]) -> Result<Self, ConfigError> {
        if json.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLong { bytes: json.len() });
        }
        let published: Published = serde_json::from_slice(json)?;
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
                .or(published.num_attention_heads),
            1..=1024,
        )?;
        let ffn_size = size(
            "intermediate_size",
            published.intermediate_size,
            1..=1 << 20,
        )?;
        let vocab_size = size("vocab_size", published.vocab_size, 1..=1 << 22)?;
        let context = size(
            "max_position_embeddings",
            published.max_position_embeddings,
            1..=1 << 24,
        )?;
        let window = match (published.model_type.as_str(), published.sliding_window) {
            // What transformers' MistralConfig takes where the file says nothing.
            ("mistral", Stated::Absent) => Some(4096),
            ("mistral", Stated::Size(window)) => Some(window),
            ("qwen2", Stated::Size(window)) if published.use_sliding_window == Some(true) => {
                Some(window)
            }
            _ => None,
        };
        let window = window
            .map(|window| size("sliding_window", Some(window), 1..=1 << 24))
            .transpose()?
            .filter(|window| *window < context);
        if !heads.is_multiple_of(kv_heads) {
            return Err(fail(
                "num_key_value_heads",
                format!("is {kv_heads} and does not divide the {heads} heads"),
            ));
        }
        if published.head_dim.is_none() && !hidden_size.is_multiple_of(heads) {
            return Err(fail(
                "hidden_size",
                format!("is {hidden_size}, no multiple of the {heads} heads"),
            ));
        }
        let head_dim = size(
            "head_dim",
            published.head_dim.or(Some((hidden_size / heads) as u64)),
            1..=1024,
        )?;
        if !head_dim.is_multiple_of(2) {
            return Err(fail(
                "head_dim",
                format!("is {head_dim}; rotary positions need an even one"),
            ));
        }

        for rope in [&published.rope_scaling, &published.rope_parameters]
            .into_iter()
            .flatten()
        {
            if let Some(kind) = rope.rope_type.as_deref()
                && kind != "default"
            {
                let kind: String = kind.chars().take(64).collect();
                return Err(fail(
                    "rope_scaling",
                    format!("is `{kind}`, which is not supported (only `default` is)"),
                ));
            }
        }
        let rope_theta = published
            .rope_parameters
            .as_ref()
            .and_then(|rope| rope.rope_theta)
            .or(published.rope_theta)
            .unwrap_or(10_000.0);
        if !(1.0..=1e12).contains(&rope_theta) {
            return Err(fail(
                "rope_theta",
                format!("is {rope_theta}, outside 1..=1e12"),
            ));
        }
        let norm_epsilon = published.rms_norm_eps.unwrap_or(1e-6);
        if !(1e-12..=1e-1).contains(&norm_epsilon) {
            return Err(fail(
                "rms_norm_eps",
                format!("is {norm_epsilon}, outside 1e-12..=0.1"),
            ));
        }

        let end_tokens = match &published.eos_token_id {
            None => Vec::new(),
            Some(EndTokens::One(id)) => vec![*id],
            Some(EndTokens::Several(ids)) => ids.clone(),
        };
        if end_tokens.len() > 64 {
            return Err(fail(
                "eos_token_id",
                format!("lists {} tokens, more than 64", end_tokens.len()),
            ));
        }
        if let Some(id) = end_tokens.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(fail(
                "eos_token_id",
                format!("is {id}, but the vocabulary has {vocab_size} tokens"),
            ));
        }

        Ok(Self {
            hidden_size,
            layers,
            heads,
            kv_heads,
            head_dim,
            ffn_size,
            vocab_size,
            context: window.unwrap_or(context),
            sliding_window: window,
            norm_epsilon: norm_epsilon as f32,
            rope_theta: rope_theta as f32,
            tied_embeddings: published.tie_word_embeddings.unwrap_or(false),
            activation: published.hidden_act.unwrap_or_else(|| "silu".into()),
            attention_bias: published
                .attention_bias
                .unwrap_or(published.model_type == "qwen2"),
            mlp_bias: published.mlp_bias.unwrap_or(false),
            end_tokens,
            model_type: published.model_type,
        })
    }
}
