//! The weight file: a safetensors header, then rows of tensors on demand.

use crate::encoding::{BLOCK, Encoding};
use crate::header::read_header;
use crate::layout::assemble;
use crate::source::{ByteSource, SourceError};
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::ops::Range;

#[derive(Debug, thiserror::Error)]
pub enum WeightError {
    #[error("the weight file's header is not usable: {reason}")]
    Header { reason: String },
    #[error("tensor {tensor}: {reason}")]
    Tensor { tensor: String, reason: String },
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// One logical weight matrix or vector and where its parts lie. A vector has one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTensor {
    pub name: String,
    pub encoding: Encoding,
    pub rows: usize,
    pub cols: usize,
    /// Byte ranges in the file.
    pub(crate) data: Range<u64>,
    pub(crate) scale: Option<Range<u64>>,
    pub(crate) min: Option<Range<u64>>,
}

impl StoredTensor {
    /// Bytes of data, scales and minima together.
    pub fn stored_bytes(&self) -> u64 {
        let length = |range: &Range<u64>| range.end - range.start;
        let halves = self.scale.iter().chain(&self.min).map(length);
        length(&self.data) + halves.sum::<u64>()
    }

    /// Fails unless the tensor is `[rows, cols]`.
    pub fn check_shape(&self, rows: usize, cols: usize) -> Result<(), WeightError> {
        if (self.rows, self.cols) == (rows, cols) {
            return Ok(());
        }
        Err(WeightError::Tensor {
            tensor: self.name.clone(),
            reason: format!(
                "has shape [{}, {}], the configuration needs [{rows}, {cols}]",
                self.rows, self.cols
            ),
        })
    }
}

/// A run of consecutive rows of one tensor as stored, little-endian.
#[derive(Clone, Debug)]
pub struct WeightRows {
    pub encoding: Encoding,
    pub rows: usize,
    pub cols: usize,
    /// `[rows, Encoding::data_bytes(cols)]`. In a 4-bit block of 16 bytes, byte `j` holds weight
    /// `j` in its low and weight `j + 16` in its high nibble (the order of llama.cpp).
    pub data: Vec<u8>,
    /// `[rows, cols / 32]` f16, or empty.
    pub scale: Vec<u8>,
    /// `[rows, cols / 32]` f16, or empty.
    pub min: Vec<u8>,
}

impl WeightRows {
    /// Writes row `row` as f32 into `out` (`[cols]`). Exact: every encoding's values are f32 values
    /// or sums and products rounded once, as llama.cpp rounds them.
    pub fn dequantise_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows && out.len() == self.cols);
        let width = self.encoding.data_bytes(self.cols);
        let data = &self.data[row * width..][..width];
        let blocks = self.cols / BLOCK;
        let half_at = |part: &[u8], block: usize| {
            let at = (row * blocks + block) * 2;
            f16::from_le_bytes([part[at], part[at + 1]]).to_f32()
        };
        match self.encoding {
            Encoding::F32 => {
                for (value, bytes) in out.iter_mut().zip(data.as_chunks::<4>().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            Encoding::F16 => {
                for (value, bytes) in out.iter_mut().zip(data.as_chunks::<2>().0) {
                    *value = f16::from_le_bytes(*bytes).to_f32();
                }
            }
            Encoding::Bf16 => {
                for (value, bytes) in out.iter_mut().zip(data.as_chunks::<2>().0) {
                    *value = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
            Encoding::Q8_0 => {
                for (block, values) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                    let scale = half_at(&self.scale, block);
                    for (value, &byte) in values.iter_mut().zip(&data[block * BLOCK..]) {
                        *value = scale * f32::from(byte as i8);
                    }
                }
            }
            Encoding::Q4_0 | Encoding::Q4_1 => {
                for (block, values) in out.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
                    let scale = half_at(&self.scale, block);
                    let (low, high) = values.split_at_mut(BLOCK / 2);
                    let bytes = &data[block * BLOCK / 2..][..BLOCK / 2];
                    let decode = |nibble: u8| match self.encoding {
                        Encoding::Q4_1 => scale * f32::from(nibble) + half_at(&self.min, block),
                        _ => scale * (f32::from(nibble) - 8.0),
                    };
                    for ((low, high), &byte) in low.iter_mut().zip(high).zip(bytes) {
                        *low = decode(byte & 0x0f);
                        *high = decode(byte >> 4);
                    }
                }
            }
        }
    }
}

/// Whether a tensor that no engine reads may be left out without changing what the model computes: a table
/// of rotary frequencies, which follows from the configuration, or a copy of a tied output head.
pub fn is_redundant(name: &str, tied_embeddings: bool) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || (tied_embeddings && name == "lm_head.weight")
}

/// A checked header over a byte source.
pub struct WeightFile<S> {
    source: S,
    tensors: BTreeMap<String, StoredTensor>,
    /// Tensors that are in the file but are neither matrices nor vectors of a known type, and why.
    unusable: BTreeMap<String, String>,
    metadata: BTreeMap<String, String>,
}

impl<S> std::fmt::Debug for WeightFile<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WeightFile")
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}

impl<S: ByteSource> WeightFile<S> {
    /// Reads and checks the header of a safetensors file and joins the parts of quantised tensors.
    /// Nothing behind the header is read.
    ///
    /// # Errors
    /// A file cut short or with bytes left over, a header that is too long, broken or lying
    /// (overlaps, gaps, lengths that differ from the shapes), quantised tensors with missing or
    /// misshapen parts or in a layout of another version. The error names the tensor.
    pub async fn open(source: S) -> Result<Self, WeightError> {
        let header = read_header(&source).await?;
        let (tensors, unusable) = assemble(&header)?;
        Ok(Self {
            source,
            tensors,
            unusable,
            metadata: header.metadata,
        })
    }

    /// The file's own remarks (`__metadata__`).
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    pub fn tensors(&self) -> impl Iterator<Item = &StoredTensor> {
        self.tensors.values()
    }

    /// Names of all tensors, those of unknown types included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors
            .keys()
            .chain(self.unusable.keys())
            .map(String::as_str)
    }

    /// The tensor of that name, or an error that names it.
    pub fn tensor(&self, name: &str) -> Result<&StoredTensor, WeightError> {
        self.tensors.get(name).ok_or_else(|| WeightError::Tensor {
            tensor: name.into(),
            reason: match self.unusable.get(name) {
                Some(reason) => reason.clone(),
                None => "is missing from the weight file".into(),
            },
        })
    }

    /// Reads rows `rows` of `tensor`.
    pub async fn read_rows(
        &self,
        tensor: &StoredTensor,
        rows: Range<usize>,
    ) -> Result<WeightRows, WeightError> {
        assert!(rows.start <= rows.end && rows.end <= tensor.rows);
        let count = rows.len();
        let part = |range: &Range<u64>, width: usize| {
            (range.start + (rows.start * width) as u64, count * width)
        };
        let (at, length) = part(&tensor.data, tensor.encoding.data_bytes(tensor.cols));
        let data = self.source.read(at, length).await?;
        let mut halves = [Vec::new(), Vec::new()];
        for (bytes, range) in halves.iter_mut().zip([&tensor.scale, &tensor.min]) {
            if let Some(range) = range {
                let (at, length) = part(range, tensor.cols / BLOCK * 2);
                *bytes = self.source.read(at, length).await?;
            }
        }
        let [scale, min] = halves;
        Ok(WeightRows {
            encoding: tensor.encoding,
            rows: count,
            cols: tensor.cols,
            data,
            scale,
            min,
        })
    }
}
