//! From a judged contrast set to vectors: which responses count, every estimator at every layer, how well each tells
//! the sides apart on held-out questions, and the vector file.

use crate::activations::{Average, Averages, Sample};
use crate::bootstrap::Estimate;
use crate::calibration::NeutralStatistics;
use crate::coherence::{CoherenceBand, TooFewNeutralAnswers};
use crate::contrast_record::{ContrastRecord, ResponseStanding, Thresholds};
use crate::estimators::{Estimator, LayerSamples};
use crate::extract::Side;
use crate::separation::{FOLDS, Scored, auc, fold_of};
use crate::trait_report::{ExtractionReport, LayerCurve};
use crate::trait_vector::{norm, sha256};
use crate::vector_file::{VectorFile, VectorMetadata};
use crate::witness::{chances, witness_auc};
use trimtab_engine::steering::PlanError;
use trimtab_engine::{Layer, LayerTable};

/// Fewest responses a side: a mean of one is that response.
pub const MIN_KEPT: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum VectorMakingError {
    #[error(
        "the contrast set is not finished: {missing} of {total} responses are not written and judged yet. Go on with it first"
    )]
    Unfinished { missing: usize, total: usize },
    #[error(
        "of the {total} {side} responses {kept} count, and {MIN_KEPT} are needed: {reasons}. Loosen the thresholds, or say more plainly in the instructions what the trait is"
    )]
    Dropped {
        side: &'static str,
        total: usize,
        kept: usize,
        reasons: String,
    },
    #[error("a threshold is not a usable number; the coherence band needs a width above 0")]
    Thresholds,
    #[error(transparent)]
    Band(#[from] TooFewNeutralAnswers),
}

/// The vectors, and how they were made.
#[derive(Clone, Debug)]
pub struct MadeVector {
    pub report: ExtractionReport,
    /// Separation by the second witness over all responses, with its interval; `None` where it cannot tell.
    pub witness_auc: Option<Estimate>,
    pub file: VectorFile,
}

/// Material of every vector: a judged contrast set, and averages of the residual stream in its responses.
#[derive(Debug)]
pub struct Ingredients<'a> {
    pub record: &'a ContrastRecord,
    pub thresholds: Thresholds,
    /// For each response, whether it counts, as [`sort`] says.
    pub kept: Vec<ResponseStanding>,
    /// For each response, its averages; `None` where it was not read.
    pub averages: &'a [Option<Averages>],
    /// `d`
    pub width: usize,
}

/// One layer's vectors, in the order of [`Estimator::ALL`].
#[derive(Debug)]
pub struct LayerEstimates {
    vectors: Vec<Option<Vec<f32>>>,
    auc: Vec<Option<Estimate>>,
}

/// `[L+1, d]` by estimator; zero at a layer where an estimator has no vector.
pub fn tables(layers: &[LayerEstimates], width: usize) -> Result<Vec<LayerTable>, PlanError> {
    (0..Estimator::ALL.len())
        .map(|estimator| {
            let values = layers.iter().flat_map(|layer| {
                let vector = layer.vectors[estimator].clone();
                vector.unwrap_or_else(|| vec![0.0; width])
            });
            LayerTable::new(values.collect(), width)
        })
        .collect()
}

