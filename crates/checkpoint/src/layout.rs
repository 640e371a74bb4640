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
/// The first version, the value of [`LAYOUT_KEY`] in files that need no other.
pub const LAYOUT: &str = "1: NAME.q8 (U8 [rows, cols]) is a signed byte q a weight; NAME.q4 (U8 [rows, cols/2]) is 4 bits q a weight, \
blocks of 32 weights in 16 bytes, weight j low and weight j+16 high in byte j; NAME.scale, NAME.min: F16 [rows, cols/32]; \
q8: w = scale*q; q4 with min: w = scale*q + min; q4 without: w = scale*(q-8)";
/// The second, which has more forms and reads every file of the first.
pub const LAYOUT_2: &str = "2: as 1 (NAME.q8: U8 [rows, cols], w = scale*q; NAME.q4: U8 [rows, cols/2], w = scale*q + min or scale*(q-8); \
blocks of 32 weights, byte j has the low 4 bits of weight j low, of weight j+16 high; NAME.scale, NAME.min: F16 [rows, cols/32]), and: \
NAME.q5 (U8 [rows, cols*5/8]) blocks of 20 bytes, 16 as q4, then bit g of byte i is the fifth bit of weight 4g+i, w = scale*q + min or scale*(q-16); \
NAME.q6 (U8 [rows, cols*6/8]) blocks of 24 bytes, 16 as q4, then bits 2(g%4) and following of byte 4(g/4)+i are the fifth and sixth of weight 4g+i, \
w = scale*(q-32), NAME.scale [rows, cols/16]; NAME.iq4nl (U8 [rows, cols/2]) as q4, w = scale*t[q], \
t = -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113";

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

/// Ends of the names of data parts, each of one or two encodings.
const PARTS: [&str; 5] = ["q4", "q5", "q6", "q8", "iq4nl"];

/// The encoding of blocks whose data part ends so.
fn encoding_of(part: &str, min: bool) -> Option<Encoding> {
    Encoding::ALL.into_iter().find(|encoding| {
        encoding.has_min() == min && encoding.block().is_some_and(|form| form.part == part)
    })
}

/// The value of [`LAYOUT_KEY`] that a file with tensors in these encodings needs; `None` for plain ones.
pub fn layout_of(encodings: impl IntoIterator<Item = Encoding>) -> Option<&'static str> {
    let of_one = |encoding: Encoding| match encoding.block()?.part {
        "q4" | "q8" => Some(LAYOUT),
        _ => Some(LAYOUT_2),
    };
    encodings.into_iter().filter_map(of_one).max()
}

/// Joins a data part (`NAME.q4` …) with `NAME.scale` and `NAME.min` to one tensor NAME; everything
/// else is a tensor by itself, or unusable with a reason.
pub(crate) fn assemble(header: &Header) -> Result<Assembled, WeightError> {
    let mut tensors = BTreeMap::new();
    let mut unusable = BTreeMap::new();
    let quantised = |name: &str| {
        PARTS
            .iter()
            .any(|end| header.parts.contains_key(&format!("{name}.{end}")))
    };
    for (part_name, part) in &header.parts {
        let (name, encoding) = match part_name.rsplit_once('.') {
            Some((name, end)) if PARTS.contains(&end) && part.dtype == Dtype::U8 => {
                if header.parts.contains_key(name) {
                    return Err(tensor_error(name, "is stored both plain and quantised"));
                }
                (name, Some(quantised_encoding(header, name, end)?))
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
            _ => Ok(quantised_shape(header, name, part, encoding)?),
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
                    scale: encoding.block().and_then(|_| side("scale")),
                    min: side("min").filter(|_| encoding.has_min()),
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

fn quantised_encoding(header: &Header, name: &str, part: &str) -> Result<Encoding, WeightError> {
    let has = |end: &str| header.parts.contains_key(&format!("{name}.{end}"));
    let version = |layout: &str| layout.split(':').next().map(str::to_owned);
    let written = header
        .metadata
        .get(LAYOUT_KEY)
        .and_then(|text| version(text));
    let known = [LAYOUT, LAYOUT_2].map(version);
    if written.is_none() || !known.contains(&written) {
        return Err(tensor_error(
            &format!("{name}.{part}"),
            "is quantised, but the file's metadata describes no layout that this version knows; convert the model again with this version",
        ));
    }
    if PARTS.iter().filter(|part| has(part)).count() > 1 {
        return Err(tensor_error(name, "is stored in two quantised forms"));
    }
    encoding_of(part, has("min"))
        .ok_or_else(|| tensor_error(name, format!("has minima, which {part} has not")))
}

/// `(rows, cols)` of a quantised tensor, once all its parts agree on them.
fn quantised_shape(
    header: &Header,
    name: &str,
    data: &Part,
    encoding: Encoding,
) -> Result<(usize, usize), WeightError> {
    let block_bytes = encoding.data_bytes(BLOCK);
    let (rows, cols) = match *data.shape {
        [rows, width] if width.is_multiple_of(block_bytes) => {
            (rows, (width / block_bytes).checked_mul(BLOCK))
        }
        _ => (0, None),
    };
    let cols = cols.ok_or_else(|| {
        tensor_error(
            name,
            format!(
                "its weights have shape {}, not rows of whole blocks",
                Shape(&data.shape)
            ),
        )
    })?;
    let sides = [
        ("scale", encoding.scales(cols)),
        ("min", encoding.minima(cols)),
    ];
    for (end, count) in sides.into_iter().filter(|(_, count)| *count > 0) {
        let side = header.parts.get(&format!("{name}.{end}")).ok_or_else(|| {
            tensor_error(
                name,
                format!("its part {name}.{end} is missing from the weight file"),
            )
        })?;
        if side.dtype != Dtype::F16 || *side.shape != [rows, count] {
            return Err(tensor_error(
                name,
                format!(
                    "its part {name}.{end} is {} {}, where F16 [{rows}, {count}] is needed",
                    side.dtype,
                    Shape(&side.shape),
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
