//! Finding out whether to believe a trait, told to the page as it happens. The other side of these types is
//! `web/src/engine/traits_protocol.ts`.

use crate::failure::Failure;
use crate::making::{bytes, with_nulls};
use crate::model::Model;
use crate::trimtab::Trimtab;
use js_sys::{Date, Float32Array, Function, Uint8Array};
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, LayerTable};
use trimtab_persona::activations::{Average, Averages};
use trimtab_persona::bootstrap::Estimate;
use trimtab_persona::coherence::Coherence;
use trimtab_persona::contrast_record::{ContrastRecord, Kept, Thresholds};
use trimtab_persona::control::LabelledMean;
use trimtab_persona::controls::{ControlReport, ControlSettings, Controls, Direction, cosines};
use trimtab_persona::making::read_response;
use trimtab_persona::outcome::Outcome;
use trimtab_persona::plan::relative_dose;
use trimtab_persona::prediction::{Prediction, PredictionSettings};
use trimtab_persona::push::Place;
use trimtab_persona::sweep::{Material, Sweep, SweepRow, SweepSettings};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::{TrialEvent, TrialRecords, TrialSetup, Trials};
use trimtab_persona::vector_file::{Recommended, TraitVector, VectorFile};
use trimtab_persona::vector_making::sort;
use trimtab_persona::verdict::Ruling;
use wasm_bindgen::JsValue;

#[derive(Deserialize)]
pub struct SweepRequest {
    pack: TraitPack,
    #[serde(with = "bytes")]
    vector: Vec<u8>,
    settings: AskedSweep,
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
}

#[derive(Deserialize)]
pub struct PredictRequest {
    pack: TraitPack,
    #[serde(with = "bytes")]
    vector: Vec<u8>,
    questions: usize,
}

#[derive(Serialize)]
struct Text<'a> {
    question: &'a str,
    text: &'a str,
    coherence: Coherence,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    layers: Vec<u32>,
    all_layers: bool,
    dose: f64,
    coefficient: f32,
    evidence: f64,
    low: f64,
    high: f64,
    answers: usize,
    incoherent: f64,
    perplexity: f64,
    kl: f64,
    distinct2: f64,
    texts: Vec<Text<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum StudyEvent<'a> {
    #[serde(rename_all = "camelCase")]
    Progress {
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
    Row {
        row: Row<'a>,
    },
}

#[derive(Serialize)]
struct Recommendation<'a> {
    layers: &'a [u32],
    min: f32,
    max: f32,
    sentence: &'a str,
}

#[derive(Serialize)]
struct SweepResult<'a> {
    rows: Vec<Row<'a>>,
    /// Rows tell evidence above the unsteered answers.
    neutral: f64,
    recommended: Option<Recommendation<'a>>,
    sentence: &'a str,
    caveats: &'a [String],
    #[serde(with = "serde_wasm_bindgen::preserve")]
    vector: Uint8Array,
}

#[derive(Serialize)]
struct ControlResultRow<'a> {
    kind: &'static str,
    name: &'a str,
    evidence: f64,
    low: f64,
    high: f64,
    incoherent: f64,
}

#[derive(Serialize)]
struct ControlResult<'a> {
    rows: Vec<ControlResultRow<'a>>,
    verdict: Ruling,
    sentence: &'a str,
    caveats: &'a [String],
    recommended: Recommended,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    vector: Uint8Array,
}

#[derive(Serialize)]
struct Correlation {
    r: f64,
    low: f64,
    high: f64,
}

#[derive(Serialize)]
struct Point<'a> {
    system: &'a str,
    question: &'a str,
    reading: f64,
    evidence: f64,
}

#[derive(Serialize)]
struct PredictionResult<'a> {
    layer: u32,
    points: Vec<Point<'a>>,
    pooled: Correlation,
    within: Correlation,
    sentence: &'a str,
    caveats: &'a [String],
}