impl Ingredients<'_> {
    fn samples(&self) -> Vec<Sample<'_>> {
        let kept = self.averages.iter().enumerate();
        kept.filter(|(at, _)| self.kept[*at] == ResponseStanding::Kept)
            .filter_map(|(at, averages)| {
                let place = self.record.settings.place(at);
                Some(Sample {
                    side: place.side,
                    pair: place.pair,
                    question: place.question,
                    averages: averages.as_ref()?,
                })
            })
            .collect()
    }

    /// Every estimator's vector at `layer`, and how well it tells held-out responses apart.
    pub fn estimate(&self, layer: usize) -> LayerEstimates {
        let samples = self.samples();
        let vectors = estimate_all(&samples, layer, self.width);
        let mut scored: Vec<Option<Vec<Scored>>> = vec![Some(Vec::new()); Estimator::ALL.len()];
        for fold in 0..FOLDS {
            let (asked, learned): (Vec<Sample<'_>>, Vec<Sample<'_>>) = samples
                .iter()
                .copied()
                .partition(|sample| fold_of(sample.question) == fold);
            let both = [Side::Positive, Side::Negative]
                .iter()
                .all(|side| learned.iter().any(|sample| sample.side == *side));
            if asked.is_empty() {
                continue;
            }
            let found = if both {
                estimate_all(&learned, layer, self.width)
            } else {
                vec![None; Estimator::ALL.len()]
            };
            for (scored, vector) in scored.iter_mut().zip(&found) {
                let Some(vector) = vector else {
                    *scored = None;
                    continue;
                };
                let scores = asked.iter().map(|sample| Scored {
                    question: sample.question,
                    positive: sample.side == Side::Positive,
                    score: dot(
                        vector,
                        sample.averages.row(Average::Response, layer, self.width),
                    ),
                });
                if let Some(all) = scored {
                    all.extend(scores);
                }
            }
        }
        LayerEstimates {
            vectors,
            auc: scored.iter().map(|one| auc(one.as_ref()?)).collect(),
        }
    }

    /// The vector file of all layers' estimates, `tables` of which `statistics` are about, and what is to be said of it.
    pub fn finish(
        self,
        layers: &[LayerEstimates],
        tables: Vec<LayerTable>,
        statistics: &NeutralStatistics,
    ) -> MadeVector {
        let neutral_norm = &statistics.neutral_norm;
        let rows = 0..layers.len();
        let curve = |name: &str, value: &dyn Fn(usize) -> f32| LayerCurve {
            name: name.to_owned(),
            values: rows.clone().map(value).collect(),
            low: None,
            high: None,
        };
        let (mut areas, mut norms, mut cosines) = (Vec::new(), Vec::new(), Vec::new());
        for (index, (estimator, table)) in Estimator::ALL.iter().zip(&tables).enumerate() {
            let name = estimator.name();
            let at = |layer: usize, of: fn(&Estimate) -> f64| {
                let area = layers[layer].auc[index].as_ref();
                area.map_or(f32::NAN, |area| of(area) as f32)
            };
            let all = |of: fn(&Estimate) -> f64| rows.clone().map(|layer| at(layer, of)).collect();
            areas.push(LayerCurve {
                low: Some(all(|area| area.low)),
                high: Some(all(|area| area.high)),
                ..curve(name, &|layer| at(layer, |area| area.value))
            });
            let row = |layer: usize| table.row(Layer(layer as u32));
            norms.push(curve(name, &|layer| match neutral_norm[layer] {
                neutral if neutral > 0.0 => norm(row(layer)) as f32 / neutral,
                _ => f32::NAN,
            }));
            let difference = |layer: usize| tables[0].row(Layer(layer as u32));
            cosines.push(curve(name, &|layer| cosine(row(layer), difference(layer))));
        }
        let (_, testimonies) = self.record.testimonies();
        let counts = counts(self.record, &self.kept);
        let names = Estimator::ALL.map(Estimator::name);
        let calibrations = statistics.calibrations.iter().cloned().zip(names);
        let metadata = VectorMetadata {
            neutral_norm: Some(neutral_norm.clone()),
            calibration: calibrations
                .map(|(one, name)| (name.to_owned(), one))
                .collect(),
            ..metadata(self.record, &self.thresholds, counts)
        };
        let witness_auc = witness_auc(&testimonies, &chances(&testimonies));
        let [kept_positive, kept_negative] = counts;
        MadeVector {
            report: ExtractionReport {
                kept: self.kept,
                kept_positive,
                kept_negative,
                witness_auc: witness_auc.map(|area| area.value),
                auc: areas,
                norms,
                cosines,
            },
            witness_auc,
            file: VectorFile {
                tensors: names
                    .iter()
                    .map(|name| (*name).to_owned())
                    .zip(tables)
                    .collect(),
                metadata,
            },
        }
    }
}

/// The responses that count under `thresholds`; fails where too few do on a side.
pub fn sort(
    record: &ContrastRecord,
    thresholds: &Thresholds,
) -> Result<Vec<ResponseStanding>, VectorMakingError> {
    let sound = thresholds.evidence.is_finite()
        && thresholds.deviations.is_finite()
        && thresholds.deviations > 0.0
        && thresholds.distinct_2.is_finite();
    if !sound {
        return Err(VectorMakingError::Thresholds);
    }
    let total = record.responses.len();
    let written = record.responses.iter().flatten().count();
    if written < total {
        let missing = total - written;
        return Err(VectorMakingError::Unfinished { missing, total });
    }
    let band: CoherenceBand = record.band(thresholds.criteria())?;
    let kept: Vec<Option<ResponseStanding>> = (0..total)
        .map(|at| record.kept(at, thresholds, &band))
        .collect();
    let missing = kept.iter().filter(|one| one.is_none()).count();
    let Some(kept) = kept.into_iter().collect::<Option<Vec<ResponseStanding>>>() else {
        return Err(VectorMakingError::Unfinished { missing, total });
    };
    for (side, name) in [(Side::Positive, "positive"), (Side::Negative, "negative")] {
        let own = || {
            let all = kept.iter().enumerate();
            all.filter(move |(at, _)| record.settings.place(*at).side == side)
                .map(|(_, kept)| *kept)
        };
        let count = |why: ResponseStanding| own().filter(|one| *one == why).count();
        if count(ResponseStanding::Kept) < MIN_KEPT {
            let reasons = [
                (ResponseStanding::WeakEvidence, "show too little of it"),
                (ResponseStanding::TooUnlikely, "are too unlikely a text"),
                (
                    ResponseStanding::TooLikely,
                    "are too likely a text, as a loop is",
                ),
                (ResponseStanding::Repetitive, "repeat themselves"),
                (ResponseStanding::Empty, "are empty or nearly so"),
            ]
            .into_iter()
            .filter(|(why, _)| count(*why) > 0)
            .map(|(why, words)| format!("{} {words}", count(why)))
            .collect::<Vec<_>>()
            .join(", ");
            return Err(VectorMakingError::Dropped {
                side: name,
                total: own().count(),
                kept: count(ResponseStanding::Kept),
                reasons,
            });
        }
    }
    Ok(kept)
}

