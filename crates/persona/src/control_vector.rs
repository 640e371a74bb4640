//! GGUF control vectors, as repeng writes and llama.cpp reads them.
//!
//! `direction.N` is added to the output of zero-based block N, which is our layer N + 1; llama.cpp has none for block 0.
//! So N = 1 ..= L − 1 are our layers 2 ..= L, and layers 0 and 1 cannot be exported.
//! The layout is written and read here, because the crates that read GGUF (candle's among them) want a file, not bytes of
//! a visitor's, and are too heavy for the browser.

use std::collections::BTreeMap;
use trimtab_engine::{Layer, LayerTable};

/// The architecture that these files name.
const ARCHITECTURE: &str = "controlvector";
const MAGIC: &[u8; 4] = b"GGUF";
const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;
/// Our layer of `direction.0`, which does not occur.
const LAYER_OF_BLOCK_0: usize = 1;
/// The first layer that can be exported.
pub const FIRST_LAYER: usize = 2;
/// Largest file read.
pub const MAX_BYTES: usize = 64 << 20;
const MAX_ENTRIES: u64 = 4_096;
const MAX_STRING_BYTES: u64 = 1 << 20;
const MAX_WIDTH: u64 = 1 << 17;

const TYPE_U32: u32 = 4;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;
const TENSOR_F32: u32 = 0;
const TENSOR_F16: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum ControlVectorError {
    #[error(
        "the control vector is {bytes} bytes long, more than the {MAX_BYTES} that are read; is it a model instead?"
    )]
    TooLarge { bytes: usize },
    #[error("this is not a GGUF file")]
    NotGguf,
    #[error("the GGUF file has version {version}; versions 2 and 3 are read")]
    Version { version: u32 },
    #[error("the GGUF file ends too soon, or a length in it is wrong")]
    Truncated,
    #[error("this GGUF file is {found}, not a control vector")]
    NotControlVector { found: String },
    #[error("{tensor} in the control vector {reason}")]
    Tensor { tensor: String, reason: String },
    #[error("the control vector holds no direction")]
    Empty,
    #[error(
        "direction.{block} belongs to layer {layer}; this model has layers 0 to {last}: the control vector was made for another model"
    )]
    LayerOutOfRange {
        block: usize,
        layer: usize,
        last: usize,
    },
    #[error(
        "the control vector is {width} wide and this model {want}: it was made for another model"
    )]
    Width { width: usize, want: usize },
    #[error(
        "a vector of {rows} layers has none that a control vector can hold: layers 0 and 1 cannot be exported"
    )]
    NothingToExport { rows: usize },
}

/// Directions by llama.cpp's zero-based block.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlVector {
    pub directions: BTreeMap<usize, Vec<f32>>,
    /// The architecture that it was made for, as llama.cpp names it.
    pub model_hint: String,
}

impl ControlVector {
    /// Layers 2 and up of `table`; layers 0 and 1 have no place in the format.
    pub fn of(table: &LayerTable, model_hint: &str) -> Result<Self, ControlVectorError> {
        if table.rows() <= FIRST_LAYER {
            return Err(ControlVectorError::NothingToExport { rows: table.rows() });
        }
        let directions = (FIRST_LAYER..table.rows())
            .map(|layer| {
                let row = table.row(Layer(layer as u32)).to_vec();
                (layer - LAYER_OF_BLOCK_0, row)
            })
            .collect();
        Ok(Self {
            directions,
            model_hint: model_hint.to_owned(),
        })
    }

    /// `[L+1, d]` for a model of `rows = L+1` layers; layers that the file leaves out are zero.
    pub fn into_table(self, rows: usize, width: usize) -> Result<LayerTable, ControlVectorError> {
        let mut values = vec![0.0; rows * width];
        for (block, direction) in &self.directions {
            let layer = block + LAYER_OF_BLOCK_0;
            if direction.len() != width {
                return Err(ControlVectorError::Width {
                    width: direction.len(),
                    want: width,
                });
            }
            if layer >= rows {
                return Err(ControlVectorError::LayerOutOfRange {
                    block: *block,
                    layer,
                    last: rows.saturating_sub(1),
                });
            }
            values[layer * width..(layer + 1) * width].copy_from_slice(direction);
        }
        LayerTable::new(values, width).map_err(|error| ControlVectorError::Tensor {
            tensor: "a direction".into(),
            reason: error.to_string(),
        })
    }

