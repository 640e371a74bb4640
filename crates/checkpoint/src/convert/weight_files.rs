//! Which safetensors files of a Hugging Face folder are the model's.

use super::ConvertError;
use super::input::Folder;
use super::names::{INDEX, is_weights_of_another_form};
use crate::error::WeightError;
use crate::layout::StoredTensor;
use crate::manifest;
use crate::source::ByteSource;
use crate::weights::WeightFile;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The model's files, opened.
#[derive(Debug)]
pub struct WeightFiles {
    files: Vec<(String, WeightFile<Rc<dyn ByteSource>>)>,
    /// The file of each tensor, where the folder has an index.
    index: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// A tensor and the file that has it.
pub type Found<'a> = (&'a WeightFile<Rc<dyn ByteSource>>, &'a StoredTensor);

impl WeightFiles {
    /// Opens the files that transformers would: `model.safetensors`, or else those of the index; without either, all but
    /// [weights of another form](is_weights_of_another_form). `notes` hear of files that are left out.
    ///
    /// # Errors
    /// A folder without weights, a missing file by its name, an index or a header that is not usable.
    pub async fn open(input: &dyn Folder, notes: &mut Vec<String>) -> Result<Self, ConvertError> {
        let names: BTreeSet<String> = input.names().into_iter().collect();
        let safetensors = |name: &&String| name.to_lowercase().ends_with(".safetensors");
        let present: BTreeSet<String> = names.iter().filter(safetensors).cloned().collect();
        let mut index = BTreeMap::new();
        if let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(INDEX)) {
            let read: Index = input.json(name).await?;
            index = read.weight_map;
        }
        let whole = present
            .iter()
            .find(|name| name.eq_ignore_ascii_case(manifest::WEIGHTS));
        let chosen: BTreeSet<String> = match whole {
            Some(whole) => {
                index.clear();
                [whole.clone()].into()
            }
            None if !index.is_empty() => index.values().cloned().collect(),
            None => {
                let own = |name: &&String| !is_weights_of_another_form(name);
                let parts: BTreeSet<String> = present.iter().filter(own).cloned().collect();
                let missing = parts.iter().flat_map(|name| siblings(name)).collect();
                &parts | &missing
            }
        };
        if chosen.is_empty() {
            return Err(ConvertError::Read {
                path: input.path(),
                reason: "has no *.safetensors file of a model".into(),
            });
        }
        if let Some(missing) = chosen.iter().find(|name| !present.contains(*name)) {
            let shown: String = missing.chars().take(200).collect();
            return Err(input.unreadable(
                &shown,
                "is missing: the model's other files name it as one of theirs; download it into the same folder",
            ));
        }
        notes.extend(present.difference(&chosen).map(|name| {
            format!("{name} is not one of the model's own weight files and was left out")
        }));
        let mut files = Vec::with_capacity(chosen.len());
        for name in chosen {
            let opened = WeightFile::open(input.open(&name)?).await;
            let file = opened.map_err(|error| input.unreadable(&name, error.to_string()))?;
            files.push((name, file));
        }
        Ok(Self { files, index })
    }

    /// Every usable tensor by its name.
    ///
    /// # Errors
    /// A tensor in two files, where no index says which counts.
    pub fn tensors(&self) -> Result<BTreeMap<&str, Found<'_>>, ConvertError> {
        let mut found: BTreeMap<&str, (&str, Found<'_>)> = BTreeMap::new();
        for (name, file) in &self.files {
            for tensor in file.tensors().filter(|tensor| self.counts(name, tensor)) {
                if let Some((other, _)) = found.insert(&tensor.name, (name, (file, tensor))) {
                    return Err(ConvertError::Tensor {
                        tensor: tensor.name.clone(),
                        reason: format!(
                            "is in two of the files, {other} and {name}; move the one away that is not the model's"
                        ),
                    });
                }
            }
        }
        Ok(found
            .into_iter()
            .map(|(name, (_, found))| (name, found))
            .collect())
    }

    /// The usable tensor of that name.
    pub fn find(&self, tensor: &str) -> Option<Found<'_>> {
        self.files.iter().find_map(|(name, file)| {
            let stored = file.tensor(tensor).ok()?;
            self.counts(name, stored).then_some((file, stored))
        })
    }

    /// Whether the index, where there is one, names that file for the tensor.
    fn counts(&self, file: &str, tensor: &StoredTensor) -> bool {
        let named = self.index.get(&tensor.name);
        named.is_none_or(|named| named == file)
    }

    /// Names of all tensors, those of unknown types included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().flat_map(|(_, file)| file.names())
    }

    /// The reason why there is no usable tensor of that name.
    pub fn missing(&self, tensor: &str) -> WeightError {
        let has = |file: &&(String, WeightFile<_>)| file.1.names().any(|name| name == tensor);
        let holder = self.files.iter().find(has).or(self.files.first());
        let reason = holder.and_then(|(_, file)| file.tensor(tensor).err());
        reason.unwrap_or_else(|| WeightError::Tensor {
            tensor: tensor.into(),
            reason: "is in another file than the one that the index names".into(),
        })
    }
}

/// All names of a set of shards, by the name of one of them: `model-00001-of-00003.safetensors`.
fn siblings(name: &str) -> Vec<String> {
    let parsed = || {
        let (stem, ending) = name.split_at_checked(name.len().checked_sub(12)?)?;
        let (stem, total) = stem.rsplit_once("-of-")?;
        let (stem, number) = stem.rsplit_once('-')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let count: usize = total.parse().ok().filter(|count| *count <= 4096)?;
        (digits(number) && digits(total)).then_some((stem, total, ending, count))
    };
    let Some((stem, total, ending, count)) = parsed() else {
        return Vec::new();
    };
    (1..=count)
        .map(|number| {
            format!(
                "{stem}-{number:0width$}-of-{total}{ending}",
                width = total.len()
            )
        })
        .collect()
}
