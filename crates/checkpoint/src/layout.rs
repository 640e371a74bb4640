//! The tensors of a model in a safetensors file: plain ones lie by themselves, quantised ones in
//! parts that are joined here.

use crate::encoding::{BLOCK, Encoding};
use crate::error::WeightError;
use crate::header::{Header, Part, Shape};
use safetensors::tensor::Dtype;
use std::collections::BTreeMap;
use std::ops::Range;

/// Key of the file's metadata under which the version of the quantised layout stands.
pub const LAYOUT_KEY: &str = "trimtab_layout";
/// The only version so far; the value of [`LAYOUT_KEY`].
pub const LAYOUT: &str = "1: NAME.q8 (U8 [rows, cols]) is a signed byte q a weight; NAME.q4 (U8 [rows, cols/2]) is 4 bits q a weight, \
blocks of 32 weights in 16 bytes, weight j low and weight j+16 high in byte j; NAME.scale, NAME.min: F16 [rows, cols/32]; \
q8: w = scale*q; q4 with min: w = scale*q + min; q4 without: w = scale*(q-8)";

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

type Assembled = (BTreeMap<String, StoredTensor>, BTreeMap<String, String>);

/// Joins `NAME.q4` or `NAME.q8` with `NAME.scale` and `NAME.min` to one tensor NAME; everything
/// else is a tensor by itself, or unusable with a reason.
pub(crate) fn assemble(header: &Header) -> Result<Assembled, WeightError> {
    let mut tensors = BTreeMap::new();
    let mut unusable = BTreeMap::new();
    let quantised = |name: &str| {
        ["q4", "q8"]
            .iter()
            .any(|end| header.parts.contains_key(&format!("{name}.{end}")))
    };
    for (part_name, part) in &header.parts {
        let (name, encoding) = match part_name.rsplit_once('.') {
            Some((name, "q4" | "q8")) if part.dtype == Dtype::U8 => {
                if header.parts.contains_key(name) {
                    return Err(tensor_error(name, "is stored both plain and quantised"));
                }
                (name, Some(quantised_encoding(header, name, part_name)?))
            }
            Some((name, "scale" | "min")) if quantised(name) => continue,
            _ => (part_name.as_str(), plain_encoding(part.dtype)),
        };
        let Some(encoding) = encoding else {
            unusable.insert(
                part_name.clone(),
                format!(
                    "is stored as {}, which is no weight type known here",
                    part.dtype
                ),
            );
            continue;
        };
        let tensor = match encoding {
            Encoding::F32 | Encoding::F16 | Encoding::Bf16 => match *part.shape {
                [cols] => Ok((1, cols)),
                [rows, cols] => Ok((rows, cols)),
                _ => Err(format!(
                    "has shape {}, neither a matrix nor a vector",
                    Shape(&part.shape)
                )),
            },
            Encoding::Q8_0 | Encoding::Q4_0 | Encoding::Q4_1 => {
                Ok(quantised_shape(header, name, part, encoding)?)
            }
        };
        match tensor {
            Ok((rows, cols)) => {
                let side = |end: &str| {
                    header
                        .parts
                        .get(&format!("{name}.{end}"))
                        .map(|part| part.bytes.clone())
                };
                let stored = StoredTensor {
                    name: name.into(),
                    encoding,
                    rows,
                    cols,
                    data: part.bytes.clone(),
                    scale: if encoding.has_scale() {
                        side("scale")
                    } else {
                        None
                    },
                    min: if encoding.has_min() {
                        side("min")
                    } else {
                        None
                    },
                };
                tensors.insert(name.to_owned(), stored);
            }
            Err(reason) => {
                unusable.insert(name.to_owned(), reason);
            }
        }
    }
    Ok((tensors, unusable))
}

fn plain_encoding(dtype: Dtype) -> Option<Encoding> {
    match dtype {
        Dtype::F32 => Some(Encoding::F32),
        Dtype::F16 => Some(Encoding::F16),
        Dtype::BF16 => Some(Encoding::Bf16),
        _ => None,
    }
}

fn quantised_encoding(
    header: &Header,
    name: &str,
    part_name: &str,
) -> Result<Encoding, WeightError> {
    let layout = header
        .metadata
        .get(LAYOUT_KEY)
        .map(String::as_str)
        .unwrap_or_default();
    if layout.split(':').next() != Some("1") {
        return Err(tensor_error(
            part_name,
            "is quantised, but the file's metadata does not describe layout 1; convert the model again with this version",
        ));
    }
    let has = |end: &str| header.parts.contains_key(&format!("{name}.{end}"));
    match (has("q4"), has("q8"), has("min")) {
        (true, true, _) => Err(tensor_error(name, "is stored in both 4 and 8 bits")),
        (false, true, true) => Err(tensor_error(
            name,
            "is stored in 8 bits with minima, which no scheme has",
        )),
        (false, true, false) => Ok(Encoding::Q8_0),
        (true, _, true) => Ok(Encoding::Q4_1),
        (_, _, false) => Ok(Encoding::Q4_0),
        (false, false, true) => Err(tensor_error(name, "has minima but no weights")),
    }
}

/// `(rows, cols)` of a quantised tensor, once all its parts agree on them.
fn quantised_shape(
    header: &Header,
    name: &str,
    data: &Part,
    encoding: Encoding,
) -> Result<(usize, usize), WeightError> {
    let (rows, cols) = match *data.shape {
        [rows, width] if encoding == Encoding::Q8_0 => (rows, Some(width)),
        [rows, width] => (rows, usize::checked_mul(width, 2)),
        _ => (0, None),
    };
    let cols = cols
        .filter(|cols| cols.is_multiple_of(BLOCK))
        .ok_or_else(|| {
            tensor_error(
                name,
                format!(
                    "its weights have shape {}, not rows of whole blocks",
                    Shape(&data.shape)
                ),
            )
        })?;
    let sides = [("scale", encoding.has_scale()), ("min", encoding.has_min())];
    for (end, _) in sides.iter().filter(|(_, needed)| *needed) {
        let side = header.parts.get(&format!("{name}.{end}")).ok_or_else(|| {
            tensor_error(
                name,
                format!("its part {name}.{end} is missing from the weight file"),
            )
        })?;
        if side.dtype != Dtype::F16 || *side.shape != [rows, cols / BLOCK] {
            return Err(tensor_error(
                name,
                format!(
                    "its part {name}.{end} is {} {}, where F16 [{rows}, {}] is needed",
                    side.dtype,
                    Shape(&side.shape),
                    cols / BLOCK
                ),
            ));
        }
    }
    Ok((rows, cols))
}

fn tensor_error(tensor: &str, reason: impl Into<String>) -> WeightError {
    WeightError::Tensor {
        tensor: tensor.into(),
        reason: reason.into(),
    }
}