#[derive(Serialize)]
struct Cosines {
    layer: u32,
    names: Vec<String>,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    values: Float32Array,
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
    let (sweep, setup) = Sweep::new(&pack, &vector, settings)?;
    let told = |records: &TrialRecords, trial: usize| {
        if let Some(row) = sweep.row(&setup, records, trial) {
            tell(
                listener,
                &StudyEvent::Row {
                    row: row_of(&row, model_rows(&vector)),
                },
            );
        }
    };
    let records = run(owner, model, setup.clone(), listener, &told).await?;
    let report = sweep.report(&setup, &records)?;
    let found = report.recommendation.as_ref();
    if let Some(found) = found {
        file.metadata.recommended = Some(found.recommended.clone());
    }
    with_nulls(&SweepResult {
        rows: report
            .rows
            .iter()
            .map(|row| row_of(row, model_rows(&vector)))
            .collect(),
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

fn model_rows(vector: &TraitVector) -> usize {
    vector.table.rows()
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
    let averages = read_kept(owner, model, &record, &thresholds).await?;
    let means: Vec<LabelledMean<'_>> = sort(&record, &thresholds)?
        .iter()
        .zip(&averages)
        .enumerate()
        .filter(|(_, (kept, _))| **kept == Kept::Kept)
        .filter_map(|(at, (_, averages))| {
            let place = record.settings.place(at);
            Some(LabelledMean {
                side: place.side,
                question: place.question,
                values: averages.as_ref()?.table(Average::Response),
            })
        })
        .collect();
    let other = model
        .vectors()
        .iter()
        .find(|other| other.name != pack.name && other.hash != vector.hash)
        .cloned();
    let (controls, setup) = Controls::new(&pack, &vector, &means, other.as_ref(), settings)?;
    model.averages.keep(&record, averages);
    let records = run(owner, model, setup.clone(), listener, &|_, _| {}).await?;
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

/// The averages by response, those that made the vector at least.
async fn read_kept(
    owner: &Trimtab,
    model: &mut Model,
    record: &ContrastRecord,
    thresholds: &Thresholds,
) -> Result<Vec<Option<Averages>>, Failure> {
    let kept = sort(record, thresholds)?;
    let mut averages = model.averages.take(record);
    averages.resize(kept.len(), None);
    for (at, (kept, own)) in kept.iter().zip(&mut averages).enumerate() {
        if *kept == Kept::Kept && own.is_none() {
            *own = Some(read_response(&mut model.engine, &model.text, record, at).await?);
            if owner.pause().await.stop {
                return Err(Failure::usage("stopped, as you asked"));
            }
        }
    }
    Ok(averages)
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
    } = request;
    let (file, vector) = open(model, &pack, &vector)?;
    check_questions(questions)?;
    let middle = (model.engine.config().layers as u32 * 16).div_ceil(30);
    let recommended = vector.recommended.as_ref();
    let layer = recommended.and_then(|found| found.layers.first().copied());
    let layer = Layer(layer.unwrap_or(middle));
    let settings = PredictionSettings::brief(&pack, &seen(&file, &pack), layer, questions);
    let Some((prediction, setup)) = Prediction::new(&pack, 0, settings) else {
        return Err(Failure::usage("the trait pack has no instruction pairs"));
    };
    // The page's own directions come back whatever happens.
    model
        .engine
        .set_directions(std::slice::from_ref(&vector.table))?;
    let records = run(owner, model, setup.clone(), listener, &|_, _| {}).await;
    model.restore_directions()?;
    let report = prediction.report(&pack.name, &setup, &records?)?;
    let number = |found: Option<Estimate>| {
        let nan = f64::NAN;
        let found = found.unwrap_or(Estimate {
            value: nan,
            low: nan,
            high: nan,
        });
        Correlation {
            r: found.value,
            low: found.low,
            high: found.high,
        }
    };
    let system = |point: &trimtab_persona::prediction::Point| {
        let own = report
            .systems
            .iter()
            .find(|(grade, _)| *grade == point.grade);
        own.and_then(|(_, system)| system.as_deref()).unwrap_or("")
    };
    with_nulls(&PredictionResult {
        layer: report.layer,
        points: report
            .points
            .iter()
            .filter(|point| point.coherent)
            .map(|point| Point {
                system: system(point),
                question: report
                    .questions
                    .get(point.question)
                    .map_or("", String::as_str),
                reading: point.reading,
                evidence: point.evidence,
            })
            .collect(),
        pooled: number(report.pooled),
        within: number(report.within),
        sentence: &report.sentence,
        caveats: &report.caveats,
    })
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

/// Runs trials until they are done or stopped. `told` hears of every trial that got on.
async fn run(
    owner: &Trimtab,
    model: &mut Model,
    setup: TrialSetup,
    listener: &Function,
    told: &dyn Fn(&TrialRecords, usize),
) -> Result<TrialRecords, Failure> {
    let mut trials = Trials::new(setup, None)?;
    let began = Date::now();
    let mut before = 0;
    while let Some(event) = trials.next(&mut model.engine, &model.text).await? {
        match event {
            TrialEvent::Working => {}
            TrialEvent::Written { trial, .. } | TrialEvent::Measured { trial, .. } => {
                if trials.records()[trial].iter().all(Option::is_some) {
                    told(trials.records(), trial);
                }
            }
        }
        let progress = trials.progress();
        let done = progress.passes_done;
        if done != before {
            before = done;
            let left = progress.passes_total.saturating_sub(done) as f64;
            let elapsed = (Date::now() - began) / 1_000.0;
            let event = StudyEvent::Progress {
                done,
                total: progress.passes_total,
                seconds_left: (done > 0).then(|| elapsed / done as f64 * left),
            };
            tell(listener, &event);
        }
        if owner.pause().await.stop {
            break;
        }
    }
    Ok(trials.records().clone())
}

fn numbers(found: Option<Estimate>) -> [f64; 3] {
    found.map_or([f64::NAN; 3], |found| [found.value, found.low, found.high])
}

fn row_of(row: &SweepRow, layer_rows: usize) -> Row<'_> {
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

fn control_rows(report: &ControlReport) -> Vec<ControlResultRow<'_>> {
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

/// Calls a listener; what it throws is its own concern.
fn tell(listener: &Function, event: &StudyEvent<'_>) {
    if let Ok(event) = with_nulls(event) {
        let _ = listener.call1(&JsValue::NULL, &event);
    }
}
