//! Vector files: safetensors with one `[L+1, d]` tensor per estimator, and what is known about them.

use crate::trait_vector::tensor_hash;
use crate::vector_metadata::{read_metadata, write_metadata};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView};
use std::collections::BTreeMap;
use trimtab_engine::LayerTable;

pub use crate::trait_vector::TraitVector;
pub use crate::vector_metadata::{Recommended, VectorMetadata};

/// Largest vector file read. The vectors of a 70B model (`[81, 8192]`) take 2.7 MB each.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// Maximum number of tensors in one file.
pub const MAX_TENSORS: usize = 64;
/// The tensor that is meant where none is named.
pub const DEFAULT_TENSOR: &str = "response_avg";

#[derive(Debug, thiserror::Error)]
pub enum VectorFileError {
    #[error(
        "the vector file is {bytes} bytes long, more than the {MAX_FILE_BYTES} that are read; is it a model instead?"
    )]
    TooLarge { bytes: usize },
    #[error("this is not a usable safetensors file: {0}")]
    Safetensors(#[from] SafeTensorError),
    #[error("the vector file holds no tensor")]
    Empty,
    #[error(
        "the vector file holds {count} tensors, more than {MAX_TENSORS}; is it a model instead?"
    )]
    TooManyTensors { count: usize },
    #[error("tensor {tensor}: {reason}")]
    Tensor { tensor: String, reason: String },
    #[error("there is no tensor {asked:?} in this vector file; it has {present}")]
    NoSuchTensor { asked: String, present: String },
    #[error(
        "this vector file holds {present} and no {DEFAULT_TENSOR}; choose one by writing #NAME after the file's name"
    )]
    Ambiguous { present: String },
    #[error("the vector file's {key} is not usable: {reason}")]
    Metadata { key: &'static str, reason: String },
    #[error(
        "the vector has shape {shape:?}, this model needs [{rows}, {width}]: {}",
        if lacks_layers(shape, *rows, *width) {
            "one row for each layer, from the embedding's output to that of the last block"
        } else {
            "it was made for another model"
        }
    )]
    Shape {
        shape: Vec<usize>,
        rows: usize,
        width: usize,
    },
}

/// Fails unless `shape` is `[L+1, d]` of a model with `rows = L+1` and `width = d`.
pub fn check_shape(shape: &[usize], rows: usize, width: usize) -> Result<(), VectorFileError> {
    if shape == [rows, width] {
        return Ok(());
    }
    Err(VectorFileError::Shape {
        shape: shape.to_vec(),
        rows,
        width,
    })
}

/// True if a tensor is as wide as the model and lacks rows, as a vector of one layer alone does.
fn lacks_layers(shape: &[usize], rows: usize, width: usize) -> bool {
    shape.last() == Some(&width) && shape.iter().rev().skip(1).product::<usize>() < rows
}

/// Layers in words, neighbours together: `0 to 10 and 22 to 30`.
fn in_words(layers: &[usize]) -> String {
    let runs: Vec<String> = layers
        .chunk_by(|one, next| one + 1 == *next)
        .flat_map(|run| match run {
            [first, _, .., last] => vec![format!("{first} to {last}")],
            few => few.iter().map(usize::to_string).collect(),
        })
        .collect();
    match runs.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => runs.concat(),
    }
}

/// A parsed vector file.
#[derive(Clone, Debug)]
pub struct VectorFile {
    /// Tensors by name, each `[L+1, d]`, all of one shape.
    pub tensors: BTreeMap<String, LayerTable>,
    pub metadata: VectorMetadata,
}

