//! Finding out whether to believe a trait: what it does and costs at several places (*sweep*), what meaningless directions do
//! in its place (*controls*), and whether readings of the prompt tell what the answer will be like (*predict*).

use crate::failure::Failure;
use crate::jobs::averages::averages_of;
use crate::jobs::trials::{self, Study};
use crate::session::Session;
use crate::verbs::Event;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, LayerTable, Scope};
use trimtab_persona::activations::{Average, Averages};
use trimtab_persona::coherence::CoherenceCriteria;
use trimtab_persona::contrast_record::{ContrastRecord, Kept, Thresholds};
use trimtab_persona::control::LabelledMean;
use trimtab_persona::controls::{ControlReport, ControlSettings, Controls, cosines};
use trimtab_persona::plan::relative_dose;
use trimtab_persona::prediction::{Prediction, PredictionReport, PredictionSettings};
use trimtab_persona::push::Place;
use trimtab_persona::recommendation::RangeCriteria;
use trimtab_persona::sweep::{Material, Sweep, SweepReport, SweepRow, SweepSettings};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::{TrialRecords, TrialSetup};
use trimtab_persona::vector_file::{Recommended, TraitVector, VectorFile};
use trimtab_persona::vector_making::sort;
use ts_rs::TS;

/// What all three studies are asked alike; what is absent is as usual.
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
    /// Those that the vector was made with.
    pub thresholds: Option<Thresholds>,
    /// The first one that the vector file recommends.
    pub layer: Option<u32>,
    /// Relative, above 0; the end of the range that the vector file recommends.
    pub dose: Option<f64>,
    /// The file of another trait's vector, and its name; one of the session's.
    pub other: Option<OtherVector>,
    #[serde(flatten)]
    pub study: StudySettings,
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

/// What is being done to the answers (or, in `Reading`, to the responses that made the vector).
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

/// A vector file, its default direction, and the pairs that made it.
struct Studied {
    file: VectorFile,
    vector: TraitVector,
    seen: Vec<usize>,
}

impl Studied {
    fn open(session: &Session, subject: &Subject, asked: &StudySettings) -> Result<Self, Failure> {
        let pack = &subject.pack;
        pack.check()?;
        if [asked.questions, asked.max_tokens, asked.pairs].contains(&Some(0)) {
            return Err(Failure::usage(
                "questions, tokens an answer and pairs must be at least 1",
            ));
        }
        let file = VectorFile::parse(&subject.vector)?;
        // All of them where the file does not say.
        let pairs = asked.extraction_pairs.or(file.metadata.extraction_pairs);
        let pairs = pairs.unwrap_or(usize::MAX).min(pack.instructions.len());
        Ok(Self {
            vector: session.vector_of(&pack.name, &file, asked.tensor.as_deref())?,
            file,
            seen: (0..pairs).collect(),
        })
    }

    fn recommended_layer(&self) -> Option<u32> {
        let recommended = self.vector.recommended.as_ref();
        recommended.and_then(|found| found.layers.first().copied())
    }
}

impl StudySettings {
    /// `usual` with what was asked for in place of it; `first` is the first question's number.
    fn material(
        &self,
        pack: &TraitPack,
        seen: &[usize],
        first: usize,
        usual: &Material,
    ) -> Material {
        Material::of(
            pack,
            seen,
            self.pairs.unwrap_or(usual.pairs.len()),
            first,
            self.questions.unwrap_or(usual.questions.len()),
        )
    }

    fn study(
        &self,
        session: &Session,
        setup: &TrialSetup,
        reading: Option<&str>,
        records: Option<Vec<u8>>,
    ) -> Study {
        Study {
            key: setup.key(&session.sha256, reading),
            setup: setup.clone(),
            kept: records,
            refuse_others: self.refuse_other_records.unwrap_or(false),
        }
    }
}

fn no_row(_: &TrialRecords, _: usize) -> Option<SweepRow> {
    None
}

