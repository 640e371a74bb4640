//! Making a trait: its pack, the responses of its contrast set, and vectors of those that count.

use crate::failure::Failure;
use crate::jobs::{responses, vectors};
use crate::session::Session;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use trimtab_persona::contrast_record::{ContrastRecord, ResponseSettings, Thresholds};
use trimtab_persona::control_vector::ControlVector;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trait_report::{ContrastResponse, ExtractionReport};
use trimtab_persona::vector_file::VectorFile;
use ts_rs::TS;

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct WriteRequest {
    pub pack: TraitPack,
    pub settings: ResponseSettings,
    /// A set that was stopped, to go on with.
    #[serde(default, with = "serde_bytes")]
    #[ts(optional, type = "Uint8Array")]
    pub contrast: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
pub struct VectorRequest {
    pub pack: TraitPack,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub contrast: Vec<u8>,
    pub thresholds: Thresholds,
}

/// A contrast set: kept and given back as it is.
#[derive(Clone, Debug, Serialize, TS)]
#[ts(optional_fields)]
pub struct ContrastSet {
    /// Token ids, seeds, scores and what else is needed to go on or to make vectors again.
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub bytes: Vec<u8>,
    pub responses: Vec<ContrastResponse>,
    /// Whether every response is written and judged.
    pub complete: bool,
}

/// A contrast set that comes from a file.
#[derive(Clone, Debug, Serialize, TS)]
pub struct OpenedContrast {
    #[serde(flatten)]
    pub set: ContrastSet,
    pub pack: TraitPack,
    pub settings: ResponseSettings,
}

/// What making a vector came to, and the vector file.
#[derive(Clone, Debug, Serialize, TS)]
pub struct Extraction {
    #[serde(flatten)]
    pub report: ExtractionReport,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub vector: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum MakingPhase {
    Writing,
    Judging,
    Vector,
}

#[derive(Clone, Debug, Serialize, TS)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[ts(rename = "ResponseEvent")]
pub enum MakingEvent {
    /// A response as far as it is written; the same place again as it grows.
    Response {
        at: usize,
        response: ContrastResponse,
    },
    Progress {
        phase: MakingPhase,
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        seconds_left: Option<f64>,
    },
    /// What has been done so far, to go on from when this ends early.
    Checkpoint {
        #[serde(with = "serde_bytes")]
        #[ts(type = "Uint8Array")]
        contrast: Vec<u8>,
        /// Places of the responses that are in it; others are still growing.
        written: Vec<usize>,
    },
}

impl ContrastSet {
    pub fn of(record: &ContrastRecord) -> Result<Self, Failure> {
        Ok(Self {
            bytes: record.to_bytes()?,
            responses: ContrastResponse::all(record, &Thresholds::default()),
            complete: record.is_complete(),
        })
    }

    pub(crate) fn checkpoint(record: &ContrastRecord) -> Result<MakingEvent, Failure> {
        Ok(MakingEvent::Checkpoint {
            contrast: record.to_bytes()?,
            written: (0..record.responses.len())
                .filter(|&at| record.responses[at].is_some())
                .collect(),
        })
    }
}

/// A pack to edit, from templates.
pub fn draft_trait(
    name: &str,
    description: &str,
    opposite: &str,
    opposite_description: &str,
) -> Result<TraitPack, Failure> {
    Ok(TraitPack::from_sentences(
        name,
        description,
        opposite,
        opposite_description,
    )?)
}

/// Parses and checks a pack's JSON; an error begins with the field's name.
pub fn check_trait(json: &str) -> Result<TraitPack, Failure> {
    Ok(TraitPack::parse(json.as_bytes())?)
}

/// Opens a contrast set that comes from a file.
pub fn open_contrast(bytes: &[u8]) -> Result<OpenedContrast, Failure> {
    let record = ContrastRecord::parse(bytes)?;
    Ok(OpenedContrast {
        set: ContrastSet::of(&record)?,
        settings: record.settings,
        pack: record.pack,
    })
}

/// One tensor of a vector file (the mean difference where none is named) as a GGUF control vector for llama.cpp and repeng.
/// Its layers begin at our layer 2: layers 0 and 1 cannot be exported.
pub fn export_control_vector(vector: &[u8], tensor: Option<&str>) -> Result<Vec<u8>, Failure> {
    let file = VectorFile::parse(vector)?;
    let (_, table) = file.choose(tensor)?;
    // The vector file does not say which architecture; llama.cpp only warns about another.
    Ok(ControlVector::of(table, "llama")?.to_bytes())
}

impl Session {
    /// Writes and judges the responses, or goes on with a set that was stopped. A stop ends it with what is there.
    pub async fn write_responses(
        &mut self,
        request: WriteRequest,
        watch: &mut dyn Watch,
    ) -> Result<ContrastSet, Failure> {
        let mut record = match request.contrast {
            Some(bytes) => ContrastRecord::parse(&bytes)?.continued(
                &request.pack,
                &request.settings,
                &self.sha256,
            )?,
            None => ContrastRecord::new(
                request.pack,
                self.sha256.clone(),
                request.settings,
                self.neutral.clone(),
            )?,
        };
        responses::write(self, &mut record, watch).await?;
        if record.is_complete() {
            self.neutral = Some(record.neutral.clone());
        }
        ContrastSet::of(&record)
    }

    /// Vectors by every estimator from the responses that pass. Other thresholds write nothing anew.
    pub async fn make_vector(
        &mut self,
        request: VectorRequest,
        watch: &mut dyn Watch,
    ) -> Result<Extraction, Failure> {
        let record = ContrastRecord::parse(&request.contrast)?;
        let settings = record.settings;
        let record = record.continued(&request.pack, &settings, &self.sha256)?;
        let made = vectors::make(self, &record, request.thresholds, watch).await?;
        Ok(Extraction {
            report: made.report,
            vector: made.file.to_bytes()?,
        })
    }

    /// A GGUF control vector as a vector file for the loaded model. Layers that it leaves out are zero.
    pub fn import_control_vector(&self, gguf: &[u8]) -> Result<Vec<u8>, Failure> {
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        let control = ControlVector::parse(gguf)?;
        let missing = control.missing_layers(rows);
        let table = control.into_table(rows, width)?;
        let file = VectorFile::imported(table, "a GGUF control vector", &missing);
        Ok(file.to_bytes()?)
    }
}
