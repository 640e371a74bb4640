//! The weight file: a safetensors header, then rows of tensors on demand.

use crate::encoding::{BLOCK, Encoding, Values};
use crate::error::WeightError;
use crate::family::{Family, ModelWeight, spellings};
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
    /// `[rows, Encoding::data_bytes(cols)]`; in blocks as [`crate::encoding::BlockForm::integers`] reads them.
    pub data: Vec<u8>,
    /// `[rows, Encoding::scales(cols)]` f16.
    pub scale: Vec<u8>,
    /// `[rows, Encoding::minima(cols)]` f16.
    pub min: Vec<u8>,
}

impl WeightRows {
    /// No rows yet of `cols` numbers each.
    pub const fn none(encoding: Encoding, cols: usize) -> Self {
        Self {
            encoding,
            rows: 0,
            cols,
            data: Vec::new(),
            scale: Vec::new(),
            min: Vec::new(),
        }
    }

    /// Makes room for `rows` more rows, and no more.
    pub fn reserve(&mut self, rows: usize) {
        let Self { encoding, cols, .. } = *self;
        self.data.reserve_exact(rows * encoding.data_bytes(cols));
        self.scale.reserve_exact(rows * encoding.scales(cols) * 2);
        self.min.reserve_exact(rows * encoding.minima(cols) * 2);
    }

    /// Appends rows of the same form.
    pub fn append(&mut self, more: &Self) {
        debug_assert!((self.encoding, self.cols) == (more.encoding, more.cols));
        self.rows += more.rows;
        self.data.extend_from_slice(&more.data);
        self.scale.extend_from_slice(&more.scale);
        self.min.extend_from_slice(&more.min);
    }

    /// Bytes of all parts.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.scale.len() + self.min.len()
    }

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
            _ => {
                let number = |part, count: usize| {
                    f16s(part, F16).map(|number| number * self.cols / count.max(1))
                };
                number(&self.scale, self.encoding.scales(self.cols))
                    .or_else(|| number(&self.min, self.encoding.minima(self.cols)))
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
            _ => self.dequantise_blocks(row, out),
        }
    }

    fn dequantise_blocks(&self, row: usize, out: &mut [f32]) {
        let form = self.encoding.block().expect("an encoding of blocks");
        let halves = |part: &[u8], count: usize, at: usize| {
            let at = (row * count + at) * 2;
            f16::from_le_bytes([part[at], part[at + 1]]).to_f32()
        };
        let scales = self.encoding.scales(self.cols);
        let width = self.encoding.data_bytes(self.cols);
        let blocks = self.data[row * width..][..width].chunks_exact(form.bytes());
        let (out, _) = out.as_chunks_mut::<BLOCK>();
        for (block, (bytes, out)) in blocks.zip(out).enumerate() {
            let integers = form.integers(bytes);
            let min = match form.values {
                Values::Minimum => halves(&self.min, self.cols / BLOCK, block),
                Values::Offset(_) | Values::Table(_) => 0.0,
            };
            let each = BLOCK / form.scales;
            let parts = out.chunks_exact_mut(each).zip(integers.chunks_exact(each));
            for (part, (out, integers)) in parts.enumerate() {
                let scale = halves(&self.scale, scales, block * form.scales + part);
                for (out, integer) in out.iter_mut().zip(integers) {
                    *out = scale * f32::from(*integer);
                    if form.values == Values::Minimum {
                        *out += min;
                    }
                }
            }
        }
    }
}

impl WeightRows {
    /// The rows `rows` of the matrix whose transpose this is, of numbers that are not quantised.
    pub fn transposed(&self, rows: Range<usize>) -> Self {
        let size = self.encoding.data_bytes(1);
        let mut data = Vec::with_capacity(rows.len() * self.rows * size);
        for row in rows.clone() {
            for col in 0..self.rows {
                data.extend_from_slice(&self.data[(col * self.cols + row) * size..][..size]);
            }
        }
        Self {
            encoding: self.encoding,
            rows: rows.len(),
            cols: self.rows,
            data,
            scale: Vec::new(),
            min: Vec::new(),
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

    fn found(&self, name: &str) -> Option<&StoredTensor> {
        spellings(name).find_map(|name| self.tensors.get(&*name))
    }

    /// The tensor that holds `weight`, of the shape that it needs.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn holder(&self, weight: &ModelWeight) -> Result<&StoredTensor, WeightError> {
        self.holder_as_it_lies(weight).map(|(tensor, _)| tensor)
    }

    /// The tensor that holds `weight`, and whether its columns are the weight's rows.
    fn holder_as_it_lies(
        &self,
        weight: &ModelWeight,
    ) -> Result<(&StoredTensor, bool), WeightError> {
        let [rows, cols] = weight.tensor_shape();
        let transposed = weight.transposed.as_deref();
        if let Some(published) = transposed.filter(|_| self.found(&weight.name).is_none()) {
            let tensor = self.tensor(published)?;
            tensor.check_shape(cols, rows)?;
            return Ok((tensor, true));
        }
        let tensor = self.tensor(&weight.name)?;
        tensor.check_shape(rows, cols)?;
        Ok((tensor, false))
    }

    /// Reads rows `rows` of `weight`, as its tensor stores them.
    ///
    /// # Errors
    /// As [`Self::holder`] and [`Self::read_rows`].
    pub async fn rows_of(
        &self,
        weight: &ModelWeight,
        rows: Range<usize>,
    ) -> Result<WeightRows, WeightError> {
        let (tensor, transposed) = self.holder_as_it_lies(weight)?;
        let rows = rows.start + weight.first..rows.end + weight.first;
        if transposed {
            let whole = self.read_rows(tensor, 0..tensor.rows).await?;
            return Ok(whole.transposed(rows));
        }
        self.read_rows(tensor, rows).await
    }

    /// A vector as f32.
    ///
    /// # Errors
    /// As [`Self::rows_of`].
    pub async fn vector(&self, weight: &ModelWeight) -> Result<Vec<f32>, WeightError> {
        let row = self.read_rows(self.holder(weight)?, 0..1).await?;
        let mut values = vec![0.0; weight.of];
        row.dequantise_row(0, &mut values);
        let own = values[weight.first..][..weight.cols].iter();
        Ok(own.map(|value| value + weight.above_stored).collect())
    }

    /// The tensor of that name, or an error that names it.
    pub fn tensor(&self, name: &str) -> Result<&StoredTensor, WeightError> {
        self.found(name).ok_or_else(|| WeightError::Tensor {
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
        let numbers = [
            (&tensor.scale, tensor.encoding.scales(tensor.cols)),
            (&tensor.min, tensor.encoding.minima(tensor.cols)),
        ];
        for (bytes, (range, count)) in halves.iter_mut().zip(numbers) {
            if let Some(range) = range {
                let (at, length) = part(range, count * 2);
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
        let [embedding, head] = family.token_tables().map(|name| self.found(name));
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
