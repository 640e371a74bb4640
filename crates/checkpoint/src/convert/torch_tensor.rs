//! One bare tensor as `torch.save` writes it: a zip archive with a pickle and the numbers.

use candle_core::pickle::{Object, Stack};
use candle_core::{DType, Device, Tensor};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Largest file, and most numbers in a tensor.
pub const MAX_BYTES: u64 = 64 << 20;
/// A pickle of one tensor is a few hundred bytes.
const MAX_PICKLE_BYTES: u64 = 64 << 10;
/// Start of a file before torch 1.6: a pickle, of protocol 2 and later, of the number `0x1950a86a20f9469cfc6c`.
const OLD_FORM: [u8; 14] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];

#[derive(Debug, thiserror::Error)]
pub enum TorchTensorError {
    #[error("the file is {bytes} bytes long, more than the {MAX_BYTES} that are read")]
    TooLarge { bytes: u64 },
    #[error("this is not a file of torch.save ({0})")]
    NotTorch(String),
    #[error(
        "this is the form that torch.save wrote before version 1.6; save it anew with `torch.save(torch.load(FILE), FILE)`, without _use_new_zipfile_serialization"
    )]
    OldForm,
    #[error("this file of torch.save holds something else than one tensor; save the tensor alone")]
    NotOneTensor,
    #[error("the tensor cannot be read: {0}")]
    Tensor(String),
}

/// Shape and values of the file's tensor, made f32. Nothing in the pickle is executed.
pub fn read_torch_tensor(path: &Path) -> Result<(Vec<usize>, Vec<f32>), TorchTensorError> {
    let not_torch = |reason: String| TorchTensorError::NotTorch(reason);
    let unreadable = |error: candle_core::Error| TorchTensorError::Tensor(error.to_string());
    let mut file = File::open(path).map_err(|error| not_torch(error.to_string()))?;
    let bytes = file
        .metadata()
        .map_err(|error| not_torch(error.to_string()))?
        .len();
    if bytes > MAX_BYTES {
        return Err(TorchTensorError::TooLarge { bytes });
    }
    let mut start = [0; OLD_FORM.len()];
    // A shorter file is no archive either, which is said below.
    let _ = file.read_exact(&mut start);
    if start == OLD_FORM {
        return Err(TorchTensorError::OldForm);
    }
    let mut archive =
        zip::ZipArchive::new(BufReader::new(file)).map_err(|error| not_torch(error.to_string()))?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| name.ok().map(std::borrow::Cow::into_owned))
        .collect();
    let pickle = names
        .iter()
        .find(|name| name.ends_with("data.pkl"))
        .ok_or_else(|| not_torch("it has no data.pkl".to_owned()))?;
    let object = {
        let entry = archive
            .by_name(pickle)
            .map_err(|error| not_torch(error.to_string()))?;
        let mut stack = Stack::empty();
        stack
            .read_loop(&mut BufReader::new(entry.take(MAX_PICKLE_BYTES)))
            .and_then(|()| stack.finalize())
            .map_err(|error| not_torch(error.to_string()))?
    };
    let folder = pickle.strip_suffix(".pkl").unwrap_or(pickle);
    let info = object
        .into_tensor_info(Object::Unicode(String::new()), Path::new(folder))
        .map_err(unreadable)?
        .ok_or(TorchTensorError::NotOneTensor)?;
    let count = info.layout.shape().elem_count();
    if count as u64 > MAX_BYTES || !info.layout.is_contiguous() || info.layout.start_offset() > 0 {
        return Err(TorchTensorError::Tensor(
            "it is a view of another; save a contiguous copy".to_owned(),
        ));
    }
    let entry = archive
        .by_name(&info.path)
        .map_err(|error| TorchTensorError::Tensor(error.to_string()))?;
    let dims = info.layout.shape().dims().to_vec();
    let size = (count * info.dtype.size_in_bytes()) as u64;
    let mut data = Vec::new();
    entry
        .take(size)
        .read_to_end(&mut data)
        .map_err(|error| TorchTensorError::Tensor(error.to_string()))?;
    if data.len() as u64 != size {
        return Err(TorchTensorError::Tensor("it is cut short".to_owned()));
    }
    let values = Tensor::from_raw_buffer(&data, info.dtype, &dims, &Device::Cpu)
        .and_then(|tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1())
        .map_err(unreadable)?;
    Ok((dims, values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn tiny(name: &str) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        root.join("tests/golden/tiny").join(name)
    }

    #[test]
    fn one_tensor_is_read() {
        let (shape, values) = read_torch_tensor(&tiny("tensor.pt")).unwrap();
        assert_eq!(shape, [4, 3]);
        let counted: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(values, counted);
    }

    #[test]
    fn other_files_get_a_sentence() {
        let error = read_torch_tensor(&tiny("torch_file.py")).unwrap_err();
        assert!(
            error.to_string().contains("not a file of torch.save"),
            "{error}"
        );
        let old = std::env::temp_dir().join(format!("trimtab-old-{}.pt", std::process::id()));
        std::fs::write(&old, [&OLD_FORM[..], b".\x80\x02M\xe9\x03."].concat()).unwrap();
        let error = read_torch_tensor(&old).unwrap_err().to_string();
        std::fs::remove_file(&old).unwrap();
        assert!(error.contains("before version 1.6"), "{error}");
        let error = read_torch_tensor(Path::new("nowhere.pt")).unwrap_err();
        assert!(
            error.to_string().contains("not a file of torch.save"),
            "{error}"
        );
    }
}
