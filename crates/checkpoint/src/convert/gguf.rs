//! GGUF files: metadata to `config.json`, tensors to rows as we store them.

use super::ConvertError;
use super::quantise::to_q8_0;
use crate::encoding::{BLOCK, Encoding};
use crate::family::{Family, ModelWeight};
use crate::source::FileSource;
use crate::weights::WeightRows;
use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, TensorInfo, Value};
use serde::Serialize;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// An opened GGUF file: its header in memory, its tensors on disk.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    content: Content,
    bytes: FileSource,
}

/// How a tensor of a GGUF file becomes ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// The same numbers in the same blocks.
    AsStored(Encoding),
    /// Dequantised, and stored again in 8 bits (vectors: as f32).
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
        let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
        let content = Content::read(&mut BufReader::new(file))
            .map_err(|error| unreadable(format!("is not a GGUF file that can be read: {error}")))?;
        Ok(Self {
            path: path.into(),
            content,
            bytes: FileSource::open(path)?,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        match self.value(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            Value::I32(number) => u64::try_from(*number).ok(),
            value => value.to_u64().ok(),
        }
    }

    pub fn array(&self, key: &str) -> Option<&[Value]> {
        match self.value(key) {
            Some(Value::Array(values)) => Some(values),
            _ => None,
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
    /// Missing keys, and what no engine here computes: experts, scaled or partial rotary positions.
    pub fn config(&self, family: &Family) -> Result<ConfigJson, ConvertError> {
        let unsupported = |reason: String| Err(self.unsupported(reason));
        let own = |key: &str| format!("{}.{key}", family.model_type);
        let needed = |key: &str| {
            let key = own(key);
            self.number(&key).ok_or_else(|| ConvertError::Read {
                path: self.path.clone(),
                reason: format!("lacks {key}"),
            })
        };
        if self
            .number(&own("expert_count"))
            .is_some_and(|count| count > 0)
        {
            return unsupported("it is a mixture of experts".into());
        }
        if self.number(&own("attention.sliding_window")).is_some() {
            return unsupported("its attention slides over a window".into());
        }
        let scaling = self
            .text(&own("rope.scaling.type"))
            .is_some_and(|kind| kind != "none");
        if scaling || self.content.tensor_infos.contains_key("rope_freqs.weight") {
            return unsupported("its rotary positions are scaled".into());
        }
        let (hidden_size, heads) = (needed("embedding_length")?, needed("attention.head_count")?);
        if heads == 0 || !hidden_size.is_multiple_of(heads) {
            return unsupported(format!(
                "{heads} heads do not divide a width of {hidden_size}"
            ));
        }
        let head_dim = self
            .number(&own("attention.key_length"))
            .unwrap_or(hidden_size / heads);
        if let Some(rotated) = self.number(&own("rope.dimension_count"))
            && rotated != head_dim
        {
            return unsupported(format!(
                "only {rotated} of {head_dim} dimensions of a head are rotated"
            ));
        }
        let vocab_size = match self.array("tokenizer.ggml.tokens") {
            Some(tokens) => tokens.len() as u64,
            None => needed("vocab_size")?,
        };
        // The shortest decimal of the f32, so that 1e-5 does not become 9.999999747378752e-6.
        let decimal = |key: &str| match self.value(&own(key)) {
            Some(Value::F32(number)) => number.to_string().parse::<f64>().ok(),
            _ => None,
        };
        let token = |key: &str| self.number(&format!("tokenizer.ggml.{key}_token_id"));
        let mut end_tokens: Vec<u64> = ["eos", "eot"].into_iter().filter_map(token).collect();
        end_tokens.dedup();
        let has = |name: &str| self.content.tensor_infos.contains_key(name);
        Ok(ConfigJson {
            architectures: [family.class],
            model_type: family.model_type,
            hidden_size,
            intermediate_size: needed("feed_forward_length")?,
            num_hidden_layers: needed("block_count")?,
            num_attention_heads: heads,
            num_key_value_heads: self
                .number(&own("attention.head_count_kv"))
                .unwrap_or(heads),
            head_dim,
            vocab_size,
            max_position_embeddings: needed("context_length")?,
            rms_norm_eps: decimal("attention.layer_norm_rms_epsilon").unwrap_or(1e-5),
            rope_theta: decimal("rope.freq_base").unwrap_or(10_000.0),
            hidden_act: "silu",
            attention_bias: family.qkv_bias,
            mlp_bias: false,
            tie_word_embeddings: !has("output.weight"),
            bos_token_id: token("bos"),
            eos_token_id: end_tokens,
            pad_token_id: token("padding"),
        })
    }

    /// How `tensor` will be stored, once its name and shape are found right.
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
