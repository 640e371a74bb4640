//! The header of a safetensors file, read alone and distrusted.

use crate::error::WeightError;
use crate::published_file::{LFS_POINTER_BYTES, LfsPointer, is_lfs_pointer};
use crate::source::ByteSource;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest header that is read, in bytes. A model of a thousand quantised matrices needs 0.4 MB.
pub const MAX_HEADER_BYTES: u64 = 8 << 20;
/// Longest tensor name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;
const LENGTH_BYTES: u64 = 8;

/// One tensor as the file stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The range of its bytes in the file.
    pub bytes: Range<u64>,
}

/// A checked header: the parts cover the file from the header's end to its last byte, without
/// gaps or overlaps, and each is as long as its shape and type say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub parts: BTreeMap<String, Part>,
    pub metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of a safetensors file; nothing behind it is read.
///
/// # Errors
/// Truncated or over-long files and headers, broken JSON, and tensors that overlap, leave gaps,
/// repeat a name or have a length other than their shape asks for.
pub async fn read_header<S: ByteSource>(source: &S) -> Result<Header, WeightError> {
    let file_length = source.length();
    if file_length < LENGTH_BYTES {
        return Err(header_error(format!(
            "the file is {file_length} bytes long, too short for any safetensors file"
        )));
    }
    let beginning = source
        .read(0, file_length.min(LFS_POINTER_BYTES as u64) as usize)
        .await?;
    if is_lfs_pointer(&beginning) {
        return Err(header_error(LfsPointer.to_string()));
    }
    let prefix = &beginning[..LENGTH_BYTES as usize];
    let header_length = prefix
        .first_chunk::<8>()
        .map(|bytes| u64::from_le_bytes(*bytes))
        .ok_or_else(|| header_error("its length could not be read".into()))?;
    if header_length > MAX_HEADER_BYTES {
        return Err(header_error(format!(
            "it claims {header_length} bytes, more than {MAX_HEADER_BYTES}; this is probably not a safetensors file"
        )));
    }
    let data_start = LENGTH_BYTES + header_length;
    if data_start > file_length {
        return Err(header_error(format!(
            "it claims {header_length} bytes, but the file ends after {file_length}; the file is cut short, so fetch it again"
        )));
    }
    let json = source.read(LENGTH_BYTES, header_length as usize).await?;
    parse_header(&json, data_start, file_length)
}

/// Checks the header JSON of a file of `file_length` bytes whose data begin at `data_start`.
pub fn parse_header(json: &[u8], data_start: u64, file_length: u64) -> Result<Header, WeightError> {
    let entries: Entries<'_> = serde_json::from_slice(json)
        .map_err(|error| header_error(format!("it is not valid JSON: {error}")))?;
    let mut metadata = BTreeMap::new();
    let mut infos: Vec<(String, TensorInfo)> = Vec::with_capacity(entries.0.len());
    for (name, value) in entries.0 {
        if name == "__metadata__" {
            metadata =
                serde_json::from_slice::<Option<BTreeMap<String, String>>>(value.get().as_bytes())
                    .map_err(|error| {
                        header_error(format!("its __metadata__ is not a map of strings: {error}"))
                    })?
                    .unwrap_or_default();
        } else if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(header_error(format!(
                "a tensor's name is {} bytes long",
                name.len()
            )));
        } else {
            let info = serde_json::from_slice(value.get().as_bytes()).map_err(|error| {
                tensor_error(&name, format!("its description is not valid: {error}"))
            })?;
            infos.push((name, info));
        }
    }

    infos.sort_by(|(left_name, left), (right_name, right)| {
        left.data_offsets
            .cmp(&right.data_offsets)
            .then_with(|| left_name.cmp(right_name))
    });
    if let Some(name) = duplicate_name(&infos) {
        return Err(tensor_error(name, "is described twice".into()));
    }
    let available = file_length.saturating_sub(data_start);
    let mut expected = 0_usize;
    for (name, info) in &infos {
        let (begin, end) = info.data_offsets;
        if begin > expected {
            return Err(tensor_error(
                name,
                format!("starts at byte {begin}, leaving a gap after byte {expected}"),
            ));
        }
        if begin < expected {
            return Err(tensor_error(
                name,
                format!("starts at byte {begin}, inside its predecessor, which ends at {expected}"),
            ));
        }
        if end as u64 > available {
            return Err(tensor_error(
                name,
                format!(
                    "ends at byte {end} of the data, but the file holds {available}; it is cut short, so fetch it again"
                ),
            ));
        }
        let bits = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |product, &size| {
                product.checked_mul(size)
            })
            .ok_or_else(|| {
                tensor_error(name, format!("its shape {} overflows", Shape(&info.shape)))
            })?;
        if end < begin || !bits.is_multiple_of(8) || bits / 8 != end - begin {
            return Err(tensor_error(
                name,
                format!(
                    "its shape {} of {} does not fill bytes {begin}..{end}",
                    Shape(&info.shape),
                    info.dtype
                ),
            ));
        }
        expected = end;
    }
    if expected as u64 != available {
        return Err(header_error(format!(
            "its tensors take {expected} bytes, but {available} follow it in the file"
        )));
    }
    // The library has the last word, so that nothing passes here that other readers refuse.
    Metadata::new(None, infos.clone()).map_err(|error| header_error(error.to_string()))?;

    let parts = infos
        .into_iter()
        .map(|(name, info)| {
            let (begin, end) = info.data_offsets;
            let bytes = data_start + begin as u64..data_start + end as u64;
            (
                name,
                Part {
                    dtype: info.dtype,
                    shape: info.shape,
                    bytes,
                },
            )
        })
        .collect();
    Ok(Header { parts, metadata })
}

fn duplicate_name(infos: &[(String, TensorInfo)]) -> Option<&str> {
    let mut names: Vec<&str> = infos.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
        .windows(2)
        .find(|pair| pair[0] == pair[1])
        .map(|pair| pair[0])
}

fn header_error(reason: String) -> WeightError {
    WeightError::Header { reason }
}

fn tensor_error(tensor: &str, reason: String) -> WeightError {
    WeightError::Tensor {
        tensor: tensor.chars().take(MAX_NAME_BYTES).collect(),
        reason,
    }
}

/// A shape for an error message, bounded however many dimensions a header claims.
pub(crate) struct Shape<'a>(pub(crate) &'a [usize]);

impl std::fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown: Vec<String> = self.0.iter().take(6).map(usize::to_string).collect();
        let more = if self.0.len() > 6 { ", …" } else { "" };
        write!(f, "[{}{more}]", shown.join(", "))
    }
}

/// The header's entries, unparsed and in file order, so that each can be refused by name.
struct Entries<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object with one entry a tensor")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