impl VectorFile {
    /// Parses the bytes of a file. Refuses other shapes than `[rows, width]`, other types than F32,
    /// F16 and BF16, and numbers that are not finite.
    pub fn parse(bytes: &[u8]) -> Result<Self, VectorFileError> {
        if bytes.len() > MAX_FILE_BYTES {
            return Err(VectorFileError::TooLarge { bytes: bytes.len() });
        }
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let file = SafeTensors::deserialize(bytes)?;
        if file.len() > MAX_TENSORS {
            return Err(VectorFileError::TooManyTensors { count: file.len() });
        }
        let mut tensors = BTreeMap::new();
        for (name, view) in file.iter() {
            tensors.insert(name.to_owned(), read_table(name, &view)?);
        }
        let Some(first) = tensors.values().next() else {
            return Err(VectorFileError::Empty);
        };
        let rows = first.rows();
        let metadata = header.metadata().as_ref().map_or_else(
            || Ok(VectorMetadata::default()),
            |map| read_metadata(map, rows),
        )?;
        Ok(Self { tensors, metadata })
    }

    /// A file of one vector that was made elsewhere, `from` in words, without rows for `missing` layers.
    pub fn imported(table: LayerTable, from: &str, missing: &[usize]) -> Self {
        let missing = in_words(missing);
        Self {
            tensors: [(DEFAULT_TENSOR.to_owned(), table)].into(),
            metadata: VectorMetadata {
                made: Some(format!(
                    "from {from}; layers that it has not ({missing}) are zero"
                )),
                ..VectorMetadata::default()
            },
        }
    }

    /// The file's bytes, the same for the same contents.
    pub fn to_bytes(&self) -> Result<Vec<u8>, VectorFileError> {
        let data: Vec<(&String, Vec<u8>, [usize; 2])> = self
            .tensors
            .iter()
            .map(|(name, table)| {
                let bytes = table
                    .values()
                    .iter()
                    .flat_map(|value| value.to_le_bytes())
                    .collect();
                (name, bytes, [table.rows(), table.width()])
            })
            .collect();
        let views = data
            .iter()
            .map(|(name, bytes, shape)| {
                Ok((
                    name.as_str(),
                    TensorView::new(Dtype::F32, shape.to_vec(), bytes)?,
                ))
            })
            .collect::<Result<Vec<_>, SafeTensorError>>()?;
        let bytes = safetensors::serialize(views, Some(write_metadata(&self.metadata)))?;
        sort_metadata(bytes)
    }

    /// The tensor of that name; without a name the only one, or [`DEFAULT_TENSOR`].
    pub fn choose(&self, tensor: Option<&str>) -> Result<(&str, &LayerTable), VectorFileError> {
        let present = || {
            self.tensors
                .keys()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        };
        let name = match tensor {
            Some(name) => name,
            None if self.tensors.len() == 1 => {
                self.tensors.keys().next().map_or("", String::as_str)
            }
            None if self.tensors.contains_key(DEFAULT_TENSOR) => DEFAULT_TENSOR,
            None => return Err(VectorFileError::Ambiguous { present: present() }),
        };
        self.tensors
            .get_key_value(name)
            .map(|(name, table)| (name.as_str(), table))
            .ok_or_else(|| VectorFileError::NoSuchTensor {
                asked: name.to_owned(),
                present: present(),
            })
    }

    /// One direction of the file for a model of `layer_rows = L+1` rows of `width = d`, under the
    /// name that the person used.
    pub fn into_vector(
        self,
        name: &str,
        tensor: Option<&str>,
        layer_rows: usize,
        width: usize,
    ) -> Result<TraitVector, VectorFileError> {
        let (tensor_name, table) = self.choose(tensor)?;
        check_shape(&[table.rows(), table.width()], layer_rows, width)?;
        Ok(TraitVector {
            name: name.to_owned(),
            opposite: self.metadata.opposite.clone().unwrap_or_default(),
            description: self.metadata.description.clone().unwrap_or_default(),
            hash: tensor_hash(table),
            table: table.clone(),
            recommended: self.metadata.recommended.clone(),
            calibration: self.metadata.calibration.get(tensor_name).cloned(),
            neutral_norm: self.metadata.neutral_norm.clone(),
            model_sha256: self.metadata.model_sha256.clone(),
        })
    }
}

