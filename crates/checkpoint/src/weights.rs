//! The weight file: a safetensors header, then rows of tensors on demand.

use crate::encoding::{BLOCK, Encoding};
use crate::error::WeightError;
use crate::family::{Family, WeightRole};
use crate::header::read_header;
use crate::layout::{StoredTensor, assemble};
use crate::source::ByteSource;
use half::{bf16, f16};
use std::collections::BTreeMap;
use std::ops::Range;

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
    /// The first row with a number that is NaN or infinite.
    pub fn row_not_finite(&self) -> Option<usize> {
        // All bits of the exponent are set.
        let f16s = |part: &[u8], exponent: u16| {
            part.as_chunks::<2>()
                .0
                .iter()
                .position(|bytes| u16::from_le_bytes(*bytes) & exponent == exponent)
        };
        const F16: u16 = 0x7c00;
        let number = match self.encoding {
            Encoding::F32 => self
                .data
                .as_chunks::<4>()
                .0
                .iter()
                .position(|bytes| !f32::from_le_bytes(*bytes).is_finite()),
            Encoding::F16 => f16s(&self.data, F16),
            Encoding::Bf16 => f16s(&self.data, 0x7f80),
            Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q4_1 => {
                let block = f16s(&self.scale, F16).or_else(|| f16s(&self.min, F16));
                block.map(|block| block * BLOCK)
            }
        };
        number.map(|number| number / self.cols.max(1))
    }

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
    ///
    /// # Errors
    /// A source that does not answer, and rows with a number that is not finite: nothing computed from them would be, and
    /// it would look like a fault of the device.
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
        let read = WeightRows {
            encoding: tensor.encoding,
            rows: count,
            cols: tensor.cols,
            data,
            scale,
            min,
        };
        match read.row_not_finite() {
            None => Ok(read),
            Some(row) => Err(not_finite(&tensor.name, rows.start + row)),
        }
    }

    /// Whether the file has an output head with other numbers than the embedding. Beside tied embeddings, a head with the
    /// same numbers says nothing new; one with others was trained, and is what transformers computes with, too.
    ///
    /// # Errors
    /// As [`Self::read_rows`].
    pub async fn has_own_head(&self, family: &Family) -> Result<bool, WeightError> {
        let [embedding, head] = [WeightRole::Embedding, WeightRole::OutputHead]
            .map(|role| self.tensors.get(&family.name(role, 0)));
        let (Some(embedding), Some(head)) = (embedding, head) else {
            return Ok(head.is_some());
        };
        Ok(!same_numbers((self, embedding), (self, head)).await?)
    }
}

/// Whether two tensors have the same shape and numbers, however they are stored.
pub(crate) async fn same_numbers<S: ByteSource>(
    (one_file, one): (&WeightFile<S>, &StoredTensor),
    (other_file, other): (&WeightFile<S>, &StoredTensor),
) -> Result<bool, WeightError> {
    const ROWS: usize = 256;
    if (one.rows, one.cols) != (other.rows, other.cols) {
        return Ok(false);
    }
    let mut values = [vec![0.0; one.cols], vec![0.0; one.cols]];
    for start in (0..one.rows).step_by(ROWS) {
        let rows = start..(start + ROWS).min(one.rows);
        let these = one_file.read_rows(one, rows.clone()).await?;
        let those = other_file.read_rows(other, rows.clone()).await?;
        for row in 0..rows.len() {
            these.dequantise_row(row, &mut values[0]);
            those.dequantise_row(row, &mut values[1]);
            if values[0] != values[1] {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// The error of a tensor with a number that is none in that row.
pub(crate) fn not_finite(tensor: &str, row: usize) -> WeightError {
    WeightError::Tensor {
        tensor: tensor.into(),
        reason: format!(
            "row {row} holds a number that is not finite (NaN or infinite); the checkpoint is broken, so get another copy or \
             convert the model again from its source"
        ),
    }
}
