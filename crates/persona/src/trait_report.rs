//! What is known about a trait: how it was made, what it does and costs, and the evidence against it. Kept beside a ready-made
//! vector and shown by the page, whose types are `TraitReport` and its parts in `web/src/engine/traits_protocol.ts`.
//! A number that is not known is `null`. Evidence is in standard deviations of neutral answers' evidence.

use crate::bootstrap::Estimate;
use crate::calibration::{Calibration, LayerStatistics};
use crate::coherence::Coherence;
use crate::contrast_record::{ContrastRecord, Kept, ResponseSettings, Thresholds};
use crate::controls::{ControlReport, Direction};
use crate::extract::Side;
use crate::prediction::PredictionReport;
use crate::push::Place;
use crate::sweep::SweepReport;
use crate::trait_pack::TraitPack;
use crate::vector_making::{LayerCurve, MadeVector};
use crate::vector_metadata::Recommended;
use crate::verdict::Ruling;
use crate::witness::chances;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraitReport {
    pub pack: TraitPack,
    /// For people.
    pub made: String,
    pub model_sha256: String,
    pub settings: ResponseSettings,
    pub thresholds: Thresholds,
    pub responses: Vec<ReportedResponse>,
    pub extraction: ReportedExtraction,
    pub sweep: Option<ReportedSweep>,
    pub controls: Option<ReportedControls>,
    pub prediction: Option<ReportedPrediction>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedResponse {
    pub pair: usize,
    pub question: usize,
    /// 1 or −1.
    pub side: i8,
    pub text: String,
    pub tokens: usize,
    pub evidence: Option<f64>,
    pub witness: Option<f64>,
    pub coherence: Option<Coherence>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedExtraction {
    /// By response.
    pub kept: Vec<Kept>,
    pub kept_positive: usize,
    pub kept_negative: usize,
    pub witness_auc: Option<f64>,
    pub auc: Vec<ReportedCurve>,
    pub norms: Vec<ReportedCurve>,
    pub cosines: Vec<ReportedCurve>,
}

/// One number for each layer, `[L+1]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedCurve {
    pub name: String,
    pub values: Vec<Option<f32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Vec<Option<f32>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Vec<Option<f32>>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedSweep {
    pub rows: Vec<ReportedSweepRow>,
    /// Rows tell evidence above the unsteered answers'.
    pub neutral: f64,
    pub recommended: Option<ReportedRecommendation>,
    pub sentence: String,
    pub caveats: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedRecommendation {
    #[serde(flatten)]
    pub range: Recommended,
    pub sentence: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportedSweepRow {
    pub layers: Vec<u32>,
    pub all_layers: bool,
    pub dose: f64,
    pub coefficient: f32,
    #[serde(flatten)]
    pub evidence: ReportedEvidence,
    pub answers: usize,
    /// A share.
    pub incoherent: f64,
    pub perplexity: Option<f64>,
    pub kl: Option<f64>,
    pub distinct2: f64,
    pub texts: Vec<ReportedText>,
}

/// With its 95 % interval over questions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedEvidence {
    pub evidence: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedText {
    pub question: String,
    pub text: String,
    pub coherence: Coherence,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedControls {
    pub rows: Vec<ReportedControlRow>,
    pub verdict: Ruling,
    pub sentence: String,
    pub caveats: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedControlRow {
    pub kind: String,
    pub name: String,
    #[serde(flatten)]
    pub evidence: ReportedEvidence,
    pub incoherent: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedPrediction {
    pub layer: u32,
    /// Whether readings are in deviations of neutral prompt tokens, from their mean; else they are `h_l · v̂_l`.
    #[serde(default)]
    pub calibrated: bool,
    /// Of coherent answers.
    pub points: Vec<ReportedPoint>,
    pub pooled: ReportedCorrelation,
    pub within: ReportedCorrelation,
    pub sentence: String,
    pub caveats: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedPoint {
    /// Empty: the template's own.
    pub system: String,
    pub question: String,
    /// Of the last prompt token.
    pub reading: f64,
    pub evidence: f64,
}

/// Pearson's r with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedCorrelation {
    pub r: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl TraitReport {
    /// What making the vector came to; nothing is known yet of what it does.
    pub fn new(record: &ContrastRecord, thresholds: Thresholds, vector: &MadeVector) -> Self {
        let [kept_positive, kept_negative] = vector.counts;
        let curves = |curves: &[LayerCurve]| curves.iter().map(ReportedCurve::of).collect();
        Self {
            pack: record.pack.clone(),
            made: vector.file.metadata.made.clone().unwrap_or_default(),
            model_sha256: record.model_sha256.clone(),
            settings: record.settings,
            thresholds,
            responses: responses(record, &thresholds),
            extraction: ReportedExtraction {
                kept: vector.kept.clone(),
                kept_positive,
                kept_negative,
                witness_auc: vector.witness_auc.map(|area| area.value),
                auc: curves(&vector.auc),
                norms: curves(&vector.norms),
                cosines: curves(&vector.cosines),
            },
            sweep: None,
            controls: None,
            prediction: None,
        }
    }
}

/// Every response that was written, with its scores.
fn responses(record: &ContrastRecord, thresholds: &Thresholds) -> Vec<ReportedResponse> {
    let (numbers, testimonies) = record.testimonies();
    let mut witness = vec![None; record.responses.len()];
    for (at, chance) in numbers.into_iter().zip(chances(&testimonies)) {
        witness[at] = chance;
    }
    let band = record.band(thresholds.criteria()).ok();
    let written = record.responses.iter().enumerate();
    written
        .filter_map(|(at, response)| {
            let response = response.as_ref()?;
            let place = record.settings.place(at);
            let logprob = response.logprob.unwrap_or(f64::NAN);
            Some(ReportedResponse {
                pair: place.pair,
                question: place.question,
                side: if place.side == Side::Positive { 1 } else { -1 },
                text: response.text.clone(),
                tokens: response.ids.len(),
                evidence: record.evidence(at),
                witness: witness[at],
                coherence: band.map(|band| band.judge(logprob, &response.tokens())),
            })
        })
        .collect()
}

impl ReportedCurve {
    fn of(curve: &LayerCurve) -> Self {
        let known = |values: &[f32]| -> Vec<Option<f32>> {
            let values = values.iter().copied();
            values.map(|x| x.is_finite().then_some(x)).collect()
        };
        let (low, high) = curve
            .interval
            .as_ref()
            .map(|(low, high)| (known(low), known(high)))
            .unzip();
        Self {
            name: curve.name.to_owned(),
            values: known(&curve.values),
            low,
            high,
        }
    }
}

impl From<Option<Estimate>> for ReportedEvidence {
    fn from(found: Option<Estimate>) -> Self {
        Self {
            evidence: found.map(|found| found.value),
            low: found.map(|found| found.low),
            high: found.map(|found| found.high),
        }
    }
}

impl From<Option<Estimate>> for ReportedCorrelation {
    fn from(found: Option<Estimate>) -> Self {
        Self {
            r: found.map(|found| found.value),
            low: found.map(|found| found.low),
            high: found.map(|found| found.high),
        }
    }
}

impl ReportedSweep {
    /// `layer_rows` is L+1.
    pub fn of(report: &SweepReport, layer_rows: usize) -> Self {
        let rows = report.rows.iter().map(|row| {
            let place = row.setting.place;
            let layers = place.layers(layer_rows);
            let outcome = &row.outcome;
            ReportedSweepRow {
                layers: layers.iter().map(|layer| layer.0).collect(),
                all_layers: place == Place::AllLayers,
                dose: row.setting.dose,
                coefficient: row.setting.coefficient,
                evidence: outcome.deviations.into(),
                answers: outcome.answers,
                incoherent: outcome.incoherent_share,
                perplexity: outcome.perplexity,
                kl: outcome.kl,
                distinct2: outcome.distinct[1],
                texts: outcome
                    .judged
                    .iter()
                    .map(|answer| ReportedText {
                        question: answer.question.clone(),
                        text: answer.text.clone(),
                        coherence: answer.coherence,
                    })
                    .collect(),
            }
        });
        let found = report.recommendation.as_ref();
        Self {
            rows: rows.collect(),
            neutral: 0.0,
            recommended: found.map(|found| ReportedRecommendation {
                range: found.recommended.clone(),
                sentence: report.sentence.clone(),
            }),
            sentence: report.sentence.clone(),
            caveats: report.caveats.clone(),
        }
    }
}

impl From<&ControlReport> for ReportedControls {
    fn from(report: &ControlReport) -> Self {
        let rows = report.rows.iter().map(|row| {
            let (kind, name) = match &row.direction {
                Direction::Vector => ("vector", String::new()),
                Direction::Flipped => ("flipped", String::new()),
                Direction::Shuffled(seed) => ("shuffled", (seed + 1).to_string()),
                Direction::Random(seed) => ("random", (seed + 1).to_string()),
                Direction::Other(name) => ("other", name.clone()),
            };
            ReportedControlRow {
                kind: kind.to_owned(),
                name,
                evidence: row.outcome.deviations.into(),
                incoherent: row.outcome.incoherent_share,
            }
        });
        Self {
            rows: rows.collect(),
            verdict: report.verdict.ruling,
            sentence: report.verdict.sentence.clone(),
            caveats: report.caveats.clone(),
        }
    }
}

impl ReportedPrediction {
    /// Readings are calibrated where the vector is.
    pub fn of(report: &PredictionReport, calibration: Option<&Calibration>) -> Self {
        let layer = report.layer as usize;
        let ordinary = calibration.and_then(|calibration| {
            let LayerStatistics { mean, deviation } = &calibration.prompt;
            let (mean, deviation) = (*mean.get(layer)?, *deviation.get(layer)?);
            (deviation > 0.0).then_some((f64::from(mean), f64::from(deviation)))
        });
        let system = |grade| {
            let own = report.systems.iter().find(|(own, _)| *own == grade);
            own.and_then(|(_, system)| system.clone())
                .unwrap_or_default()
        };
        let coherent = report.points.iter().filter(|point| point.coherent);
        Self {
            layer: report.layer,
            calibrated: ordinary.is_some(),
            points: coherent
                .map(|point| ReportedPoint {
                    system: system(point.grade),
                    question: report
                        .questions
                        .get(point.question)
                        .cloned()
                        .unwrap_or_default(),
                    reading: match ordinary {
                        Some((mean, deviation)) => (point.reading - mean) / deviation,
                        None => point.reading,
                    },
                    evidence: point.evidence,
                })
                .collect(),
            pooled: report.pooled.into(),
            within: report.within.into(),
            sentence: report.sentence.clone(),
            caveats: report.caveats.clone(),
        }
    }
}