fn read_table(name: &str, view: &TensorView<'_>) -> Result<LayerTable, VectorFileError> {
    let refuse = |reason: String| VectorFileError::Tensor {
        tensor: name.to_owned(),
        reason,
    };
    let &[rows, width] = view.shape() else {
        return Err(refuse(format!(
            "has shape {:?}, a vector file needs [layers + 1, width]",
            view.shape()
        )));
    };
    if rows < 2 || width == 0 {
        return Err(refuse(format!(
            "has shape [{rows}, {width}], a vector file needs [layers + 1, width]"
        )));
    }
    let halves = |bytes: &[u8], read: fn([u8; 2]) -> f32| {
        bytes
            .as_chunks::<2>()
            .0
            .iter()
            .map(|two| read(*two))
            .collect()
    };
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => view
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|four| f32::from_le_bytes(*four))
            .collect(),
        Dtype::F16 => halves(view.data(), |two| half::f16::from_le_bytes(two).to_f32()),
        Dtype::BF16 => halves(view.data(), |two| half::bf16::from_le_bytes(two).to_f32()),
        other => {
            return Err(refuse(format!(
                "has type {other:?}, a vector file needs F32, F16 or BF16"
            )));
        }
    };
    LayerTable::new(values, width).map_err(|error| refuse(error.to_string()))
}