impl Session {
    /// What a vector does to its trait at several layers and doses, and what it costs.
    pub async fn sweep(
        &mut self,
        request: SweepRequest,
        watch: &mut dyn Watch,
    ) -> Result<Swept, Failure> {
        let SweepRequest {
            subject,
            settings: plan,
        } = request;
        let asked = &plan.study;
        let Studied {
            mut file,
            vector,
            seen,
        } = Studied::open(self, &subject, asked)?;
        let pack = subject.pack;
        let rows = self.engine.layer_rows();
        let usual = match plan.thorough {
            Some(true) => SweepSettings::thorough(&pack, &seen, rows),
            _ => SweepSettings::brief(&pack, &seen, rows),
        };
        let mut settings = SweepSettings {
            material: asked.material(&pack, &seen, 0, &usual.material),
            neutral_samples: asked.neutral_samples.unwrap_or(usual.neutral_samples),
            scope: asked.scope.unwrap_or(usual.scope),
            coherence: asked.coherence.unwrap_or(usual.coherence),
            ..usual
        };
        if let Some(tokens) = asked.max_tokens {
            settings.answers.max_tokens = tokens;
        }
        if !plan.layers.is_empty() {
            settings.places = plan.layers.iter().copied().map(Place::Layer).collect();
        }
        if plan.all_layers && !settings.places.contains(&Place::AllLayers) {
            settings.places.push(Place::AllLayers);
        }
        if !plan.doses.is_empty() {
            let sound = |dose: &f64| dose.is_finite() && *dose != 0.0;
            if !plan.doses.iter().all(sound) {
                return Err(Failure::usage(
                    "a dose is a number other than 0; the unsteered answers are always there",
                ));
            }
            settings.doses = plan.doses.clone();
        }
        let (sweep, setup) = Sweep::new(&pack, &vector, settings)?;
        let study = asked.study(self, &setup, None, subject.records);
        let row_of = |records: &TrialRecords, trial: usize| sweep.row(&setup, records, trial);
        let records = trials::run(&mut self.engine, &self.chat, &study, &row_of, watch).await?;
        let report = sweep.report(&setup, &records)?;
        // Where nothing is recommended, what an earlier sweep or another vector had recommended must not stay.
        let found = report.recommended.as_ref();
        file.metadata.recommended = found.map(|found| found.range.clone());
        Ok(Swept {
            report,
            vector: file.to_bytes()?,
        })
    }

    /// What meaningless directions of the same length do where a vector is recommended.
    pub async fn controls(
        &mut self,
        request: ControlRequest,
        watch: &mut dyn Watch,
    ) -> Result<Controlled, Failure> {
        let asked = &request.study;
        let mut studied = Studied::open(self, &request.subject, asked)?;
        let pack = &request.subject.pack;
        let vector = &studied.vector;
        let layer = request
            .layer
            .or(studied.recommended_layer())
            .ok_or_else(|| {
                Failure::usage("the vector recommends no layer and range yet; sweep it first")
            })?;
        self.check_layer(layer)?;
        let recommended = vector.recommended.clone();
        let whole = recommended
            .as_ref()
            .and_then(|found| relative_dose(vector, found.max, &[Layer(layer)]))
            .map(f64::from);
        let dose = request.dose.or(whole).ok_or_else(|| {
            Failure::usage("the vector recommends no range yet; sweep it first, or give a dose")
        })?;
        if !(dose.is_finite() && dose > 0.0) {
            return Err(Failure::usage(
                "the dose must be above 0; where the vector's range ends at 0, sweep it first",
            ));
        }
        let usual = ControlSettings::brief(pack, &studied.seen, layer, dose);
        let first = usual.material.questions.first().copied().unwrap_or(0);
        let settings = ControlSettings {
            material: asked.material(pack, &studied.seen, first, &usual.material),
            max_tokens: asked.max_tokens.unwrap_or(usual.max_tokens),
            neutral_samples: asked.neutral_samples.unwrap_or(usual.neutral_samples),
            scope: asked.scope.unwrap_or(usual.scope),
            coherence: asked.coherence.unwrap_or(usual.coherence),
            whole_up_to: whole.filter(|_| request.layer.is_none()),
            ..usual
        };
        let other = match &request.other {
            Some(other) => {
                let file = VectorFile::parse(&other.vector)?;
                Some(self.vector_of(&other.name, &file, other.tensor.as_deref())?)
            }
            None => self
                .vectors()
                .iter()
                .find(|other| other.name != pack.name && other.hash != vector.hash)
                .cloned(),
        };
        let thresholds = request.thresholds.unwrap_or_default();
        let made = match &request.contrast {
            None => Controls::new(pack, vector, &[], other.as_ref(), settings),
            Some(contrast) => {
                let record = ContrastRecord::parse(contrast)?;
                record.is_of(&self.sha256)?;
                let averages = averages_of(self, &record, &thresholds, watch).await?;
                let means = means_of(&record, &thresholds, &averages)?;
                let made = Controls::new(pack, vector, &means, other.as_ref(), settings);
                self.averages.keep(&record, averages);
                made
            }
        };
        let (controls, setup) = made?;
        let study = asked.study(self, &setup, None, request.subject.records.clone());
        let records = trials::run(&mut self.engine, &self.chat, &study, &no_row, watch).await?;
        let report = controls.report(&setup, &records)?;
        let opened = recommended.map(|before| {
            let max_incoherent = RangeCriteria::default().max_incoherent;
            controls.with_flipped_side(&report, &before, max_incoherent)
        });
        studied.file.metadata.recommended.clone_from(&opened);
        Ok(Controlled {
            report,
            recommended: opened,
            vector: studied.file.to_bytes()?,
        })
    }

