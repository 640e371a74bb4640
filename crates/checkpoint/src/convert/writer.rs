//! Writing a weight file tensor by tensor: the header first, then each tensor's parts.

use super::ConvertError;
use crate::encoding::Encoding;
use crate::layout::{LAYOUT_KEY, layout_of};
use crate::source::LocalFuture;
use crate::weights::{WeightRows, not_finite};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::ser::{SerializeMap, Serializer};

/// The description of a tensor in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputTensor {
    pub name: String,
    pub encoding: Encoding,
    pub rows: usize,
    pub cols: usize,
    /// One dimension in the header instead of two; `rows` is 1.
    pub vector: bool,
}

impl OutputTensor {
    /// `(name, dtype, shape)` of the parts, in the order in which they are written.
    fn parts(&self) -> Vec<(String, Dtype, Vec<usize>)> {
        let name = &self.name;
        let plain = |dtype| {
            let shape = if self.vector {
                vec![self.cols]
            } else {
                vec![self.rows, self.cols]
            };
            vec![(name.clone(), dtype, shape)]
        };
        let Some(form) = self.encoding.block() else {
            return plain(match self.encoding {
                Encoding::F16 => Dtype::F16,
                Encoding::Bf16 => Dtype::BF16,
                _ => Dtype::F32,
            });
        };
        [
            (form.part, Dtype::U8, self.encoding.data_bytes(self.cols)),
            ("scale", Dtype::F16, self.encoding.scales(self.cols)),
            ("min", Dtype::F16, self.encoding.minima(self.cols)),
        ]
        .into_iter()
        .filter(|(end, _, width)| *end != "min" || *width > 0)
        .map(|(end, dtype, width)| (format!("{name}.{end}"), dtype, vec![self.rows, width]))
        .collect()
    }

    /// Bytes of all its parts.
    pub fn bytes(&self) -> u64 {
        self.parts()
            .iter()
            .map(|(_, dtype, shape)| part_bytes(*dtype, shape))
            .sum()
    }
}

/// Also of tensors that are longer than addresses of 32 bits reach.
fn part_bytes(dtype: Dtype, shape: &[usize]) -> u64 {
    let numbers: u64 = shape.iter().map(|&size| size as u64).product();
    numbers * dtype.bitsize() as u64 / 8
}

/// A weight file that is still to be written: its header, and its tensors in the order in which they lie in it.
#[derive(Debug)]
pub struct WeightPlan {
    /// With its length before it.
    header: Vec<u8>,
    tensors: Vec<OutputTensor>,
}

/// Takes a file's bytes from its beginning on.
pub trait Sink {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalFuture<'a, Result<(), ConvertError>>;
}

impl WeightPlan {
    /// F32 tensors come first, so that they are aligned whatever the others are, then the others in the given order.
    pub fn new(tensors: Vec<OutputTensor>) -> Result<Self, ConvertError> {
        let output = |error: &dyn std::fmt::Display| ConvertError::Output(error.to_string());
        let (first, rest): (Vec<_>, Vec<_>) = tensors
            .into_iter()
            .partition(|tensor| tensor.encoding == Encoding::F32);
        let tensors: Vec<OutputTensor> = first.into_iter().chain(rest).collect();
        let mut infos = Vec::new();
        let mut end = 0;
        for (name, dtype, shape) in tensors.iter().flat_map(OutputTensor::parts) {
            let begin = end;
            let bytes = begin as u64 + part_bytes(dtype, &shape);
            end = usize::try_from(bytes).map_err(|_| {
                ConvertError::Output(
                    "in this form its weights are longer than this program's addresses reach, 4.3 GB in a browser; convert it with `trimtab convert --quant q4` and open the folder".into(),
                )
            })?;
            infos.push((
                name,
                TensorInfo {
                    dtype,
                    shape,
                    data_offsets: (begin, end),
                },
            ));
        }
        Metadata::new(None, infos.clone()).map_err(|error| output(&error))?;
        let layout = layout_of(tensors.iter().map(|tensor| tensor.encoding));
        let json = header_json(&infos, layout).map_err(|error| output(&error))?;
        let mut header = (json.len() as u64).to_le_bytes().to_vec();
        header.extend(json);
        Ok(Self { header, tensors })
    }

    /// Length of the file in bytes.
    pub fn bytes(&self) -> u64 {
        let tensors: u64 = self.tensors.iter().map(OutputTensor::bytes).sum();
        self.header.len() as u64 + tensors
    }

    pub fn tensors(&self) -> &[OutputTensor] {
        &self.tensors
    }

    /// Writes the file from byte `from` on. `read` is asked once for each tensor that lies behind it, so that one is in memory
    /// at a time.
    ///
    /// # Errors
    /// What `read` and `sink` answer, and tensors that are not what was planned or hold a number that is not finite.
    pub async fn write<'a>(
        &'a self,
        from: u64,
        mut read: impl FnMut(&'a OutputTensor) -> LocalFuture<'a, Result<WeightRows, ConvertError>>,
        sink: &mut dyn Sink,
    ) -> Result<(), ConvertError> {
        let mut at = 0;
        put(sink, &mut at, from, &self.header).await?;
        for tensor in &self.tensors {
            if at + tensor.bytes() <= from {
                at += tensor.bytes();
                continue;
            }
            let rows = read(tensor).await?;
            if rows.encoding != tensor.encoding || rows.bytes() as u64 != tensor.bytes() {
                return Err(ConvertError::Tensor {
                    tensor: tensor.name.clone(),
                    reason: format!(
                        "was read as {} bytes of {:?}, where {tensor:?} was announced",
                        rows.bytes(),
                        rows.encoding
                    ),
                });
            }
            if let Some(row) = rows.row_not_finite() {
                return Err(not_finite(&tensor.name, row).into());
            }
            for part in [&rows.data, &rows.scale, &rows.min] {
                put(sink, &mut at, from, part).await?;
            }
        }
        Ok(())
    }
}

/// Writes what of `bytes`, which begin at `at`, lies behind `from`, and moves `at` behind them.
async fn put(
    sink: &mut dyn Sink,
    at: &mut u64,
    from: u64,
    bytes: &[u8],
) -> Result<(), ConvertError> {
    let known = from.saturating_sub(*at).min(bytes.len() as u64) as usize;
    *at += bytes.len() as u64;
    match &bytes[known..] {
        [] => Ok(()),
        rest => sink.write(rest).await,
    }
}

/// The header, padded to eight bytes. The library's own serialisation orders the metadata at
/// random; this one writes equal bytes for equal tensors.
fn header_json(
    infos: &[(String, TensorInfo)],
    layout: Option<&str>,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut json);
    let mut map = serializer.serialize_map(Some(infos.len() + 1))?;
    if let Some(layout) = layout {
        map.serialize_entry(
            "__metadata__",
            &std::collections::BTreeMap::from([(LAYOUT_KEY, layout)]),
        )?;
    }
    for (name, info) in infos {
        map.serialize_entry(name, info)?;
    }
    map.end()?;
    json.resize(json.len().next_multiple_of(8), b' ');
    Ok(json)
}