/// Rewrites the header with its keys in order, because the safetensors crate writes metadata in the
/// order of a hash map, and a committed file should be the same bytes each time it is made.
fn sort_metadata(bytes: Vec<u8>) -> Result<Vec<u8>, VectorFileError> {
    let unreadable = || VectorFileError::Safetensors(SafeTensorError::InvalidHeaderLength);
    let length = bytes
        .first_chunk::<8>()
        .map(|eight| u64::from_le_bytes(*eight) as usize)
        .ok_or_else(unreadable)?;
    let header = bytes.get(8..8 + length).ok_or_else(unreadable)?;
    let header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|_| unreadable())?;
    let mut text = serde_json::to_vec(&header).map_err(|_| unreadable())?;
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut sorted = (text.len() as u64).to_le_bytes().to_vec();
    sorted.extend(text);
    sorted.extend(&bytes[8 + length..]);
    Ok(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(names: &[&str]) -> VectorFile {
        let table =
            |scale: f32| LayerTable::new((0..6).map(|i| i as f32 * scale).collect(), 2).unwrap();
        let tensors = names
            .iter()
            .enumerate()
            .map(|(i, name)| ((*name).to_owned(), table(i as f32 + 1.0)))
            .collect();
        VectorFile {
            tensors,
            metadata: VectorMetadata::default(),
        }
    }

    #[test]
    fn a_file_comes_back_as_it_was_written_and_always_with_the_same_bytes() {
        let mut file = file(&["response_avg", "prompt_avg"]);
        file.metadata.name = Some("cheerful".into());
        file.metadata.model_sha256 = Some("ab".into());
        file.metadata.neutral_norm = Some(vec![1.0, 2.0, 4.0]);
        file.metadata.recommended = Some(Recommended {
            layers: vec![1, 2],
            min: -2.0,
            max: 2.0,
            usual: None,
        });
        file.metadata
            .calibration
            .insert("response_avg".into(), crate::calibration::tests::sample(3));
        let bytes = file.to_bytes().unwrap();
        let back = VectorFile::parse(&bytes).unwrap();
        assert_eq!(back.metadata, file.metadata);
        assert_eq!(
            back.tensors["prompt_avg"].values(),
            file.tensors["prompt_avg"].values()
        );
        assert!((0..8).all(|_| file.to_bytes().unwrap() == bytes));
    }

    #[test]
    fn one_tensor_is_chosen_whatever_its_name_and_several_default_to_response_avg() {
        assert_eq!(file(&["odd"]).choose(None).unwrap().0, "odd");
        assert_eq!(
            file(&["prompt_avg", "response_avg"])
                .choose(None)
                .unwrap()
                .0,
            "response_avg"
        );
        assert_eq!(file(&["a", "b"]).choose(Some("b")).unwrap().0, "b");
        let error = file(&["a", "b"]).choose(None).unwrap_err().to_string();
        assert!(error.contains("a, b") && error.contains("#NAME"), "{error}");
        let error = file(&["a"]).choose(Some("c")).unwrap_err().to_string();
        assert!(
            error.contains("\"c\"") && error.contains("it has a"),
            "{error}"
        );
    }

    #[test]
    fn another_shape_is_refused_and_another_model_is_a_warning() {
        let error = file(&["v"])
            .into_vector("v", None, 31, 576)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[3, 2]") && error.contains("[31, 576]"),
            "{error}"
        );
        let mut file = file(&["v"]);
        file.metadata.model_sha256 = Some("aaaaaaaaaa".into());
        let vector = file.into_vector("v", None, 3, 2).unwrap();
        assert!(
            vector
                .model_warning("bbbbbbbbbb")
                .unwrap()
                .contains("aaaaaaaa…")
        );
        assert_eq!(vector.model_warning("aaaaaaaaaa"), None);
    }

    #[test]
    fn a_vector_of_some_layers_is_not_called_another_models() {
        let told = |shape: &[usize]| check_shape(shape, 31, 576).unwrap_err().to_string();
        for shape in [&[576][..], &[1, 576], &[30, 576], &[3, 1, 576]] {
            let sentence = told(shape);
            assert!(
                sentence.contains("one row for each layer") && !sentence.contains("another model"),
                "{sentence}"
            );
        }
        for shape in [&[25, 896][..], &[33, 576], &[31], &[576, 31]] {
            assert!(told(shape).contains("another model"), "{}", told(shape));
        }
        assert!(check_shape(&[31, 576], 31, 576).is_ok());
    }

    #[test]
    fn layers_in_words_are_all_named() {
        let all: Vec<usize> = (0..=10).chain(22..=30).collect();
        assert_eq!(in_words(&all), "0 to 10 and 22 to 30");
        assert_eq!(in_words(&[0, 1]), "0 and 1");
        assert_eq!(in_words(&[30]), "30");
        assert_eq!(in_words(&[0, 1, 2, 7, 9, 10]), "0 to 2, 7, 9 and 10");
    }

    #[test]
    fn bare_f16_tensors_load_and_hostile_ones_do_not() {
        let one = |dtype, shape: Vec<usize>, bytes: &[u8]| {
            safetensors::serialize([("v", TensorView::new(dtype, shape, bytes).unwrap())], None)
                .unwrap()
        };
        let halves: Vec<u8> = [1.0_f32, -2.0, 0.5, 4.0]
            .iter()
            .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
            .collect();
        let file = VectorFile::parse(&one(Dtype::F16, vec![2, 2], &halves)).unwrap();
        assert_eq!(file.tensors["v"].values(), [1.0, -2.0, 0.5, 4.0]);

        let nan: Vec<u8> = [f32::NAN, 0.0, 0.0, 0.0]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let error = VectorFile::parse(&one(Dtype::F32, vec![2, 2], &nan))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("tensor v") && error.contains("not finite"),
            "{error}"
        );
        let error = VectorFile::parse(&one(Dtype::F32, vec![4], &nan))
            .unwrap_err()
            .to_string();
        assert!(error.contains("shape [4]"), "{error}");
        let error = VectorFile::parse(&one(Dtype::I32, vec![2, 2], &nan))
            .unwrap_err()
            .to_string();
        assert!(error.contains("I32"), "{error}");
        assert!(matches!(
            VectorFile::parse(b"not a file"),
            Err(VectorFileError::Safetensors(_))
        ));
    }

    #[test]
    fn a_recommendation_outside_the_vector_is_refused() {
        let mut file = file(&["v"]);
        file.metadata.recommended = Some(Recommended {
            layers: vec![3],
            min: -1.0,
            max: 1.0,
            usual: None,
        });
        let error = VectorFile::parse(&file.to_bytes().unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("recommended") && error.contains("layer 3"),
            "{error}"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_an_error_or_a_file(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = VectorFile::parse(&bytes);
        }

        #[test]
        fn a_damaged_file_never_panics(at in 0_usize..400, byte in proptest::num::u8::ANY) {
            let mut bytes = file(&["response_avg", "prompt_avg"]).to_bytes().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = VectorFile::parse(&bytes);
        }
    }
}
