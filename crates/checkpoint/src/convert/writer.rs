//! Writing a weight file tensor by tensor: the header first, then each tensor's parts in place.

use super::ConvertError;
use crate::encoding::Encoding;
use crate::layout::{LAYOUT_KEY, layout_of};
use crate::weights::{WeightRows, not_finite};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::ser::{SerializeMap, Serializer};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

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
            .map(|(_, dtype, shape)| part_bytes(*dtype, shape) as u64)
            .sum()
    }
}

fn part_bytes(dtype: Dtype, shape: &[usize]) -> usize {
    shape.iter().product::<usize>() * dtype.bitsize() / 8
}

/// Writes `path`: f32 tensors first, so that they are aligned whatever the others are, then the
/// others in the given order. `read` is asked for each tensor once, so that one is in memory at a
/// time; `written` is told the bytes so far.
pub fn write_weights(
    path: &Path,
    tensors: &[OutputTensor],
    mut read: impl FnMut(&OutputTensor) -> Result<WeightRows, ConvertError>,
    mut written: impl FnMut(u64),
) -> Result<(), ConvertError> {
    let (first, rest): (Vec<_>, Vec<_>) = tensors
        .iter()
        .partition(|tensor| tensor.encoding == Encoding::F32);
    let ordered: Vec<&OutputTensor> = first.into_iter().chain(rest).collect();
    let mut infos = Vec::new();
    let mut end = 0;
    for (name, dtype, shape) in ordered.iter().flat_map(|tensor| tensor.parts()) {
        let begin = end;
        end += part_bytes(dtype, &shape);
        infos.push((
            name,
            TensorInfo {
                dtype,
                shape,
                data_offsets: (begin, end),
            },
        ));
    }
    Metadata::new(None, infos.clone()).map_err(|error| ConvertError::Output(error.to_string()))?;

    let failed = |error: std::io::Error| ConvertError::Write {
        path: path.into(),
        reason: error.to_string(),
    };
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let layout = layout_of(tensors.iter().map(|tensor| tensor.encoding));
    let header =
        header_json(&infos, layout).map_err(|error| ConvertError::Output(error.to_string()))?;
    file.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| file.write_all(&header))
        .map_err(failed)?;
    let mut done = 0;
    for tensor in ordered {
        let rows = read(tensor)?;
        let lengths = rows.bytes();
        if rows.encoding != tensor.encoding || lengths as u64 != tensor.bytes() {
            return Err(ConvertError::Tensor {
                tensor: tensor.name.clone(),
                reason: format!(
                    "was read as {lengths} bytes of {:?}, where {tensor:?} was announced",
                    rows.encoding
                ),
            });
        }
        if let Some(row) = rows.row_not_finite() {
            return Err(not_finite(&tensor.name, row).into());
        }
        for part in [&rows.data, &rows.scale, &rows.min] {
            file.write_all(part).map_err(failed)?;
        }
        done += tensor.bytes();
        written(done);
    }
    file.into_inner()
        .map_err(|error| failed(error.into_error()))?
        .sync_all()
        .map_err(failed)
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
