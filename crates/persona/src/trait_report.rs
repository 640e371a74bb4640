//! Reports on traits: how a trait was made, what it does and costs, and the evidence against it. A report lies with a ready-made
//! vector and shown by the page.

use crate::coherence::{Coherence, CoherenceBand};
use crate::contrast_record::{ContrastRecord, ResponseSettings, ResponseStanding, Thresholds};
use crate::controls::ControlReport;
use crate::extract::Side;
use crate::prediction::PredictionReport;
use crate::sweep::SweepReport;
use crate::trait_pack::TraitPack;
use crate::witness::chances;
use serde::{Deserialize, Serialize};
use trimtab_engine::TokenId;
use ts_rs::TS;

/// Everything that is known about a trait; null where nothing was found out yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct TraitReport {
    pub pack: TraitPack,
    /// Name for people.
    pub made: String,
    pub model_sha256: String,
    pub settings: ResponseSettings,
    pub thresholds: Thresholds,
    pub responses: Vec<ContrastResponse>,
    pub extraction: ExtractionReport,
    pub sweep: Option<SweepReport>,
    pub controls: Option<ControlReport>,
    pub prediction: Option<PredictionReport>,
}

/// A response of a contrast set. Scores are null until it has been judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct ContrastResponse {
    pub pair: usize,
    pub question: usize,
    /// 1 or −1.
    #[ts(type = "1 | -1")]
    pub side: i8,
    pub text: String,
    pub tokens: usize,
    /// Cross-fitted: by the pairs that did not make it, minus a neutral answer's to the same question.
    pub evidence: Option<f64>,
    /// The second witness: chance of the positive side by its words alone, from questions other than its own.
    pub witness: Option<f64>,
    pub coherence: Option<Coherence>,
}

/// The result of making a vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ExtractionReport {
    /// For each response, the reason why it counts or does not.
    pub kept: Vec<ResponseStanding>,
    pub kept_positive: usize,
    pub kept_negative: usize,
    /// Area under the curve with which the second witness tells the sides apart on held-out questions.
    #[serde(with = "crate::json::number")]
    #[ts(type = "number")]
    pub witness_auc: Option<f64>,
    /// Areas under the curve with which each estimator tells held-out responses apart, the mean difference first.
    pub auc: Vec<LayerCurve>,
    /// Length over the residual's median length in neutral answers, by estimator.
    pub norms: Vec<LayerCurve>,
    /// Cosine with the mean difference, by estimator.
    pub cosines: Vec<LayerCurve>,
}

/// One number for each layer, `[L+1]`, NaN where there is none; `low` and `high` where there is an interval (95 %).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
pub struct LayerCurve {
    pub name: String,
    #[serde(with = "crate::json::floats")]
    #[ts(type = "Float32Array")]
    pub values: Vec<f32>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::json::floats::optional"
    )]
    #[ts(optional, type = "Float32Array")]
    pub low: Option<Vec<f32>>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "crate::json::floats::optional"
    )]
    #[ts(optional, type = "Float32Array")]
    pub high: Option<Vec<f32>>,
}

impl TraitReport {
    /// A report on a vector that was just made; nothing is known yet of what it does. `made` says how it was made.
    pub fn new(
        record: &ContrastRecord,
        thresholds: Thresholds,
        made: String,
        extraction: ExtractionReport,
    ) -> Self {
        Self {
            pack: record.pack.clone(),
            made,
            model_sha256: record.model_sha256.clone(),
            settings: record.settings,
            thresholds,
            responses: ContrastResponse::all(record, &thresholds),
            extraction,
            sweep: None,
            controls: None,
            prediction: None,
        }
    }
}

impl ContrastResponse {
    /// Every response that was written, with its scores.
    pub fn all(record: &ContrastRecord, thresholds: &Thresholds) -> Vec<Self> {
        let (numbers, testimonies) = record.testimonies();
        let mut witness = vec![None; record.responses.len()];
        for (at, chance) in numbers.into_iter().zip(chances(&testimonies)) {
            witness[at] = chance;
        }
        let band = record.band(thresholds.criteria()).ok();
        let one = |at| {
            Self::of(record, at, band.as_ref()).map(|response| Self {
                witness: witness[at],
                ..response
            })
        };
        (0..record.responses.len()).filter_map(one).collect()
    }

    /// Response `at` without its witness; `None` where it is not written yet.
    pub fn of(record: &ContrastRecord, at: usize, band: Option<&CoherenceBand>) -> Option<Self> {
        let response = record.responses.get(at)?.as_ref()?;
        let tokens = response.tokens();
        let logprob = response.logprob.unwrap_or(f64::NAN);
        Some(Self {
            evidence: record.evidence(at),
            coherence: band.map(|band| band.judge(logprob, &tokens)),
            ..Self::growing(record, at, response.text.clone(), &tokens)
        })
    }

    /// Response `at` as far as it is written.
    pub fn growing(record: &ContrastRecord, at: usize, text: String, tokens: &[TokenId]) -> Self {
        let place = record.settings.place(at);
        Self {
            pair: place.pair,
            question: place.question,
            side: if place.side == Side::Positive { 1 } else { -1 },
            text,
            tokens: tokens.len(),
            evidence: None,
            witness: None,
            coherence: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_made_reports_open_also_those_of_earlier_versions() {
        let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/vectors");
        let mut opened = 0;
        for entry in std::fs::read_dir(vectors).unwrap() {
            let path = entry.unwrap().path();
            if !path.to_str().unwrap().ends_with(".report.json") {
                continue;
            }
            let json = std::fs::read(&path).unwrap();
            let report: TraitReport = serde_json::from_slice(&json)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let sweep = report.sweep.as_ref().unwrap();
            assert!(sweep.rows.iter().all(|row| !row.outcome.texts.is_empty()));
            assert!(
                sweep
                    .rows
                    .iter()
                    .any(|row| row.outcome.deviations().is_some())
            );
            let controls = report.controls.as_ref().unwrap();
            // The vector and its flip, 19 shuffled labels, 5 random directions, 11 other traits; fewer in the first test.
            let rows = if controls.test.is_some() { 37 } else { 16 };
            assert_eq!(controls.rows.len(), rows);
            assert!(report.prediction.as_ref().unwrap().pooled.r.is_some());
            // What they said is said again.
            let before: serde_json::Value = serde_json::from_slice(&json).unwrap();
            let after = serde_json::to_value(&report).unwrap();
            assert_same(&before, &after);
            opened += 1;
        }
        assert!(opened > 3);
    }

    /// Everything of `before` is in `after`; numbers may differ by the last bits of f32.
    fn assert_same(before: &serde_json::Value, after: &serde_json::Value) {
        use serde_json::Value;
        match (before, after) {
            (Value::Object(before), Value::Object(after)) => before
                .iter()
                .for_each(|(key, value)| assert_same(value, &after[key])),
            (Value::Array(before), Value::Array(after)) => {
                assert_eq!(before.len(), after.len());
                let pairs = before.iter().zip(after);
                pairs.for_each(|(before, after)| assert_same(before, after));
            }
            (Value::Number(before), Value::Number(after)) => {
                let (before, after) = (before.as_f64().unwrap(), after.as_f64().unwrap());
                assert!((before - after).abs() <= 1e-6 * before.abs());
            }
            _ => assert_eq!(before, after),
        }
    }
}
