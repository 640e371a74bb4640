//! GGUF files: metadata to `config.json`, tensors to rows as we store them.

use super::ConvertError;
use super::gguf_blocks::{KNOWN, Stored};
use super::gguf_header::{GgufHeader, HeaderError, TensorInfo, Value};
use super::input::Folder;
use crate::config::activation_of;
use crate::encoding::Encoding;
use crate::family::{Family, ModelWeight, WeightRole};
use crate::published_file::{LFS_POINTER_BYTES, LfsPointer, is_lfs_pointer};
use crate::source::ByteSource;
use crate::weights::WeightRows;
use serde::Serialize;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What llama.cpp divides the frequencies of rotary positions by: always, in short texts, and in long ones.
const ROPE_FACTORS: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_short.weight",
    "rope_factors_long.weight",
];

/// Bytes of a tensor that are read at once.
const PIECE: usize = 4 << 20;

/// An opened GGUF file: its header in memory, its tensors where they are.
pub struct GgufFile {
    path: PathBuf,
    header: GgufHeader,
    bytes: Rc<dyn ByteSource>,
}

impl std::fmt::Debug for GgufFile {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("GgufFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// `config.json` in the words that Hugging Face's `LlamaConfig` and its kin share.
#[derive(Debug, Serialize)]
pub struct ConfigJson {
    architectures: [&'static str; 1],
    model_type: &'static str,
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: u64,
    head_dim: u64,
    vocab_size: u64,
    max_position_embeddings: u64,
    rms_norm_eps: f64,
    rope_theta: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    rope_scaling: Option<serde_json::Value>,
    hidden_act: &'static str,
    attention_bias: bool,
    mlp_bias: bool,
    tie_word_embeddings: bool,
    bos_token_id: Option<u64>,
    eos_token_id: Vec<u64>,
    pad_token_id: Option<u64>,
    #[serde(flatten)]
    own_fields: serde_json::Map<String, serde_json::Value>,
}

impl GgufFile {
    pub async fn open(folder: &dyn Folder, name: &str) -> Result<Self, ConvertError> {
        let unreadable = |reason: String| folder.unreadable(name, reason);
        let bytes = folder.open(name)?;
        let beginning = (LFS_POINTER_BYTES as u64).min(bytes.length()) as usize;
        if is_lfs_pointer(&bytes.read(0, beginning).await?) {
            return Err(unreadable(LfsPointer.to_string()));
        }
        let header = GgufHeader::read(&bytes)
            .await
            .map_err(|error| match error {
                HeaderError::Source(error) => error.into(),
                other => unreadable(other.to_string()),
            })?;
        for (tensor, info) in &header.tensors {
            if info.kind.stored().is_none() {
                return Err(ConvertError::Tensor {
                    tensor: tensor.clone(),
                    reason: format!(
                        "is stored as {}, which is not read here; a file of the same model in {KNOWN} works",
                        info.kind.name()
                    ),
                });
            }
        }
        Ok(Self {
            path: folder.path().join(name),
            header,
            bytes,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.header.metadata.get(key)
    }

    /// A key that is there with a value of a kind that is not expected. It never counts as absent.
    fn misunderstood(&self, key: &str, expected: &str) -> ConvertError {
        let value = self.value(key).map(|value| format!("{value:?}"));
        let value: String = value.unwrap_or_default().chars().take(60).collect();
        self.unsupported(format!("its {key} is {value}, which is no {expected}"))
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, ConvertError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.misunderstood(key, "text")),
        }
    }

    pub fn number(&self, key: &str) -> Result<Option<u64>, ConvertError> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let number = match *value {
            Value::Unsigned(number) => Some(number),
            Value::Signed(number) => number.try_into().ok(),
            _ => None,
        };
        number
            .map(Some)
            .ok_or_else(|| self.misunderstood(key, "number of things"))
    }

    /// A number with decimals. Of an f32, the shortest decimal, so that 1e-5 does not become 9.999999747378752e-6.
    fn decimal(&self, key: &str) -> Result<Option<f64>, ConvertError> {
        match self.value(key) {
            Some(Value::F32(number)) => Ok(number.to_string().parse().ok()),
            Some(Value::F64(number)) => Ok(Some(*number)),
            Some(Value::String(_) | Value::Bool(_) | Value::Array(_)) => {
                Err(self.misunderstood(key, "number"))
            }
            _ => Ok(self.number(key)?.map(|number| number as f64)),
        }
    }

    /// The id under `tokenizer.ggml.NAME_token_id`, where it is one: −1 means none.
    fn token(&self, name: &str) -> Result<Option<u64>, ConvertError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        match self.value(&key) {
            Some(Value::Signed(-1)) => Ok(None),
            Some(Value::Unsigned(none)) if *none == u64::from(u32::MAX) => Ok(None),
            _ => self.number(&key),
        }
    }

    /// The spelling of that token.
    pub fn token_text(&self, name: &str) -> Result<Option<&str>, ConvertError> {
        let Some(id) = self.token(name)? else {
            return Ok(None);
        };
        let tokens = self.array("tokenizer.ggml.tokens")?.unwrap_or_default();
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
        Ok(match token {
            Some(Value::String(text)) => Some(text),
            _ => None,
        })
    }

    pub fn array(&self, key: &str) -> Result<Option<&[Value]>, ConvertError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(_) => Err(self.misunderstood(key, "list")),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>, ConvertError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.misunderstood(key, "yes or no")),
        }
    }

    /// Names of all weights, sorted.
    pub fn weight_names(&self) -> impl Iterator<Item = &str> {
        let names = self.header.tensors.keys().map(String::as_str);
        names.filter(|name| !ROPE_FACTORS.contains(name))
    }

    pub fn unsupported(&self, reason: String) -> ConvertError {
        ConvertError::Unsupported {
            path: self.path.clone(),
            reason,
        }
    }

    /// The model's shape and constants as a `config.json`.
    ///
    /// # Errors
    /// Missing keys, keys with a value that is not understood, and what no engine here computes.
    pub async fn config(&self, family: &Family) -> Result<ConfigJson, ConvertError> {
        let unsupported = |reason: String| Err(self.unsupported(reason));
        let own = |key: &str| format!("{}.{key}", family.gguf);
        let number = |key: &str| self.number(&own(key));
        let needed = |key: &str| {
            number(key)?.ok_or_else(|| ConvertError::Read {
                path: self.path.clone(),
                reason: format!("lacks {}", own(key)),
            })
        };
        if number("expert_count")?.is_some_and(|count| count > 0) {
            return unsupported("it is a mixture of experts".into());
        }
        let (hidden_size, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            return unsupported(format!(
                "{heads} heads do not divide a width of {hidden_size}"
            ));
        }
        let head_dim = number("attention.key_length")?.unwrap_or(hidden_size / heads);
        let own_fields = self.own_fields(family, [hidden_size, heads, head_dim])?;
        let known = |field: &str| own_fields.contains_key(field);
        if number("attention.sliding_window")?.is_some() && !known("sliding_window") {
            return unsupported("its attention slides over a window".into());
        }
        if let Some(rotated) = number("rope.dimension_count")?
            && rotated != head_dim
            && !known("partial_rotary_factor")
        {
            return unsupported(format!(
                "only {rotated} of {head_dim} dimensions of a head are rotated"
            ));
        }
        let vocab_size = match self.array("tokenizer.ggml.tokens")? {
            Some(tokens) => tokens.len() as u64,
            None => needed("vocab_size")?,
        };
        let mut end_tokens = Vec::new();
        for name in ["eos", "eot", "eom"] {
            let token = self
                .token(name)?
                .filter(|token| !end_tokens.contains(token));
            end_tokens.extend(token);
        }
        let has = |name: &str| self.header.tensors.contains_key(name);
        Ok(ConfigJson {
            architectures: [family.class],
            model_type: family.model_type,
            hidden_size,
            intermediate_size: needed("feed_forward_length")?,
            num_hidden_layers: needed("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: number("attention.head_count_kv")?.unwrap_or(heads),
            head_dim,
            vocab_size,
            max_position_embeddings: needed("context_length")?,
            rms_norm_eps: self
                .decimal(&own("attention.layer_norm_rms_epsilon"))?
                .or(self.decimal(&own("attention.layer_norm_epsilon"))?)
                .unwrap_or(1e-5),
            rope_theta: self.decimal(&own("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling(family).await?,
            hidden_act: activation_of(family.model_type),
            attention_bias: (family.names)(WeightRole::QueryBias).is_some(),
            mlp_bias: false,
            tie_word_embeddings: !has("output.weight"),
            bos_token_id: self.token("bos")?,
            eos_token_id: end_tokens,
            pad_token_id: self.token("padding")?,
            own_fields,
        })
    }

    /// The fields of `config.json` that only models of this family have.
    fn own_fields(
        &self,
        family: &Family,
        [hidden_size, heads, head_dim]: [u64; 3],
    ) -> Result<serde_json::Map<String, serde_json::Value>, ConvertError> {
        let own = |key: &str| format!("{}.{key}", family.gguf);
        let number = |key: &str| self.number(&own(key));
        let decimal = |key: &str| self.decimal(&own(key));
        let fields = match family.model_type {
            "gemma3_text" => {
                // The one size whose heads are not as wide as its queries are scaled for.
                let scalar = match number("block_count")? {
                    Some(62) => hidden_size / heads,
                    _ => head_dim,
                };
                json!({
                    "query_pre_attn_scalar": scalar,
                    "sliding_window": number("attention.sliding_window")?,
                    // Files leave out what was the only choice when they were made.
                    "sliding_window_pattern": number("attention.sliding_window_pattern")?.unwrap_or(6),
                    "rope_local_base_freq": decimal("rope.freq_base_swa")?.unwrap_or(10_000.0),
                })
            }
            "phi3" => json!({
                "sliding_window": number("attention.sliding_window")?.filter(|window| *window > 0),
                "partial_rotary_factor":
                    number("rope.dimension_count")?.unwrap_or(head_dim) as f64 / head_dim as f64,
                "original_max_position_embeddings": number("rope.scaling.original_context_length")?,
            }),
            "granite" => json!({
                "embedding_multiplier": decimal("embedding_scale")?.unwrap_or(1.0),
                "residual_multiplier": decimal("residual_scale")?.unwrap_or(1.0),
                "attention_multiplier":
                    decimal("attention.scale")?.unwrap_or(1.0 / (head_dim as f64).sqrt()),
                "logits_scaling": decimal("logit_scale")?.unwrap_or(1.0),
            }),
            _ => json!({}),
        };
        Ok(fields.as_object().cloned().unwrap_or_default())
    }

    /// How the frequencies of rotary positions are scaled, in Hugging Face's words. llama.cpp keeps the factors of Llama 3 as a
    /// tensor by which frequencies are divided, and so do the words of LongRoPE.
    ///
    /// # Errors
    /// A kind of scaling that is not computed here.
    async fn rope_scaling(
        &self,
        family: &Family,
    ) -> Result<Option<serde_json::Value>, ConvertError> {
        let own = |key: &str| format!("{}.{key}", family.gguf);
        let kind = self.text(&own("rope.scaling.type"))?;
        let mut factor = 1.0;
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            let stated = self.decimal(&own(key))?;
            factor = stated.filter(|stated| *stated != 0.0).unwrap_or(factor);
        }
        let [both, short, long] = ROPE_FACTORS;
        let has = |name: &str| self.header.tensors.contains_key(name);
        if has(short) {
            return Ok(Some(json!({
                "rope_type": "longrope",
                "short_factor": self.numbers(short).await?,
                "long_factor": self.numbers(long).await?,
                "attention_factor": self.decimal(&own("rope.scaling.attn_factor"))?,
            })));
        }
        let divided = has(both);
        match kind {
            // llama.cpp scales by a factor whose kind is not named, too.
            None | Some("linear") if factor != 1.0 && !divided => Ok(Some(
                json!({"rope_type": "linear", "factor": factor}),
            )),
            None | Some("none" | "linear") if divided && (kind == Some("none") || factor == 1.0) => {
                let factors = self.numbers(both).await?;
                Ok(Some(json!({
                    "rope_type": "longrope", "short_factor": factors, "long_factor": factors, "attention_factor": 1.0,
                })))
            }
            None | Some("none" | "linear") if !divided => Ok(None),
            kind => Err(self.unsupported(format!(
                "its rotary positions are scaled in a way that is not supported ({}, factor {factor})",
                kind.unwrap_or("none named")
            ))),
        }
    }

    /// A tensor that is no weight, as f32.
    async fn numbers(&self, name: &str) -> Result<Vec<f32>, ConvertError> {
        let failed = |reason: &str| ConvertError::Tensor {
            tensor: name.into(),
            reason: reason.into(),
        };
        let info = self.header.tensors.get(name);
        let info = info.ok_or_else(|| failed("is missing from the file"))?;
        let stored = info.kind.stored().filter(|stored| stored.block == 1);
        let stored = stored.ok_or_else(|| failed("is not stored as plain numbers"))?;
        let [count @ 1..=4096] = info.shape[..] else {
            return Err(failed("is no list of a few numbers"));
        };
        let bytes = self.bytes.read(info.at, count * stored.bytes).await?;
        let rows = stored.rows(1, count, bytes);
        let mut values = vec![0.0; count];
        rows.map_err(|_| failed("has numbers that are too large"))?
            .dequantise_row(0, &mut values);
        Ok(values)
    }

    /// How `tensor` is stored in the file, and the form in which it will be stored: a vector's numbers one by one.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration asks for.
    pub fn stored(&self, tensor: &ModelWeight) -> Result<(Stored, Encoding), ConvertError> {
        let (_, stored) = self.info(tensor)?;
        let encoding = match stored.encoding {
            _ if tensor.above_stored != 0.0 => Encoding::F32,
            quantised if tensor.vector && quantised.is_quantised() => Encoding::F32,
            other => other,
        };
        Ok((stored, encoding))
    }

    /// Reads a whole tensor in the encoding that [`Self::stored`] names. `interleaved_heads` is the number of heads whose
    /// rows are put in Hugging Face's order.
    pub async fn read(
        &self,
        tensor: &ModelWeight,
        interleaved_heads: Option<usize>,
    ) -> Result<WeightRows, ConvertError> {
        let (info, stored) = self.info(tensor)?;
        let too_large = |_| {
            let reason = "has numbers that are too large for blocks with f16 scales; get a file of the same model in F16 or BF16";
            wrong(tensor, reason.into())
        };
        let outside = || wrong(tensor, "is larger than any file".into());
        let width = stored.length(tensor.cols).ok_or_else(outside)?;
        let step = (PIECE / width.max(1)).max(1);
        let mut whole = WeightRows::none(stored.encoding, tensor.cols);
        for first in (0..tensor.rows).step_by(step) {
            let count = step.min(tensor.rows - first);
            let at = (first as u64).checked_mul(width as u64);
            let at = at
                .and_then(|at| info.at.checked_add(at))
                .ok_or_else(outside)?;
            let bytes = self.bytes.read(at, count * width).await;
            let bytes = bytes.map_err(|error| wrong(tensor, error.to_string()))?;
            // Not before something of it was found: a header may claim any size.
            if first == 0 {
                whole.reserve(tensor.rows);
            }
            let rows = stored.rows(count, tensor.cols, bytes).map_err(too_large)?;
            whole.append(&rows);
        }
        let as_numbers = stored.encoding.is_quantised() || tensor.above_stored != 0.0;
        if tensor.vector && as_numbers {
            let mut values = vec![0.0; tensor.cols];
            whole.dequantise_row(0, &mut values);
            let above = tensor.above_stored;
            values.iter_mut().for_each(|value| *value -= above);
            whole = WeightRows::none(Encoding::F32, tensor.cols);
            whole.rows = 1;
            whole.data = bytemuck::cast_slice(&values).to_vec();
        }
        Ok(match interleaved_heads {
            Some(heads) => rotate_half_order(whole, heads, tensor.vector),
            None => whole,
        })
    }

    fn info(&self, tensor: &ModelWeight) -> Result<(&TensorInfo, Stored), ConvertError> {
        let info = self.header.tensors.get(&tensor.gguf).ok_or_else(|| {
            wrong(
                tensor,
                format!("({}) is missing from the file", tensor.gguf),
            )
        })?;
        let expected: &[usize] = if tensor.vector {
            &[tensor.cols]
        } else {
            &[tensor.rows, tensor.cols]
        };
        if info.shape != expected {
            return Err(wrong(
                tensor,
                format!(
                    "({}) has shape {:?}, where the configuration asks for {expected:?}",
                    tensor.gguf, info.shape
                ),
            ));
        }
        let unread = || wrong(tensor, format!("is stored as {}", info.kind.name()));
        let stored = info.kind.stored().ok_or_else(unread)?;
        if !tensor.cols.is_multiple_of(stored.block) {
            return Err(wrong(
                tensor,
                format!(
                    "has rows of {}, not whole blocks of {}",
                    tensor.cols, stored.block
                ),
            ));
        }
        Ok((info, stored))
    }
}

fn wrong(tensor: &ModelWeight, reason: String) -> ConvertError {
    ConvertError::Tensor {
        tensor: tensor.name.clone(),
        reason,
    }
}

/// Undoes llama.cpp's permutation of q and k (`LlamaModel.permute` in convert_hf_to_gguf.py):
/// row `(head, half, pair)` of the result is row `(head, pair, half)` of `stored`. A vector's
/// elements are permuted like rows.
fn rotate_half_order(stored: WeightRows, heads: usize, vector: bool) -> WeightRows {
    let rows = if vector { stored.cols } else { stored.rows };
    let pairs = rows / heads / 2;
    let permute = |part: Vec<u8>| {
        let width = part.len() / rows;
        let mut permuted = Vec::with_capacity(part.len());
        for head in 0..heads {
            for half in 0..2 {
                for pair in 0..pairs {
                    let from = (head * 2 * pairs + pair * 2 + half) * width;
                    permuted.extend_from_slice(&part[from..from + width]);
                }
            }
        }
        permuted
    };
    WeightRows {
        data: permute(stored.data),
        scale: permute(stored.scale),
        min: permute(stored.min),
        ..stored
    }
}
