//! Metadata of a vector file.

use crate::calibration::Calibration;
use crate::coherence::CoherenceBand;
use crate::trait_pack::is_plain_name;
use crate::vector_file::VectorFileError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use trimtab_engine::Layer;
use ts_rs::TS;

/// Metadata text longer than this is not read.
const MAX_METADATA_CHARS: usize = 1 << 20;
const FORMAT: &str = "trimtab-vector-1";

/// Layers and range in which pushing works and the text stays whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(optional_fields)]
pub struct Recommended {
    /// Ascending, at least one.
    pub layers: Vec<u32>,
    /// Coefficients, `min <= 0 <= max`.
    pub min: f32,
    pub max: f32,
    /// Coefficient at the cost at which places were compared: the push that verdicts are about, within `0..=max`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<f32>,
}

impl Recommended {
    /// Checks the layers against a table of `rows = L+1` rows, and the range.
    pub fn check(&self, rows: usize) -> Result<(), String> {
        if self.layers.is_empty() || !self.layers.is_sorted_by(|a, b| a < b) {
            return Err("layers must be ascending, and at least one".into());
        }
        if let Some(layer) = self.layers.iter().find(|&&layer| layer as usize >= rows) {
            return Err(format!(
                "layer {layer} does not exist: the vector has layers 0 to {}",
                rows - 1
            ));
        }
        if !(self.min.is_finite() && self.max.is_finite() && self.min <= 0.0 && self.max >= 0.0) {
            return Err(format!(
                "the range {} to {} must be finite and contain 0",
                self.min, self.max
            ));
        }
        Ok(())
    }

    pub fn layers(&self) -> Vec<Layer> {
        self.layers.iter().copied().map(Layer).collect()
    }
}

/// Metadata of a vector file. Everything may be missing: a file of one bare tensor loads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct VectorMetadata {
    /// `cheerful`
    pub name: Option<String>,
    /// `gloomy`
    pub opposite: Option<String>,
    pub description: Option<String>,
    pub licence: Option<String>,
    /// SHA-256 of the weight file that the activations came from.
    pub model_sha256: Option<String>,
    /// SHA-256 of the trait pack.
    pub trait_sha256: Option<String>,
    /// A sentence on how the vector was made.
    pub made: Option<String>,
    /// Number of the pack's instruction pairs, from the first on, that made the vector: the others can judge it.
    pub extraction_pairs: Option<usize>,
    /// Median norm of the neutral responses' residual at each layer, `[L+1]`: the unit of relative doses.
    pub neutral_norm: Option<Vec<f32>>,
    /// Likelihood of coherent answers of the model, from the same neutral answers.
    pub coherence_band: Option<CoherenceBand>,
    /// Calibrations by tensor name.
    pub calibration: BTreeMap<String, Calibration>,
    pub recommended: Option<Recommended>,
}

/// Reads the metadata of a file whose tensors have `rows = L+1` rows.
pub(crate) fn read_metadata(
    map: &HashMap<String, String>,
    rows: usize,
) -> Result<VectorMetadata, VectorFileError> {
    let text = |key: &'static str| -> Result<Option<String>, VectorFileError> {
        match map.get(key) {
            Some(value) if value.len() > MAX_METADATA_CHARS => Err(VectorFileError::Metadata {
                key,
                reason: format!("it is longer than {MAX_METADATA_CHARS} bytes"),
            }),
            value => Ok(value.cloned()),
        }
    };
    let refuse = |key| move |reason: String| VectorFileError::Metadata { key, reason };
    let calibration: BTreeMap<String, Calibration> =
        json(&text("calibration")?, "calibration")?.unwrap_or_default();
    for one in calibration.values() {
        one.check(rows).map_err(refuse("calibration"))?;
    }
    let recommended: Option<Recommended> = json(&text("recommended")?, "recommended")?;
    if let Some(recommended) = &recommended {
        recommended.check(rows).map_err(refuse("recommended"))?;
    }
    let neutral_norm: Option<Vec<f32>> = json(&text("neutral_norm")?, "neutral_norm")?;
    if let Some(norms) = &neutral_norm
        && (norms.len() != rows || !norms.iter().all(|norm| norm.is_finite() && *norm >= 0.0))
    {
        return Err(refuse("neutral_norm")(format!(
            "it must be {rows} numbers, none negative"
        )));
    }
    let coherence_band: Option<CoherenceBand> = json(&text("coherence_band")?, "coherence_band")?;
    if coherence_band.is_some_and(|band| !band.is_sound()) {
        return Err(refuse("coherence_band")(
            "its numbers must be finite, and low below high".into(),
        ));
    }
    Ok(VectorMetadata {
        name: text("trait")?.filter(|name| is_plain_name(name)),
        opposite: text("opposite")?,
        description: text("description")?,
        licence: text("licence")?,
        model_sha256: text("model_sha256")?,
        trait_sha256: text("trait_sha256")?,
        made: text("made")?,
        extraction_pairs: json(&text("extraction_pairs")?, "extraction_pairs")?,
        neutral_norm,
        coherence_band,
        calibration,
        recommended,
    })
}

fn json<T: serde::de::DeserializeOwned>(
    text: &Option<String>,
    key: &'static str,
) -> Result<Option<T>, VectorFileError> {
    text.as_deref()
        .map(|text| {
            serde_json::from_slice(text.as_bytes()).map_err(|error| VectorFileError::Metadata {
                key,
                reason: error.to_string(),
            })
        })
        .transpose()
}

/// The metadata as safetensors keeps it.
pub(crate) fn write_metadata(metadata: &VectorMetadata) -> HashMap<String, String> {
    let VectorMetadata {
        name,
        opposite,
        description,
        licence,
        model_sha256,
        trait_sha256,
        made,
        extraction_pairs,
        neutral_norm,
        coherence_band,
        calibration,
        recommended,
    } = metadata;
    let json_of = |value: Result<String, serde_json::Error>| value.ok();
    let calibration = (!calibration.is_empty()).then_some(calibration);
    let pairs = [
        ("format", Some(FORMAT.to_owned())),
        ("trait", name.clone()),
        ("opposite", opposite.clone()),
        ("description", description.clone()),
        ("licence", licence.clone()),
        ("model_sha256", model_sha256.clone()),
        ("trait_sha256", trait_sha256.clone()),
        ("made", made.clone()),
        (
            "extraction_pairs",
            extraction_pairs.map(|pairs| pairs.to_string()),
        ),
        (
            "neutral_norm",
            neutral_norm
                .as_ref()
                .and_then(|norms| json_of(serde_json::to_string(norms))),
        ),
        (
            "coherence_band",
            coherence_band
                .as_ref()
                .and_then(|band| json_of(serde_json::to_string(band))),
        ),
        (
            "calibration",
            calibration.and_then(|map| json_of(serde_json::to_string(map))),
        ),
        (
            "recommended",
            recommended
                .as_ref()
                .and_then(|value| json_of(serde_json::to_string(value))),
        ),
    ];
    pairs
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}
