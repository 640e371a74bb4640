//! The header of a GGUF file: metadata and where each tensor lies. Read through a [`ByteSource`], so that nothing behind it is touched.
//!
//! The layout is that of `gguf.md` in ggml's repository, versions 1 to 3.

use super::gguf_blocks::Kind;
use crate::source::{ByteSource, SourceError};
use std::collections::BTreeMap;

/// Longest header that is read: the largest vocabularies with their merges take 20 MB.
const MAX_BYTES: u64 = 256 << 20;
/// Most tensors, and most pairs of metadata.
const MAX_ENTRIES: u64 = 1 << 16;
const MAX_DIMENSIONS: u32 = 4;
/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// Where no metadata say how tensors are aligned.
const ALIGNMENT: u64 = 32;

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Vec<Value>),
}

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("is not a GGUF file; of a model in safetensors files, name the folder")]
    Foreign,
    #[error("is not a GGUF file that can be read: {0}")]
    Broken(String),
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// Where a tensor lies, and in which form.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    pub kind: Kind,
    /// The slowest first.
    pub shape: Vec<usize>,
    /// From the beginning of the file.
    pub at: u64,
}

#[derive(Debug)]
pub struct GgufHeader {
    pub metadata: BTreeMap<String, Value>,
    pub tensors: BTreeMap<String, TensorInfo>,
}

impl GgufHeader {
    /// # Errors
    /// Other files, unknown versions, and headers that are cut short, too long, or lie about their own length.
    pub async fn read<S: ByteSource>(source: &S) -> Result<Self, HeaderError> {
        let mut cursor = Cursor {
            source,
            end: source.length().min(MAX_BYTES),
            at: 0,
            bytes: Vec::new(),
            start: 0,
            short_lengths: false,
        };
        if source.length() < 4 || cursor.take(4).await? != b"GGUF" {
            return Err(HeaderError::Foreign);
        }
        let version = cursor.u32().await?;
        if !(1..=3).contains(&version) {
            return Err(broken(format!("its version {version} is not known here")));
        }
        cursor.short_lengths = version == 1;
        let (tensor_count, pairs) = (cursor.length().await?, cursor.length().await?);
        if tensor_count > MAX_ENTRIES || pairs > MAX_ENTRIES {
            return Err(broken(format!(
                "it claims {tensor_count} tensors and {pairs} entries"
            )));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..pairs {
            let key = cursor.text().await?;
            let value = cursor.value().await?;
            metadata.insert(key, value);
        }
        let mut infos = Vec::new();
        for _ in 0..tensor_count {
            let name = cursor.text().await?;
            let dimensions = cursor.u32().await?;
            if dimensions > MAX_DIMENSIONS {
                return Err(broken(format!("{name} has {dimensions} dimensions")));
            }
            let mut shape = Vec::new();
            for _ in 0..dimensions {
                let size = usize::try_from(cursor.length().await?);
                shape.insert(0, size.map_err(|_| broken(format!("{name} is too large")))?);
            }
            let kind = Kind(cursor.u32().await?);
            infos.push((name, kind, shape, cursor.u64().await?));
        }
        let alignment = match metadata.get("general.alignment") {
            Some(Value::Unsigned(alignment)) if alignment.is_power_of_two() => *alignment,
            Some(other) => return Err(broken(format!("its alignment is {other:?}"))),
            None => ALIGNMENT,
        };
        let data = cursor.at.checked_next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        for (name, kind, shape, offset) in infos {
            let at = data.and_then(|data| data.checked_add(offset));
            let at = at.ok_or_else(|| broken(format!("{name} lies outside of it")))?;
            let info = TensorInfo { kind, shape, at };
            if tensors.insert(name.clone(), info).is_some() {
                return Err(broken(format!("{name} is there twice")));
            }
        }
        Ok(Self { metadata, tensors })
    }
}

fn broken(reason: String) -> HeaderError {
    HeaderError::Broken(reason.chars().take(200).collect())
}

/// Reads a source from its beginning on.
struct Cursor<'a, S> {
    source: &'a S,
    /// Behind the last byte that may be read.
    end: u64,
    at: u64,
    /// A piece of the source, and where it begins.
    bytes: Vec<u8>,
    start: u64,
    /// Of 32 bits: version 1.
    short_lengths: bool,
}

impl<S: ByteSource> Cursor<'_, S> {
    async fn take(&mut self, count: u64) -> Result<&[u8], HeaderError> {
        if count > self.end - self.at {
            return Err(broken(format!(
                "its header does not end before byte {}; it is probably cut short, so fetch it again",
                self.end
            )));
        }
        let from = self.at;
        self.at += count;
        if self.at > self.start + self.bytes.len() as u64 {
            let length = count.max(PIECE.min(self.end - from));
            self.bytes = self.source.read(from, length as usize).await?;
            self.start = from;
        }
        let from = (from - self.start) as usize;
        Ok(&self.bytes[from..from + count as usize])
    }

    async fn array<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let bytes = self.take(N as u64).await?;
        let mut array = [0; N];
        array.copy_from_slice(bytes);
        Ok(array)
    }

    async fn u32(&mut self) -> Result<u32, HeaderError> {
        self.array().await.map(u32::from_le_bytes)
    }

    async fn u64(&mut self) -> Result<u64, HeaderError> {
        self.array().await.map(u64::from_le_bytes)
    }

    async fn length(&mut self) -> Result<u64, HeaderError> {
        match self.short_lengths {
            true => self.u32().await.map(u64::from),
            false => self.u64().await,
        }
    }

    async fn text(&mut self) -> Result<String, HeaderError> {
        let length = self.length().await?;
        let bytes = self.take(length).await?.to_vec();
        String::from_utf8(bytes).map_err(|_| broken("a text in it is not UTF-8".into()))
    }

    async fn value(&mut self) -> Result<Value, HeaderError> {
        let kind = self.u32().await?;
        if kind != ARRAY {
            return self.scalar(kind).await;
        }
        let kind = self.u32().await?;
        let count = self.length().await?;
        // Every value takes a byte at least, so that no count reserves more than the file has.
        if count > self.end - self.at {
            return Err(broken(format!("a list in it claims {count} values")));
        }
        let mut values = Vec::with_capacity(count as usize);
        for _ in 0..count {
            values.push(self.scalar(kind).await?);
        }
        Ok(Value::Array(values))
    }

    async fn scalar(&mut self, kind: u32) -> Result<Value, HeaderError> {
        Ok(match kind {
            0 => Value::Unsigned(u8::from_le_bytes(self.array().await?).into()),
            1 => Value::Signed(i8::from_le_bytes(self.array().await?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(self.array().await?).into()),
            3 => Value::Signed(i16::from_le_bytes(self.array().await?).into()),
            4 => Value::Unsigned(self.u32().await?.into()),
            5 => Value::Signed(i32::from_le_bytes(self.array().await?).into()),
            6 => Value::F32(f32::from_le_bytes(self.array().await?)),
            7 => Value::Bool(self.array::<1>().await?[0] != 0),
            8 => Value::String(self.text().await?),
            10 => Value::Unsigned(self.u64().await?),
            11 => Value::Signed(i64::from_le_bytes(self.array().await?)),
            12 => Value::F64(f64::from_le_bytes(self.array().await?)),
            _ => return Err(broken(format!("a value in it is of kind {kind}"))),
        })
    }
}

const ARRAY: u32 = 9;
