//! GGUF files: metadata to `config.json`, tensors to rows as we store them.

use super::ConvertError;
use super::gguf_types;
use super::quantise::{Loss, to_q8_0};
use crate::encoding::{BLOCK, Encoding};
use crate::family::{Family, ModelWeight};
use crate::published_file::{LFS_POINTER_BYTES, LfsPointer, is_lfs_pointer};
use crate::source::FileSource;
use crate::weights::WeightRows;
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use serde::Serialize;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

/// An opened GGUF file: its header in memory, its tensors on disk.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    content: Content,
    bytes: FileSource,
}

/// The way in which a tensor of a GGUF file becomes ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The numbers and blocks stay the same.
    AsStored(Encoding),
    /// The tensor is dequantised, and stored again in 8 bits (a vector as f32).
    Dequantised(Encoding),
}

impl Carried {
    pub fn encoding(self) -> Encoding {
        match self {
            Self::AsStored(encoding) | Self::Dequantised(encoding) => encoding,
        }
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
    pub fn open(path: &Path) -> Result<Self, ConvertError> {
        let unreadable = |reason: String| ConvertError::Read {
            path: path.into(),
            reason,
        };
        let open = || File::open(path).map_err(|error| unreadable(error.to_string()));
        let mut beginning = Vec::new();
        open()?
            .take(LFS_POINTER_BYTES as u64)
            .read_to_end(&mut beginning)
            .map_err(|error| unreadable(error.to_string()))?;
        if is_lfs_pointer(&beginning) {
            return Err(unreadable(LfsPointer.to_string()));
        }
        if !beginning.starts_with(b"GGUF") {
            return Err(unreadable(
                "is not a GGUF file; of a model in safetensors files, name the folder".into(),
            ));
        }
        let unknown = |error: candle_core::Error| {
            let file = open().ok().map(BufReader::new);
            match file.and_then(|mut file| gguf_types::first_unknown(&mut file)) {
                Some((tensor, kind)) => ConvertError::Tensor {
                    tensor,
                    reason: format!(
                        "is stored as {kind}, which is not read here; a file of the same model in {} works",
                        gguf_types::KNOWN
                    ),
                },
                None => unreadable(format!("is not a GGUF file that can be read: {error}")),
            }
        };
        let content = Content::read(&mut BufReader::new(open()?)).map_err(unknown)?;
        Ok(Self {
            path: path.into(),
            content,
            bytes: FileSource::open(path)?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
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
            Value::U8(n) => Some(n.into()),
            Value::U16(n) => Some(n.into()),
            Value::U32(n) => Some(n.into()),
            Value::U64(n) => Some(n),
            Value::I8(n) => n.try_into().ok(),
            Value::I16(n) => n.try_into().ok(),
            Value::I32(n) => n.try_into().ok(),
            Value::I64(n) => n.try_into().ok(),
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
            Some(Value::I8(-1) | Value::I16(-1) | Value::I32(-1) | Value::I64(-1)) => Ok(None),
            Some(Value::U32(u32::MAX)) => Ok(None),
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
        Ok(token
            .and_then(|token| token.to_string().ok())
            .map(String::as_str))
    }

    pub fn array(&self, key: &str) -> Result<Option<&[Value]>, ConvertError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(_) => Err(self.misunderstood(key, "list")),
        }
    }

    /// Names of all tensors, sorted.
    pub fn tensor_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .content
            .tensor_infos
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
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
        if scaled || self.content.tensor_infos.contains_key("rope_freqs.weight") {
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
        let has = |name: &str| self.content.tensor_infos.contains_key(name);
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

    /// The form in which `tensor` will be stored.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape than the configuration asks for.
    pub fn carried(&self, tensor: &ModelWeight) -> Result<Carried, ConvertError> {
        let info = self.info(tensor)?;
        let as_stored = |encoding| Ok(Carried::AsStored(encoding));
        match info.ggml_dtype {
            GgmlDType::F32 => as_stored(Encoding::F32),
            GgmlDType::F16 => as_stored(Encoding::F16),
            GgmlDType::BF16 => as_stored(Encoding::Bf16),
            _ if tensor.vector => Ok(Carried::Dequantised(Encoding::F32)),
            GgmlDType::Q8_0 => as_stored(Encoding::Q8_0),
            GgmlDType::Q4_0 => as_stored(Encoding::Q4_0),
            GgmlDType::Q4_1 => as_stored(Encoding::Q4_1),
            _ if tensor.cols.is_multiple_of(BLOCK) => Ok(Carried::Dequantised(Encoding::Q8_0)),
            _ => Ok(Carried::Dequantised(Encoding::F32)),
        }
    }

    /// llama.cpp's name of the tensor's type, for the manifest.
    pub fn type_name(&self, tensor: &ModelWeight) -> String {
        self.content
            .tensor_infos
            .get(&tensor.gguf)
            .map_or_else(String::new, |info| format!("{:?}", info.ggml_dtype))
    }

    /// Reads a whole tensor in the encoding that [`Self::carried`] names. `interleaved_heads` is the number of heads whose
    /// rows are put in Hugging Face's order.
    pub fn read(
        &self,
        tensor: &ModelWeight,
        interleaved_heads: Option<usize>,
    ) -> Result<WeightRows, ConvertError> {
        let info = self.info(tensor)?;
        let rows = match self.carried(tensor)? {
            Carried::AsStored(encoding) => {
                let elements = tensor.rows * tensor.cols;
                let length = elements / info.ggml_dtype.block_size() * info.ggml_dtype.type_size();
                let start = self
                    .content
                    .tensor_data_offset
                    .checked_add(info.offset)
                    .ok_or_else(|| wrong(tensor, "lies outside the file".into()))?;
                let bytes = self
                    .bytes
                    .read_now(start, length)
                    .map_err(|error| wrong(tensor, error.to_string()))?;
                split_blocks(encoding, tensor.rows, tensor.cols, bytes)
            }
            Carried::Dequantised(encoding) => {
                let failed = |error: candle_core::Error| wrong(tensor, error.to_string());
                let mut file = File::open(&self.path).map_err(|error| ConvertError::Read {
                    path: self.path.clone(),
                    reason: error.to_string(),
                })?;
                let values = info
                    .read(&mut file, self.content.tensor_data_offset, &Device::Cpu)
                    .and_then(|stored| stored.dequantize(&Device::Cpu))
                    .and_then(|stored| stored.flatten_all())
                    .and_then(|stored| stored.to_vec1::<f32>())
                    .map_err(failed)?;
                if encoding == Encoding::Q8_0 && Loss::of(&values, encoding) == Some(Loss::TooLarge)
                {
                    return Err(wrong(
                        tensor,
                        "has numbers that are too large for blocks of 8 bits; get a file of the same model in F16 or BF16"
                            .into(),
                    ));
                }
                match encoding {
                    Encoding::Q8_0 => to_q8_0(&values, tensor.rows, tensor.cols),
                    _ => split_blocks(
                        Encoding::F32,
                        tensor.rows,
                        tensor.cols,
                        bytemuck::cast_slice(&values).to_vec(),
                    ),
                }
            }
        };
        Ok(match interleaved_heads {
            Some(heads) => rotate_half_order(rows, heads, tensor.vector),
            None => rows,
        })
    }

    fn info(&self, tensor: &ModelWeight) -> Result<&TensorInfo, ConvertError> {
        let info = self.content.tensor_infos.get(&tensor.gguf).ok_or_else(|| {
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
        if info.shape.dims() != expected {
            return Err(wrong(
                tensor,
                format!(
                    "({}) has shape {:?}, where the configuration asks for {expected:?}",
                    tensor.gguf,
                    info.shape.dims()
                ),
            ));
        }
        let block = info.ggml_dtype.block_size();
        if !tensor.cols.is_multiple_of(block) {
            return Err(wrong(
                tensor,
                format!("has rows of {}, not whole blocks of {block}", tensor.cols),
            ));
        }
        Ok(info)
    }
}

fn wrong(tensor: &ModelWeight, reason: String) -> ConvertError {
    ConvertError::Tensor {
        tensor: tensor.name.clone(),
        reason,
    }
}

/// Separates llama.cpp's blocks (scale, minimum, quants, one after another) into our three parts.
fn split_blocks(encoding: Encoding, rows: usize, cols: usize, bytes: Vec<u8>) -> WeightRows {
    let (mut scale, mut min) = (Vec::new(), Vec::new());
    let data = if encoding.has_scale() {
        let quants = encoding.data_bytes(BLOCK);
        let head = if encoding.has_min() { 4 } else { 2 };
        let mut data = Vec::with_capacity(rows * encoding.data_bytes(cols));
        for block in bytes.chunks_exact(head + quants) {
            scale.extend_from_slice(&block[..2]);
            min.extend_from_slice(&block[2..head]);
            data.extend_from_slice(&block[head..]);
        }
        data
    } else {
        bytes
    };
    WeightRows {
        encoding,
        rows,
        cols,
        data,
        scale,
        min,
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