    /// The layers, of `rows = L+1`, that the file says nothing about.
    pub fn missing_layers(&self, rows: usize) -> Vec<usize> {
        let has = |layer: &usize| {
            let block = layer.checked_sub(LAYER_OF_BLOCK_0);
            block.is_some_and(|block| self.directions.contains_key(&block))
        };
        (0..rows).filter(|layer| !has(layer)).collect()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend((self.directions.len() as u64).to_le_bytes());
        out.extend(3_u64.to_le_bytes());
        for (key, value) in [
            ("general.architecture", ARCHITECTURE),
            ("controlvector.model_hint", &self.model_hint),
        ] {
            put_string(&mut out, key);
            out.extend(TYPE_STRING.to_le_bytes());
            put_string(&mut out, value);
        }
        put_string(&mut out, "controlvector.layer_count");
        out.extend(TYPE_U32.to_le_bytes());
        out.extend((self.directions.len() as u32).to_le_bytes());
        let mut offset = 0;
        for (block, direction) in &self.directions {
            put_string(&mut out, &format!("direction.{block}"));
            out.extend(1_u32.to_le_bytes());
            out.extend((direction.len() as u64).to_le_bytes());
            out.extend(TENSOR_F32.to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset += (direction.len() * 4).next_multiple_of(ALIGNMENT);
        }
        for direction in self.directions.values() {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(direction.iter().flat_map(|value| value.to_le_bytes()));
        }
        out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
        out
    }

    /// Reads a control vector; refuses other GGUF files, other types than F32 and F16, and numbers that are not finite.
    pub fn parse(bytes: &[u8]) -> Result<Self, ControlVectorError> {
        if bytes.len() > MAX_BYTES {
            return Err(ControlVectorError::TooLarge { bytes: bytes.len() });
        }
        let mut input = Input { bytes, at: 0 };
        if input.take(4).map_err(|_| ControlVectorError::NotGguf)? != MAGIC {
            return Err(ControlVectorError::NotGguf);
        }
        let version = input.u32()?;
        if !(2..=3).contains(&version) {
            return Err(ControlVectorError::Version { version });
        }
        let (tensors, entries) = (input.u64()?, input.u64()?);
        if entries > MAX_ENTRIES {
            return Err(ControlVectorError::Truncated);
        }
        let (mut architecture, mut model_hint, mut alignment) =
            (String::new(), String::new(), ALIGNMENT);
        for _ in 0..entries {
            let key = input.string()?;
            let kind = input.u32()?;
            match (key.as_str(), kind) {
                ("general.architecture", TYPE_STRING) => architecture = input.string()?,
                ("controlvector.model_hint", TYPE_STRING) => model_hint = input.string()?,
                ("general.alignment", TYPE_U32) => alignment = input.u32()? as usize,
                _ => input.skip(kind)?,
            }
        }
        if architecture != ARCHITECTURE {
            let found = match architecture.as_str() {
                "" => "of no stated kind".to_owned(),
                other => format!("of kind {other:?}"),
            };
            return Err(ControlVectorError::NotControlVector { found });
        }
        if tensors > MAX_ENTRIES || alignment == 0 || alignment > 1 << 16 {
            return Err(ControlVectorError::Truncated);
        }
        let mut infos = Vec::new();
        for _ in 0..tensors {
            infos.push(TensorPlace::read(&mut input)?);
        }
        let start = input.at.next_multiple_of(alignment);
        let mut directions = BTreeMap::new();
        for info in infos {
            let name = info.name.clone();
            let direction = info.values(bytes, start)?;
            let block = name
                .strip_prefix("direction.")
                .and_then(|number| number.parse::<usize>().ok())
                .filter(|block| (1..MAX_ENTRIES as usize).contains(block))
                .ok_or_else(|| refuse(&name, "is not called direction.1 or a higher number"))?;
            if directions.insert(block, direction).is_some() {
                return Err(refuse(&name, "is there twice"));
            }
        }
        if directions.is_empty() {
            return Err(ControlVectorError::Empty);
        }
        Ok(Self {
            directions,
            model_hint,
        })
    }
}

#[derive(Debug)]
struct TensorPlace {
    name: String,
    width: usize,
    kind: u32,
    offset: usize,
}

impl TensorPlace {
    fn read(input: &mut Input<'_>) -> Result<Self, ControlVectorError> {
        let name = input.string()?;
        let dimensions = input.u32()?;
        if dimensions == 0 || dimensions > 4 {
            return Err(refuse(
                &name,
                &format!("has {dimensions} dimensions, 1 is expected"),
            ));
        }
        let mut width = 1_u64;
        for _ in 0..dimensions {
            width = width.saturating_mul(input.u64()?);
        }
        if width == 0 || width > MAX_WIDTH {
            return Err(refuse(
                &name,
                &format!("has {width} numbers; 1 to {MAX_WIDTH} are read"),
            ));
        }
        let kind = input.u32()?;
        let offset = usize::try_from(input.u64()?).map_err(|_| ControlVectorError::Truncated)?;
        Ok(Self {
            name,
            width: width as usize,
            kind,
            offset,
        })
    }

