//! GGUF files: metadata to `config.json`, tensors to rows as we store them.

use super::ConvertError;
use super::gguf_blocks::{KNOWN, Stored};
use super::gguf_header::{GgufHeader, HeaderError, TensorInfo, Value};
use super::input::Folder;
use crate::encoding::Encoding;
use crate::family::{Family, ModelWeight};
use crate::published_file::{LFS_POINTER_BYTES, LfsPointer, is_lfs_pointer};
use crate::source::ByteSource;
use crate::weights::WeightRows;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::rc::Rc;

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
    hidden_act: &'static str,
    attention_bias: bool,
    mlp_bias: bool,
    tie_word_embeddings: bool,
    bos_token_id: Option<u64>,
    eos_token_id: Vec<u64>,
    pad_token_id: Option<u64>,
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

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
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
    /// Missing keys, keys with a value that is not understood, and what no engine here computes: experts, scaled or partial rotary positions.
    pub fn config(&self, family: &Family) -> Result<ConfigJson, ConvertError> {
        let unsupported = |reason: String| Err(self.unsupported(reason));
        let own = |key: &str| format!("{}.{key}", family.model_type);
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
        if number("attention.sliding_window")?.is_some() {
            return unsupported("its attention slides over a window".into());
        }
        let scaling = self.text(&own("rope.scaling.type"))?;
        // llama.cpp scales by a factor whose kind is not named, too.
        let mut factor = false;
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            factor |= self
                .decimal(&own(key))?
                .is_some_and(|factor| factor != 0.0 && factor != 1.0);
        }
        let scaled = scaling.map_or(factor, |kind| kind != "none");
        if scaled || self.header.tensors.contains_key("rope_freqs.weight") {
            return unsupported("its rotary positions are scaled".into());
        }
        let (hidden_size, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            return unsupported(format!(
                "{heads} heads do not divide a width of {hidden_size}"
            ));
        }
        let head_dim = number("attention.key_length")?.unwrap_or(hidden_size / heads);
        if let Some(rotated) = number("rope.dimension_count")?
            && rotated != head_dim
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
                .unwrap_or(1e-5),
            rope_theta: self.decimal(&own("rope.freq_base"))?.unwrap_or(10_000.0),
            hidden_act: "silu",
            attention_bias: family.qkv_bias,
            mlp_bias: false,
            tie_word_embeddings: !has("output.weight"),
            bos_token_id: self.token("bos")?,
            eos_token_id: end_tokens,
            pad_token_id: self.token("padding")?,
        })
    }

    /// How `tensor` is stored in the file, and the form in which it will be stored: a vector's numbers one by one.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration asks for.
    pub fn stored(&self, tensor: &ModelWeight) -> Result<(Stored, Encoding), ConvertError> {
        let (_, stored) = self.info(tensor)?;
        let encoding = match stored.encoding {
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
        if tensor.vector && stored.encoding.is_quantised() {
            let mut values = vec![0.0; tensor.cols];
            whole.dequantise_row(0, &mut values);
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
