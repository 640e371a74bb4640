//! Finding out whether to believe a trait, told to the page as it happens. The other side of these types is
//! `web/src/engine/traits_protocol.ts`.

mod findings;
mod responses;
mod run;

use crate::failure::Failure;
use crate::making::{bytes, optional_bytes, tell, with_nulls};
use crate::model::Model;
use crate::trimtab::Trimtab;
use findings::{
    ControlResult, Cosines, Point, PredictionResult, Recommendation, StudyEvent, SweepResult,
    control_rows, row_of,
};
use js_sys::{Float32Array, Function, Uint8Array};
use responses::{means_of, read_kept};
use run::{Study, run};
use serde::Deserialize;
use trimtab_engine::{Layer, LayerTable};
use trimtab_persona::contrast_record::{ContrastRecord, Thresholds};
use trimtab_persona::controls::{ControlSettings, Controls, cosines};
use trimtab_persona::plan::relative_dose;
use trimtab_persona::prediction::{Prediction, PredictionReport, PredictionSettings};
use trimtab_persona::push::Place;
use trimtab_persona::sweep::{Material, Sweep, SweepSettings};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::TrialRecords;
use trimtab_persona::vector_file::{TraitVector, VectorFile};
use wasm_bindgen::JsValue;

#[derive(Deserialize)]
pub struct SweepRequest {
    pack: TraitPack,
    #[serde(with = "bytes")]
    vector: Vec<u8>,
    settings: AskedSweep,
    #[serde(default, with = "optional_bytes")]
    records: Option<Vec<u8>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AskedSweep {
    layers: Vec<u32>,
    doses: Vec<f64>,
    questions: usize,
    max_tokens: usize,
    all_layers: bool,
}

#[derive(Deserialize)]
pub struct ControlRequest {
    pack: TraitPack,
    #[serde(with = "bytes")]
    vector: Vec<u8>,
    #[serde(with = "bytes")]
    contrast: Vec<u8>,
    thresholds: Thresholds,
    questions: usize,
    #[serde(default, with = "optional_bytes")]
    records: Option<Vec<u8>>,
}

#[derive(Deserialize)]
pub struct PredictRequest {
    pack: TraitPack,
    #[serde(with = "bytes")]
    vector: Vec<u8>,
    questions: usize,
    #[serde(default, with = "optional_bytes")]
    records: Option<Vec<u8>>,
}

/// A vector file and its default direction.
fn open(
    model: &Model,
    pack: &TraitPack,
    bytes: &[u8],
) -> Result<(VectorFile, TraitVector), Failure> {
    pack.check()?;
    let (rows, width) = (model.engine.layer_rows(), model.engine.config().hidden_size);
    let vector = VectorFile::parse(bytes)?.into_vector(&pack.name, None, rows, width)?;
    Ok((VectorFile::parse(bytes)?, vector))
}

/// The pairs that made a vector; all of them where its file does not say.
fn seen(file: &VectorFile, pack: &TraitPack) -> Vec<usize> {
    let pairs = file.metadata.extraction_pairs.unwrap_or(usize::MAX);
    (0..pairs.min(pack.instructions.len())).collect()
}

fn check_questions(questions: usize) -> Result<(), Failure> {
    match questions {
        0 => Err(Failure::usage("at least one question must be asked")),
        _ => Ok(()),
    }
}

pub async fn sweep(
    owner: &Trimtab,
    model: &mut Model,
    request: SweepRequest,
    listener: &Function,
) -> Result<JsValue, Failure> {
    let SweepRequest {
        pack,
        vector,
        settings: asked,
        records,
    } = request;
    let (mut file, vector) = open(model, &pack, &vector)?;
    check_questions(asked.questions)?;
    let seen = seen(&file, &pack);
    let mut settings = SweepSettings::brief(&pack, &seen, model.engine.layer_rows());
    if !asked.layers.is_empty() {
        settings.places = asked.layers.into_iter().map(Place::Layer).collect();
    }
    if asked.all_layers {
        settings.places.push(Place::AllLayers);
    }
    if !asked.doses.is_empty() {
        let sound = |dose: &f64| dose.is_finite() && *dose != 0.0;
        if !asked.doses.iter().all(sound) {
            return Err(Failure::usage("a dose is a number other than 0"));
        }
        settings.doses = asked.doses;
    }
    settings.material = Material::of(
        &pack,
        &seen,
        settings.material.pairs.len(),
        0,
        asked.questions,
    );
    settings.answers.max_tokens = asked.max_tokens.max(1);
    let made_of = made_of(model, &vector, &settings);
    let (sweep, setup) = Sweep::new(&pack, &vector, settings)?;
    let rows = vector.table.rows();
    let told = |records: &TrialRecords, trial: usize| {
        if let Some(row) = sweep.row(&setup, records, trial) {
            tell(
                listener,
                &StudyEvent::Row {
                    row: row_of(&row, rows),
                },
            );
        }
    };
    let study = Study {
        setup: setup.clone(),
        made_of,
        records,
    };
    let records = run(owner, model, study, listener, &told).await?;
    let report = sweep.report(&setup, &records)?;
    let found = report.recommendation.as_ref();
    if let Some(found) = found {
        file.metadata.recommended = Some(found.recommended.clone());
    }
    with_nulls(&SweepResult {
        rows: report.rows.iter().map(|row| row_of(row, rows)).collect(),
        neutral: 0.0,
        recommended: found.map(|found| Recommendation {
            layers: &found.recommended.layers,
            min: found.recommended.min,
            max: found.recommended.max,
            sentence: &report.sentence,
        }),
        sentence: &report.sentence,
        caveats: &report.caveats,
        vector: Uint8Array::from(file.to_bytes()?.as_slice()),
    })
}

/// What decides the plans of a study's trials, beside its questions and instructions.
fn made_of(model: &Model, vector: &TraitVector, settings: &impl std::fmt::Debug) -> Vec<String> {
    vec![
        model.sha256.clone(),
        vector.hash.clone(),
        format!("{:?}", vector.neutral_norm),
        format!("{settings:?}"),
    ]
}

pub async fn controls(
    owner: &Trimtab,
    model: &mut Model,
    request: ControlRequest,
    listener: &Function,
) -> Result<JsValue, Failure> {
    let ControlRequest {
        pack,
        vector,
        contrast,
        thresholds,
        questions,
        records,
    } = request;
    let (mut file, vector) = open(model, &pack, &vector)?;
    check_questions(questions)?;
    let record = ContrastRecord::parse(&contrast)?;
    record.is_of(&model.sha256)?;
    let Some(recommended) = vector.recommended.clone() else {
        return Err(Failure::usage(
            "the vector recommends no layer and range yet; sweep it first",
        ));
    };
    let layer = recommended.layers.first().copied().unwrap_or_default();
    let dose = relative_dose(&vector, recommended.max, &[Layer(layer)])
        .map(f64::from)
        .filter(|dose| *dose > 0.0)
        .ok_or_else(|| Failure::usage("the vector's range ends at 0; sweep it first"))?;
    let seen = seen(&file, &pack);
    let mut settings = ControlSettings::brief(&pack, &seen, layer, dose);
    let first = settings.material.questions.first().copied().unwrap_or(0);
    settings.material = Material::of(
        &pack,
        &seen,
        settings.material.pairs.len(),
        first,
        questions,
    );
    settings.whole_up_to = Some(dose);
    let other = model
        .vectors()
        .iter()
        .find(|other| other.name != pack.name && other.hash != vector.hash)
        .cloned();
    let mut made_of = made_of(model, &vector, &settings);
    made_of.push(format!("{thresholds:?}"));
    made_of.extend(other.iter().map(|other| other.hash.clone()));
    read_kept(owner, model, &record, &thresholds, listener).await?;
    let averages = model.averages.take(&record);
    let made = {
        let means = means_of(&record, &thresholds, &averages)?;
        Controls::new(&pack, &vector, &means, other.as_ref(), settings)
    };
    model.averages.keep(&record, averages);
    let (controls, setup) = made?;
    let study = Study {
        setup: setup.clone(),
        made_of,
        records,
    };
    let records = run(owner, model, study, listener, &|_, _| {}).await?;
    let report = controls.report(&setup, &records)?;
    let opened = report.with_flipped_side(
        &recommended,
        SweepSettings::brief(&pack, &seen, 2).range.max_incoherent,
    );
    file.metadata.recommended = Some(opened.clone());
    with_nulls(&ControlResult {
        rows: control_rows(&report),
        verdict: report.verdict.ruling,
        sentence: &report.verdict.sentence,
        caveats: &report.caveats,
        recommended: opened,
        vector: Uint8Array::from(file.to_bytes()?.as_slice()),
    })
}

pub async fn predict(
    owner: &Trimtab,
    model: &mut Model,
    request: PredictRequest,
    listener: &Function,
) -> Result<JsValue, Failure> {
    let PredictRequest {
        pack,
        vector,
        questions,
        records,
    } = request;
    let (file, vector) = open(model, &pack, &vector)?;
    check_questions(questions)?;
    let middle = (model.engine.config().layers as u32 * 16).div_ceil(30);
    let recommended = vector.recommended.as_ref();
    let layer = recommended.and_then(|found| found.layers.first().copied());
    let layer = Layer(layer.unwrap_or(middle));
    let settings = PredictionSettings::brief(&pack, &seen(&file, &pack), layer, questions);
    let made_of = made_of(model, &vector, &settings);
    let Some((prediction, setup)) = Prediction::new(&pack, 0, settings) else {
        return Err(Failure::usage("the trait pack has no instruction pairs"));
    };
    // The page's own directions come back whatever happens.
    model
        .engine
        .set_directions(std::slice::from_ref(&vector.table))?;
    let study = Study {
        setup: setup.clone(),
        made_of,
        records,
    };
    let records = run(owner, model, study, listener, &|_, _| {}).await;
    model.restore_directions()?;
    let report = prediction.report(&pack.name, &setup, &records?)?;
    let calibration = calibration_of(&vector, layer);
    with_nulls(&PredictionResult {
        layer: report.layer,
        calibrated: calibration.is_some(),
        points: points(&report, calibration),
        pooled: report.pooled.into(),
        within: report.within.into(),
        sentence: &report.sentence,
        caveats: &report.caveats,
    })
}

/// Mean and standard deviation of neutral prompt tokens' readings at `layer`, where the vector file says.
fn calibration_of(vector: &TraitVector, layer: Layer) -> Option<(f64, f64)> {
    let prompt = &vector.calibration.as_ref()?.prompt;
    let mean = prompt.mean.get(layer.index())?;
    let deviation = prompt.deviation.get(layer.index())?;
    (*deviation > 0.0).then(|| (f64::from(*mean), f64::from(*deviation)))
}

/// The coherent answers, with calibrated readings where there is a calibration.
fn points(report: &PredictionReport, calibration: Option<(f64, f64)>) -> Vec<Point<'_>> {
    let system = |point: &trimtab_persona::prediction::Point| {
        let mut all = report.systems.iter();
        let own = all.find(|(grade, _)| *grade == point.grade);
        own.and_then(|(_, system)| system.as_deref()).unwrap_or("")
    };
    let question = |point: &trimtab_persona::prediction::Point| {
        let own = report.questions.get(point.question);
        own.map_or("", String::as_str)
    };
    let whole = report.points.iter().filter(|point| point.coherent);
    whole
        .map(|point| Point {
            system: system(point),
            question: question(point),
            reading: calibration.map_or(point.reading, |(mean, deviation)| {
                (point.reading - mean) / deviation
            }),
            evidence: point.evidence,
        })
        .collect()
}

/// Cosines between all traits of the page, at `layer` or the first trait's recommended one.
pub fn compare(model: &Model, layer: Option<u32>) -> Result<JsValue, Failure> {
    let vectors = model.vectors();
    let usual = vectors
        .first()
        .and_then(|vector| vector.recommended.as_ref()?.layers.first().copied());
    let layer = layer.or(usual).unwrap_or(0);
    if layer as usize >= model.engine.layer_rows() {
        return Err(Failure::usage(format!(
            "layer {layer} does not exist: this model has layers 0 to {}",
            model.engine.last_layer().0
        )));
    }
    let tables: Vec<&LayerTable> = vectors.iter().map(|vector| &vector.table).collect();
    with_nulls(&Cosines {
        layer,
        names: vectors.iter().map(|vector| vector.name.clone()).collect(),
        values: Float32Array::from(cosines(&tables, Layer(layer)).as_slice()),
    })
}