    fn values(&self, bytes: &[u8], start: usize) -> Result<Vec<f32>, ControlVectorError> {
        let size = match self.kind {
            TENSOR_F32 => 4,
            TENSOR_F16 => 2,
            other => {
                let reason = format!("has GGUF type {other}; F32 and F16 are read");
                return Err(refuse(&self.name, &reason));
            }
        };
        let data = start
            .checked_add(self.offset)
            .and_then(|from| bytes.get(from..from.checked_add(self.width * size)?))
            .ok_or(ControlVectorError::Truncated)?;
        let values: Vec<f32> = if size == 4 {
            let fours = data.as_chunks::<4>().0;
            fours.iter().map(|four| f32::from_le_bytes(*four)).collect()
        } else {
            let twos = data.as_chunks::<2>().0;
            twos.iter()
                .map(|two| half::f16::from_le_bytes(*two).to_f32())
                .collect()
        };
        if values.iter().all(|value| value.is_finite()) {
            Ok(values)
        } else {
            Err(refuse(&self.name, "holds a number that is not finite"))
        }
    }
}

fn refuse(tensor: &str, reason: &str) -> ControlVectorError {
    ControlVectorError::Tensor {
        tensor: tensor.to_owned(),
        reason: reason.to_owned(),
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// Bytes and how far they are read.
#[derive(Debug)]
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ControlVectorError> {
        let end = self
            .at
            .checked_add(count)
            .ok_or(ControlVectorError::Truncated)?;
        let taken = self
            .bytes
            .get(self.at..end)
            .ok_or(ControlVectorError::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ControlVectorError> {
        let taken = self.take(N)?.first_chunk::<N>();
        taken.copied().ok_or(ControlVectorError::Truncated)
    }

    fn u32(&mut self) -> Result<u32, ControlVectorError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ControlVectorError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<String, ControlVectorError> {
        let length = self.u64()?;
        if length > MAX_STRING_BYTES {
            return Err(ControlVectorError::Truncated);
        }
        Ok(String::from_utf8_lossy(self.take(length as usize)?).into_owned())
    }

    /// Passes over a value of a type; nested arrays do not occur in GGUF files.
    fn skip(&mut self, kind: u32) -> Result<(), ControlVectorError> {
        match kind {
            TYPE_STRING => self.string().map(drop),
            TYPE_ARRAY => {
                let (kind, count) = (self.u32()?, self.u64()?);
                if kind == TYPE_ARRAY || count > MAX_STRING_BYTES {
                    return Err(ControlVectorError::Truncated);
                }
                (0..count).try_for_each(|_| self.skip(kind))
            }
            0 | 1 | 7 => self.take(1).map(drop),
            2 | 3 => self.take(2).map(drop),
            TYPE_U32 | 5 | 6 => self.take(4).map(drop),
            10..=12 => self.take(8).map(drop),
            _ => Err(ControlVectorError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> LayerTable {
        LayerTable::new((0..20).map(|i| i as f32 - 7.5).collect(), 5).unwrap()
    }

    fn bytes() -> Vec<u8> {
        ControlVector::of(&table(), "llama").unwrap().to_bytes()
    }

    #[test]
    fn layers_from_2_on_come_back_where_they_were() {
        let read = ControlVector::parse(&bytes()).unwrap();
        assert_eq!(read.model_hint, "llama");
        assert_eq!(read.directions.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(read.missing_layers(4), [0, 1]);
        assert_eq!(read.missing_layers(6), [0, 1, 4, 5]);
        let back = read.into_table(4, 5).unwrap();
        let zeros = [0.0; 5];
        assert_eq!(back.row(Layer(0)), zeros);
        assert_eq!(back.row(Layer(1)), zeros);
        assert_eq!(back.row(Layer(2)), table().row(Layer(2)));
        assert_eq!(back.row(Layer(3)), table().row(Layer(3)));
    }

    #[test]
    fn other_models_and_vectors_without_such_layers_get_a_sentence() {
        let read = || ControlVector::parse(&bytes()).unwrap();
        let error = read().into_table(3, 5).unwrap_err().to_string();
        assert!(
            error.contains("layer 3") && error.contains("0 to 2"),
            "{error}"
        );
        let error = read().into_table(4, 6).unwrap_err().to_string();
        assert!(error.contains("5 wide and this model 6"), "{error}");
        let short = LayerTable::new(vec![1.0; 4], 2).unwrap();
        let error = ControlVector::of(&short, "llama").unwrap_err().to_string();
        assert!(
            error.contains("layers 0 and 1 cannot be exported"),
            "{error}"
        );
    }

    #[test]
    fn hostile_bytes_get_a_sentence() {
        let message = |bytes: &[u8]| ControlVector::parse(bytes).unwrap_err().to_string();
        assert!(message(b"").contains("not a GGUF"));
        assert!(message(b"PK\x03\x04").contains("not a GGUF"));
        for end in 4..bytes().len() - ALIGNMENT {
            assert!(ControlVector::parse(&bytes()[..end]).is_err(), "{end}");
        }
        let patched = |from: &[u8], to: &[u8]| {
            let mut bytes = bytes();
            let at = bytes
                .windows(from.len())
                .position(|window| window == from)
                .unwrap();
            bytes[at..at + to.len()].copy_from_slice(to);
            message(&bytes)
        };
        assert!(patched(b"controlvector", b"controlvectox").contains("not a control vector"));
        assert!(patched(b"direction.2", b"direction.1").contains("twice"));
        assert!(patched(b"direction.1", b"direction.0").contains("not called"));
        assert!(
            patched(&(-7.5_f32 + 10.0).to_le_bytes(), &f32::NAN.to_le_bytes())
                .contains("not finite")
        );
        assert!(message(&vec![0; MAX_BYTES + 1]).contains("model instead"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_vector_or_an_error(
            at in 0_usize..400,
            with in proptest::collection::vec(proptest::num::u8::ANY, 1..12),
        ) {
            let mut bytes = bytes();
            let at = at.min(bytes.len() - with.len());
            bytes[at..at + with.len()].copy_from_slice(&with);
            if let Ok(read) = ControlVector::parse(&bytes) {
                let _ = read.into_table(4, 5);
            }
        }
    }
}