fn counts(record: &ContrastRecord, kept: &[ResponseStanding]) -> [usize; 2] {
    [Side::Positive, Side::Negative].map(|side| {
        let own = |at: &usize| {
            record.settings.place(*at).side == side && kept[*at] == ResponseStanding::Kept
        };
        (0..kept.len()).filter(own).count()
    })
}

fn metadata(
    record: &ContrastRecord,
    thresholds: &Thresholds,
    counts: [usize; 2],
) -> VectorMetadata {
    let pack = &record.pack;
    let settings = &record.settings;
    let [positive, negative] = counts;
    VectorMetadata {
        name: Some(pack.name.clone()),
        opposite: Some(pack.opposite.clone()),
        description: Some(pack.description.clone()),
        licence: Some(pack.licence.clone()),
        model_sha256: Some(record.model_sha256.clone()),
        trait_sha256: serde_json::to_vec(pack).ok().map(|bytes| sha256(&bytes)),
        made: Some(format!(
            "trimtab {}: {positive} positive and {negative} negative of {} responses of at most {} tokens to the trait pack's extraction questions, temperature {}, top-p {}, seed {}; kept from evidence {}, within {} deviations of neutral likelihood, distinct-2 from {}",
            env!("CARGO_PKG_VERSION"),
            record.responses.len(),
            settings.max_tokens,
            settings.temperature,
            settings.top_p,
            settings.seed,
            thresholds.evidence,
            thresholds.deviations,
            thresholds.distinct_2,
        )),
        extraction_pairs: Some(settings.pairs),
        coherence_band: record.band(thresholds.criteria()).ok(),
        ..VectorMetadata::default()
    }
}

/// Every estimator's vector at one layer, in the order of [`Estimator::ALL`].
pub fn estimate_all(samples: &[Sample<'_>], layer: usize, width: usize) -> Vec<Option<Vec<f32>>> {
    let response = LayerSamples::of(samples, Average::Response, layer, width);
    Estimator::ALL
        .iter()
        .map(|estimator| {
            let found = match estimator.average() {
                Average::Response => response.estimate(*estimator),
                other => LayerSamples::of(samples, other, layer, width).estimate(*estimator),
            };
            let vector: Vec<f32> = found?.iter().map(|&value| value as f32).collect();
            vector
                .iter()
                .all(|value| value.is_finite())
                .then_some(vector)
        })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a) * f64::from(b))
        .sum()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    (dot(a, b) / (norm(a) * norm(b))) as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrast_record::tests::judged;

    #[test]
    fn a_side_without_responses_is_refused_with_its_reasons() {
        let mut record = judged();
        let strict = Thresholds {
            evidence: 50.0,
            ..Thresholds::default()
        };
        let error = sort(&record, &strict).unwrap_err().to_string();
        assert!(
            error.contains("of the 8 positive responses 0 count")
                && error.contains("8 show too little"),
            "{error}"
        );
        for at in (1..16).step_by(2) {
            record.responses[at].as_mut().unwrap().ids.clear();
        }
        let error = sort(&record, &Thresholds::default())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("negative") && error.contains("8 are empty"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_finished_or_no_number_is_refused() {
        let mut record = judged();
        let wrong = Thresholds {
            deviations: f64::NAN,
            ..Thresholds::default()
        };
        assert!(matches!(
            sort(&record, &wrong),
            Err(VectorMakingError::Thresholds)
        ));
        record.responses[3] = None;
        let error = sort(&record, &Thresholds::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("1 of 16"), "{error}");
    }
}
