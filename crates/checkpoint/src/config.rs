//! `config.json`, as Hugging Face writes it, reduced to what a decoder-only transformer needs.

use crate::published_file::{LfsPointer, plain_text};
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
    /// Longest sequence the model was trained for, in tokens; at most its sliding window.
    pub context: usize,
    /// The number of tokens that a token attends to, where it bounds `context`: within it, windowed attention is
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
    rope_scaling: Option<Map<String, Value>>,
    /// The place in which transformers 5 keeps what `rope_theta` and `rope_scaling` said before.
    rope_parameters: Option<Map<String, Value>>,
    partial_rotary_factor: Option<f64>,
    /// Which blocks attend to a window; absent: none, but for what `sliding_window` says.
    layer_types: Option<Vec<String>>,
    tie_word_embeddings: Option<bool>,
    hidden_act: Option<String>,
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

/// The base of the rotary positions that one of the `rope_…` fields states, if it does. Every key in it has to be
/// understood: a base that counts as absent would make every number a little wrong.
fn stated_rope_theta(rope: &Map<String, Value>) -> Result<Option<f64>, String> {
    if rope.values().any(Value::is_object) {
        return rope_theta_of_the_only_kind(rope);
    }
    let mut theta = None;
    for (key, value) in rope.iter().filter(|(_, value)| !value.is_null()) {
        match (key.as_str(), value.as_str(), value.as_f64()) {
            ("rope_theta", _, Some(number)) => theta = Some(number),
            ("rope_type" | "type", Some("default"), _) => {}
            ("factor" | "partial_rotary_factor", _, Some(1.0)) => {}
            ("rope_type" | "type", Some(kind), _) => {
                let kind: String = kind.chars().take(64).collect();
                return Err(format!(
                    "is `{kind}`, which is not supported (only `default` is)"
                ));
            }
            _ => {
                return Err(format!("has {}, which is not supported", shown(key, value)));
            }
        }
    }
    Ok(theta)
}

/// The stated base where the parameters are nested by kind of block, and there is one kind.
fn rope_theta_of_the_only_kind(rope: &Map<String, Value>) -> Result<Option<f64>, String> {
    let mut kinds = rope.iter().filter(|(_, value)| !value.is_null());
    match (kinds.next(), kinds.next()) {
        (Some((kind, Value::Object(only))), None) if kind == FULL_ATTENTION => {
            stated_rope_theta(only)
        }
        (Some((key, value)), None) => {
            Err(format!("has {}, which is not supported", shown(key, value)))
        }
        _ => Err("differs from block to block, which is not supported".into()),
    }
}

const FULL_ATTENTION: &str = "full_attention";
const SLIDING_ATTENTION: &str = "sliding_attention";

/// A key and its value for a sentence.
fn shown(key: &str, value: &Value) -> String {
    format!("{key}: {value}").chars().take(100).collect()
}

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
        let layer_types = published.layer_types.iter().flatten();
        if let Some(unknown) = layer_types
            .clone()
            .find(|kind| ![FULL_ATTENTION, SLIDING_ATTENTION].contains(&kind.as_str()))
        {
            let unknown: String = unknown.chars().take(64).collect();
            return Err(fail(
                "layer_types",
                format!("has {unknown:?}, which is not supported"),
            ));
        }
        let slides = layer_types.clone().any(|kind| kind == SLIDING_ATTENTION);
        let window = match (published.model_type.as_str(), published.sliding_window) {
            // The default of transformers' MistralConfig.
            ("mistral", Stated::Absent) => Some(4096),
            ("mistral", Stated::Size(window)) => Some(window),
            ("qwen2", Stated::Size(window))
                if published.use_sliding_window == Some(true) || slides =>
            {
                Some(window)
            }
            _ if slides && published.model_type != "llama" => {
                return Err(fail(
                    "layer_types",
                    format!("has {SLIDING_ATTENTION}, and sliding_window does not say how far"),
                ));
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

        let mut rope_theta = published.rope_theta;
        for (field, rope) in [
            ("rope_scaling", &published.rope_scaling),
            ("rope_parameters", &published.rope_parameters),
        ] {
            if let Some(rope) = rope {
                let stated = stated_rope_theta(rope).map_err(|reason| fail(field, reason))?;
                rope_theta = stated.or(rope_theta);
            }
        }
        if let Some(factor) = published.partial_rotary_factor.filter(|f| *f != 1.0) {
            return Err(fail(
                "partial_rotary_factor",
                format!("is {factor}, and only heads that are rotated whole are supported"),
            ));
        }
        let rope_theta = rope_theta.unwrap_or(10_000.0);
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