    /// Whether the reading of the last prompt token tells what the answer will be like.
    pub async fn predict(
        &mut self,
        request: PredictRequest,
        watch: &mut dyn Watch,
    ) -> Result<PredictionReport, Failure> {
        let asked = &request.study;
        let studied = Studied::open(self, &request.subject, asked)?;
        let pack = &request.subject.pack;
        let layer = request.layer.or(studied.recommended_layer());
        let layer = layer.unwrap_or_else(|| self.usual_layer());
        self.check_layer(layer)?;
        let Studied { vector, seen, .. } = studied;
        let mut settings =
            PredictionSettings::brief(pack, &seen, Layer(layer), asked.questions.unwrap_or(8));
        settings.coherence = asked.coherence.unwrap_or(settings.coherence);
        settings.neutral_samples = asked.neutral_samples.unwrap_or(settings.neutral_samples);
        if let Some(tokens) = asked.max_tokens {
            settings.answers.max_tokens = tokens;
        }
        let Some((prediction, setup)) = Prediction::new(pack, 0, settings) else {
            return Err(Failure::usage("the trait pack has no instruction pairs"));
        };
        let study = asked.study(
            self,
            &setup,
            Some(&vector.hash),
            request.subject.records.clone(),
        );
        // The session's own directions come back whatever happens.
        let table = std::slice::from_ref(&vector.table);
        self.engine.set_directions(table)?;
        let records = trials::run(&mut self.engine, &self.chat, &study, &no_row, watch).await;
        self.restore_directions()?;
        let calibration = vector.calibration.as_ref();
        Ok(prediction.report(&pack.name, calibration, &setup, &records?)?)
    }

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

    fn check_layer(&self, layer: u32) -> Result<(), Failure> {
        if (layer as usize) < self.engine.layer_rows() {
            return Ok(());
        }
        Err(Failure::usage(format!(
            "layer {layer} does not exist: this model has layers 0 to {}",
            self.engine.last_layer().0
        )))
    }
}

/// The response-averaged residuals that made the vector, with their labels.
fn means_of<'a>(
    record: &ContrastRecord,
    thresholds: &Thresholds,
    averages: &'a [Option<Averages>],
) -> Result<Vec<LabelledMean<'a>>, Failure> {
    let kept = sort(record, thresholds)?;
    let made_it = kept.iter().zip(averages).enumerate();
    Ok(made_it
        .filter(|(_, (kept, _))| **kept == Kept::Kept)
        .filter_map(|(at, (_, averages))| {
            let place = record.settings.place(at);
            Some(LabelledMean {
                side: place.side,
                question: place.question,
                values: averages.as_ref()?.table(Average::Response),
            })
        })
        .collect())
}

/// How far the reading of responses is.
pub(crate) fn reading_event(done: usize, total: usize) -> Event {
    Event::Study(StudyEvent::Progress {
        phase: StudyPhase::Reading,
        done,
        total,
        seconds_left: None,
    })
}
