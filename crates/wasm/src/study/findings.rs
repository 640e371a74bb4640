//! What studies tell the page. The other side of these types is `web/src/engine/traits_protocol.ts`.

use js_sys::{Float32Array, Uint8Array};
use serde::Serialize;
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::coherence::Coherence;
use trimtab_persona::controls::{ControlReport, Direction};
use trimtab_persona::outcome::Outcome;
use trimtab_persona::push::Place;
use trimtab_persona::sweep::SweepRow;
use trimtab_persona::vector_file::Recommended;
use trimtab_persona::verdict::Ruling;

#[derive(Serialize)]
pub struct Text<'a> {
    pub question: &'a str,
    pub text: &'a str,
    pub coherence: Coherence,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row<'a> {
    pub layers: Vec<u32>,
    pub all_layers: bool,
    pub dose: f64,
    pub coefficient: f32,
    pub evidence: f64,
    pub low: f64,
    pub high: f64,
    pub answers: usize,
    pub incoherent: f64,
    pub perplexity: f64,
    pub kl: f64,
    pub distinct2: f64,
    pub texts: Vec<Text<'a>>,
}

/// What is being done to the answers (or, in `Reading`, to the responses that made the vector).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    Reading,
    Writing,
    Measuring,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StudyEvent<'a> {
    #[serde(rename_all = "camelCase")]
    Progress {
        phase: Phase,
        /// Answers, or responses.
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
    /// A setting as far as its answers are measured; the same setting again as more of them are.
    Row { row: Row<'a> },
    /// What has been done so far, to go on from.
    Records {
        #[serde(with = "serde_wasm_bindgen::preserve")]
        records: Uint8Array,
    },
}

#[derive(Serialize)]
pub struct Recommendation<'a> {
    pub layers: &'a [u32],
    pub min: f32,
    pub max: f32,
    pub sentence: &'a str,
}

#[derive(Serialize)]
pub struct SweepResult<'a> {
    pub rows: Vec<Row<'a>>,
    /// Rows tell evidence above the unsteered answers.
    pub neutral: f64,
    pub recommended: Option<Recommendation<'a>>,
    pub sentence: &'a str,
    pub caveats: &'a [String],
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub vector: Uint8Array,
}

#[derive(Serialize)]
pub struct ControlResultRow<'a> {
    pub kind: &'static str,
    /// Of another trait; empty otherwise.
    pub name: &'a str,
    pub evidence: f64,
    pub low: f64,
    pub high: f64,
    pub incoherent: f64,
}

#[derive(Serialize)]
pub struct ControlResult<'a> {
    pub rows: Vec<ControlResultRow<'a>>,
    pub verdict: Ruling,
    pub sentence: &'a str,
    pub caveats: &'a [String],
    pub recommended: Recommended,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub vector: Uint8Array,
}

/// NaN where there is too little to tell.
#[derive(Serialize)]
pub struct Correlation {
    pub r: f64,
    pub low: f64,
    pub high: f64,
}

impl From<Option<Estimate>> for Correlation {
    fn from(found: Option<Estimate>) -> Self {
        let [r, low, high] = numbers(found);
        Self { r, low, high }
    }
}

#[derive(Serialize)]
pub struct Point<'a> {
    pub system: &'a str,
    pub question: &'a str,
    pub reading: f64,
    pub evidence: f64,
}

#[derive(Serialize)]
pub struct PredictionResult<'a> {
    pub layer: u32,
    /// Readings are in deviations of neutral prompt tokens, rather than in the residual stream's own unit.
    pub calibrated: bool,
    pub points: Vec<Point<'a>>,
    pub pooled: Correlation,
    pub within: Correlation,
    pub sentence: &'a str,
    pub caveats: &'a [String],
}

#[derive(Serialize)]
pub struct Cosines {
    pub layer: u32,
    pub names: Vec<String>,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub values: Float32Array,
}

fn numbers(found: Option<Estimate>) -> [f64; 3] {
    found.map_or([f64::NAN; 3], |found| [found.value, found.low, found.high])
}

pub fn row_of(row: &SweepRow, layer_rows: usize) -> Row<'_> {
    let outcome: &Outcome = &row.outcome;
    let [evidence, low, high] = numbers(outcome.deviations);
    let place = row.setting.place;
    Row {
        layers: place
            .layers(layer_rows)
            .iter()
            .map(|layer| layer.0)
            .collect(),
        all_layers: place == Place::AllLayers,
        dose: row.setting.dose,
        coefficient: row.setting.coefficient,
        evidence,
        low,
        high,
        answers: outcome.answers,
        incoherent: outcome.incoherent_share,
        perplexity: outcome.perplexity.unwrap_or(f64::NAN),
        kl: outcome.kl.unwrap_or(f64::NAN),
        distinct2: outcome.distinct[1],
        texts: outcome
            .judged
            .iter()
            .map(|answer| Text {
                question: &answer.question,
                text: &answer.text,
                coherence: answer.coherence,
            })
            .collect(),
    }
}

pub fn control_rows(report: &ControlReport) -> Vec<ControlResultRow<'_>> {
    let row = |row: &'_ trimtab_persona::controls::ControlRow| numbers(row.outcome.deviations);
    report
        .rows
        .iter()
        .map(|control| {
            let [evidence, low, high] = row(control);
            let (kind, name) = match &control.direction {
                Direction::Vector => ("vector", ""),
                Direction::Flipped => ("flipped", ""),
                Direction::Shuffled(_) => ("shuffled", ""),
                Direction::Random(_) => ("random", ""),
                Direction::Other(name) => ("other", name.as_str()),
            };
            ControlResultRow {
                kind,
                name,
                evidence,
                low,
                high,
                incoherent: control.outcome.incoherent_share,
            }
        })
        .collect()
}
