//! Finding out whether to believe a trait: what it does and costs at several places (*sweep*), what meaningless directions do
//! in its place (*controls*), and whether readings of the prompt tell what the answer will be like (*predict*).

use crate::failure::Failure;
use crate::session::Session;
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, LayerTable, Scope};
use trimtab_persona::coherence::CoherenceCriteria;
use trimtab_persona::contrast::ContrastPair;
use trimtab_persona::contrast_record::Thresholds;
use trimtab_persona::controls::{ControlReport, cosines};
use trimtab_persona::sweep::{SweepReport, SweepRow};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::vector_file::Recommended;
use ts_rs::TS;

/// Settings that all three studies have; what is absent is as usual.
#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct StudySettings {
    /// Evaluation questions to ask (8).
    pub questions: Option<usize>,
    /// Tokens an answer (32).
    pub max_tokens: Option<usize>,
    /// Instruction pairs that evidence is measured with, of those that extraction did not see (at most 2).
    pub pairs: Option<usize>,
    /// Pairs that extraction used, from the first on (what the vector file says, else all).
    pub extraction_pairs: Option<usize>,
    /// Unsteered answers to each question (3): the unit of effects and the coherence band come from them.
    pub neutral_samples: Option<usize>,
    /// What counts as coherent.
    pub coherence: Option<CoherenceCriteria>,
    /// Which tokens are pushed (response).
    pub scope: Option<Scope>,
    /// Which of the vector file's tensors is meant (its default).
    pub tensor: Option<String>,
    /// Whether records of another study are refused, rather than passed over.
    pub refuse_other_records: Option<bool>,
}

/// Where and how far a sweep pushes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
#[ts(optional_fields)]
#[ts(rename = "SweepSettings")]
pub struct SweepPlan {
    /// Empty: four, at 37, 47, 57 and 67 % of the model's depth.
    pub layers: Vec<u32>,
    /// Relative doses; below 0: against the trait. Empty: 0.1, 0.2 and 0.3.
    pub doses: Vec<f64>,
    /// Also all layers at once, by increments.
    pub all_layers: bool,
    /// Every layer, all layers at once, doses on both sides, every question and every unseen pair: hours.
    pub thorough: Option<bool>,
    #[serde(flatten)]
    pub study: StudySettings,
}

/// The trait and the vector that a study is about, and what an earlier run of it left behind.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct Subject {
    pub pack: TraitPack,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub vector: Vec<u8>,
    /// From an earlier [`StudyEvent::Records`].
    #[serde(default, with = "serde_bytes")]
    #[ts(optional, type = "Uint8Array")]
    pub records: Option<Vec<u8>>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
pub struct SweepRequest {
    #[serde(flatten)]
    pub subject: Subject,
    pub settings: SweepPlan,
}

/// A sweep, and the vector file with its recommendation in it.
#[derive(Clone, Debug, Serialize, TS)]
#[ts(rename = "Sweep")]
pub struct Swept {
    #[serde(flatten)]
    pub report: SweepReport,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub vector: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct ControlRequest {
    #[serde(flatten)]
    pub subject: Subject,
    /// The responses that made the vector; without them there are no shuffled labels.
    #[serde(default, with = "serde_bytes")]
    #[ts(optional, type = "Uint8Array")]
    pub contrast: Option<Vec<u8>>,
    /// The same where the vector was made from given conversations.
    pub conversations: Option<Vec<ContrastPair>>,
    /// Those that the vector was made with.
    pub thresholds: Option<Thresholds>,
    /// The first one that the vector file recommends.
    pub layer: Option<u32>,
    /// Relative, above 0; the push that the vector file calls usual, else the end of its range.
    pub dose: Option<f64>,
    /// The files of other traits' vectors, and their names; all of the session's.
    pub others: Option<Vec<OtherVector>>,
    /// A meaningless direction to judge in the vector's place: the verdict has to deny it.
    pub stand_in: Option<StandIn>,
    #[serde(flatten)]
    pub study: StudySettings,
}

/// A direction that is not the trait's, as long as the vector at every layer; two kinds by seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "kebab-case")]
pub enum StandIn {
    /// Shuffled labels of the vector's own responses. Controls use the seeds below [`SHUFFLED`].
    Shuffled(u32),
    /// Isotropic. Controls use the seeds below [`RANDOM`].
    Random(u32),
    /// Another trait's vector, of that name.
    Other(String),
}

/// Another trait's vector, to compare with.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(optional_fields)]
pub struct OtherVector {
    pub name: String,
    /// Which of the file's tensors is meant (its default).
    pub tensor: Option<String>,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub vector: Vec<u8>,
}

/// What controls came to, and the vector file with its range opened against the trait as far as the flipped push left the
/// text whole.
#[derive(Clone, Debug, Serialize, TS)]
#[ts(optional_fields)]
#[ts(rename = "Controls")]
pub struct Controlled {
    #[serde(flatten)]
    pub report: ControlReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended: Option<Recommended>,
    #[serde(with = "serde_bytes")]
    #[ts(type = "Uint8Array")]
    pub vector: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(optional_fields)]
pub struct PredictRequest {
    #[serde(flatten)]
    pub subject: Subject,
    /// The layer that is read: the first one that the vector file recommends, or one a little past the middle.
    pub layer: Option<u32>,
    #[serde(flatten)]
    pub study: StudySettings,
}

/// Cosines between all traits of the session, `[n, n]`.
#[derive(Clone, Debug, Serialize, TS)]
pub struct TraitCosines {
    pub layer: u32,
    pub names: Vec<String>,
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub values: Vec<f32>,
}

/// The stage of a study: its answers are written, then measured; in `Reading`, the responses that made the vector are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum StudyPhase {
    Reading,
    Writing,
    Measuring,
}

#[derive(Clone, Debug, Serialize, TS)]
#[serde(
    tag = "kind",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[ts(optional_fields)]
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, on its way to be converted"
)]
pub enum StudyEvent {
    /// All answers are written before the first is measured; `reading` counts responses of the contrast set instead.
    Progress {
        phase: StudyPhase,
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        seconds_left: Option<f64>,
    },
    /// A setting as far as its answers are measured; the same setting again as more of them are.
    Row { row: SweepRow },
    /// What has been done so far. Given to the same study later, it goes on from there.
    Records {
        #[serde(with = "serde_bytes")]
        #[ts(type = "Uint8Array")]
        records: Vec<u8>,
    },
}

impl Session {
    /// Cosines between all traits of the session, at `layer` or the first trait's recommended one.
    pub fn compare(&self, layer: Option<u32>) -> Result<TraitCosines, Failure> {
        let vectors = self.vectors();
        let usual = vectors
            .first()
            .and_then(|vector| vector.recommended.as_ref()?.layers.first().copied());
        let layer = layer.or(usual).unwrap_or(0);
        self.check_layer(layer)?;
        let tables: Vec<&LayerTable> = vectors.iter().map(|vector| &vector.table).collect();
        Ok(TraitCosines {
            layer,
            names: vectors.iter().map(|vector| vector.name.clone()).collect(),
            values: cosines(&tables, Layer(layer)),
        })
    }

    pub(crate) fn check_layer(&self, layer: u32) -> Result<(), Failure> {
        if (layer as usize) < self.engine.layer_rows() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "layer {layer} does not exist: this model has layers 0 to {}",
            self.engine.last_layer().0
        )))
    }
}
