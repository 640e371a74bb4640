//! Making a trait, told to the page as it happens. The other side of these types is
//! `web/src/engine/traits_protocol.ts`.

use crate::failure::Failure;
use crate::model::Model;
use crate::protocol::to_js;
use crate::trimtab::Trimtab;
use js_sys::{Date, Float32Array, Function, Uint8Array};
use serde::{Deserialize, Serialize};
use trimtab_engine::TokenId;
use trimtab_persona::activations::Averages;
use trimtab_persona::coherence::{Coherence, CoherenceBand};
use trimtab_persona::contrast_record::{ContrastRecord, Kept, ResponseSettings, Thresholds};
use trimtab_persona::control_vector::ControlVector;
use trimtab_persona::extract::Side;
use trimtab_persona::making::{Making, MakingEvent, MakingProgress, Phase};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trait_vector::sha256;
use trimtab_persona::vector_file::{DEFAULT_TENSOR, VectorFile, VectorMetadata};
use trimtab_persona::vector_making::{LayerCurve, VectorMaking};
use trimtab_persona::witness::chances;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// The page hears of a growing response every so many tokens.
const TOKENS_A_GROWTH: usize = 6;
/// What is done is handed over for storage at least so often, in milliseconds.
const CHECKPOINT_MS: f64 = 15_000.0;

#[derive(Deserialize)]
pub struct WriteRequest {
    pack: TraitPack,
    settings: ResponseSettings,
    #[serde(default, with = "optional_bytes")]
    contrast: Option<Vec<u8>>,
}

#[derive(Deserialize)]
pub struct VectorRequest {
    pack: TraitPack,
    #[serde(with = "bytes")]
    contrast: Vec<u8>,
    thresholds: Thresholds,
}

#[derive(Serialize)]
struct ContrastResponse<'a> {
    pair: usize,
    question: usize,
    side: i8,
    text: &'a str,
    tokens: usize,
    evidence: Option<f64>,
    witness: Option<f64>,
    coherence: Option<Coherence>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum ResponseEvent<'a> {
    Response {
        at: usize,
        response: ContrastResponse<'a>,
    },
    #[serde(rename_all = "camelCase")]
    Progress {
        phase: &'static str,
        done: usize,
        total: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds_left: Option<f64>,
    },
    Checkpoint {
        #[serde(with = "serde_wasm_bindgen::preserve")]
        contrast: Uint8Array,
    },
}

#[derive(Serialize)]
struct ContrastSet<'a> {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    bytes: Uint8Array,
    responses: Vec<ContrastResponse<'a>>,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<&'a TraitPack>,
    #[serde(skip_serializing_if = "Option::is_none")]
    settings: Option<ResponseSettings>,
}

#[derive(Serialize)]
struct Curve {
    name: &'static str,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    values: Float32Array,
    #[serde(flatten)]
    interval: Option<Interval>,
}

#[derive(Serialize)]
struct Interval {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    low: Float32Array,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    high: Float32Array,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extraction {
    kept: Vec<Kept>,
    kept_positive: usize,
    kept_negative: usize,
    witness_auc: f64,
    auc: Vec<Curve>,
    norms: Vec<Curve>,
    cosines: Vec<Curve>,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    vector: Uint8Array,
}

/// Bytes cross as a `Uint8Array`.
pub(crate) mod bytes {
    use serde::{Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        super::optional_bytes::deserialize(from)?
            .ok_or_else(|| D::Error::custom("bytes are missing"))
    }
}

pub(crate) mod optional_bytes {
    use serde::{Deserializer, de::Error};
    use wasm_bindgen::{JsCast, JsValue};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let value: JsValue = serde_wasm_bindgen::preserve::deserialize(from)?;
        if value.is_undefined() || value.is_null() {
            return Ok(None);
        }
        match value.dyn_into::<js_sys::Uint8Array>() {
            Ok(array) => Ok(Some(array.to_vec())),
            Err(_) => Err(D::Error::custom("bytes must be a Uint8Array")),
        }
    }
}

/// What was read of one contrast set, so that other thresholds read nothing again.
#[derive(Debug, Default)]
pub struct KnownAverages {
    /// sha256 of everything that was written.
    of: String,
    averages: Vec<Option<Averages>>,
}

impl KnownAverages {
    pub(crate) fn take(&mut self, record: &ContrastRecord) -> Vec<Option<Averages>> {
        if self.of == fingerprint(record) {
            std::mem::take(&mut self.averages)
        } else {
            Vec::new()
        }
    }

    pub(crate) fn keep(&mut self, record: &ContrastRecord, averages: Vec<Option<Averages>>) {
        self.of = fingerprint(record);
        self.averages = averages;
    }
}

/// The same for records whose responses are the same tokens to the same prompts by the same model.
fn fingerprint(record: &ContrastRecord) -> String {
    let ids: Vec<_> = record
        .responses
        .iter()
        .map(|response| response.as_ref().map(|one| &one.ids))
        .collect();
    let all = (&record.model_sha256, &record.pack, &record.settings, ids);
    serde_json::to_vec(&all).map_or_else(|_| String::new(), |bytes| sha256(&bytes))
}

#[wasm_bindgen(js_name = draftTrait)]
pub fn draft_trait(name: &str, description: &str, opposite: &str) -> Result<JsValue, JsValue> {
    let pack = TraitPack::from_sentence(name, description, opposite).map_err(Failure::from)?;
    Ok(to_js(&pack)?)
}

#[wasm_bindgen(js_name = checkTrait)]
pub fn check_trait(json: &str) -> Result<JsValue, JsValue> {
    Ok(to_js(
        &TraitPack::parse(json.as_bytes()).map_err(Failure::from)?,
    )?)
}

/// What a contrast set's bytes hold.
#[wasm_bindgen(js_name = openContrast)]
pub fn open_contrast(bytes: &[u8]) -> Result<JsValue, JsValue> {
    let record = ContrastRecord::parse(bytes).map_err(Failure::from)?;
    let set = ContrastSet {
        pack: Some(&record.pack),
        settings: Some(record.settings),
        ..contrast_set(&record)?
    };
    Ok(with_nulls(&set)?)
}

/// One tensor of a vector file as GGUF.
#[wasm_bindgen(js_name = exportControlVector)]
pub fn export_control_vector(vector: &[u8], tensor: Option<String>) -> Result<Vec<u8>, JsValue> {
    let file = VectorFile::parse(vector).map_err(Failure::from)?;
    let (_, table) = file.choose(tensor.as_deref()).map_err(Failure::from)?;
    // The vector file does not say which architecture; llama.cpp only warns about another.
    let control = ControlVector::of(table, "llama").map_err(Failure::from)?;
    Ok(control.to_bytes())
}

/// A GGUF control vector as a vector file for the loaded model.
pub fn import_control_vector(model: &Model, gguf: &[u8]) -> Result<Vec<u8>, Failure> {
    let (rows, width) = (model.engine.layer_rows(), model.engine.config().hidden_size);
    let table = ControlVector::parse(gguf)?.into_table(rows, width)?;
    let file = VectorFile {
        tensors: [(DEFAULT_TENSOR.to_owned(), table)].into(),
        metadata: VectorMetadata {
            made: Some("from a GGUF control vector; its layers 0 and 1 are zero".into()),
            ..VectorMetadata::default()
        },
    };
    Ok(file.to_bytes()?)
}

pub async fn write_responses(
    owner: &Trimtab,
    model: &mut Model,
    request: WriteRequest,
    listener: &Function,
) -> Result<JsValue, Failure> {
    let record = match request.contrast {
        Some(bytes) => {
            let record = ContrastRecord::parse(&bytes)?;
            record.is_for(&request.pack, &request.settings, &model.sha256)?;
            record
        }
        None => {
            let neutral = model.neutral.clone();
            ContrastRecord::new(
                request.pack,
                model.sha256.clone(),
                request.settings,
                neutral,
            )?
        }
    };
    let averages = model.averages.take(&record);
    let mut making = Making::new(record, averages);
    let mut told = Told::new(making.progress());
    let outcome = drive(owner, model, &mut making, &mut told, listener).await;
    let (record, averages) = making.finish();
    if outcome.is_err() {
        // Nothing that was done is lost with the failure.
        tell(listener, &checkpoint(&record)?);
    }
    outcome?;
    if record.is_complete() {
        model.neutral = Some(record.neutral.clone());
    }
    let set = with_nulls(&contrast_set(&record)?);
    model.averages.keep(&record, averages);
    set
}

async fn drive(
    owner: &Trimtab,
    model: &mut Model,
    making: &mut Making,
    told: &mut Told,
    listener: &Function,
) -> Result<(), Failure> {
    while let Some(event) = making.next(&mut model.engine, &model.text).await? {
        told.event(model, making, event, listener)?;
        if owner.pause().await.stop {
            making.stop();
        }
    }
    Ok(())
}

/// What the page has heard.
struct Told {
    progress: MakingProgress,
    /// When the phase began, in milliseconds.
    began: f64,
    kept: f64,
}

impl Told {
    fn new(progress: MakingProgress) -> Self {
        Self {
            progress,
            began: Date::now(),
            kept: Date::now(),
        }
    }

    fn event(
        &mut self,
        model: &Model,
        making: &Making,
        event: MakingEvent,
        listener: &Function,
    ) -> Result<(), Failure> {
        let record = making.record();
        match event {
            MakingEvent::Growing { at, tokens } => {
                if tokens.len() % TOKENS_A_GROWTH == 0 {
                    let text = model.text.decode(&tokens);
                    let response = growing(record, at, &text, &tokens);
                    tell(listener, &ResponseEvent::Response { at, response });
                }
            }
            MakingEvent::Written { at } | MakingEvent::Judged { at } => {
                if let Some(response) = response_of(record, at, None, usual_band(record).as_ref()) {
                    tell(listener, &ResponseEvent::Response { at, response });
                }
            }
            MakingEvent::Working => {}
        }
        let progress = making.progress();
        if progress != self.progress {
            if progress.phase != self.progress.phase {
                self.began = Date::now();
            }
            self.progress = progress;
            tell(listener, &self.progress_event());
            if Date::now() - self.kept > CHECKPOINT_MS {
                self.kept = Date::now();
                tell(listener, &checkpoint(record)?);
            }
        }
        Ok(())
    }

    fn progress_event(&self) -> ResponseEvent<'static> {
        let MakingProgress {
            phase,
            done,
            total,
            before,
        } = self.progress;
        let now = done.saturating_sub(before) as f64;
        let elapsed = (Date::now() - self.began) / 1_000.0;
        ResponseEvent::Progress {
            phase: match phase {
                Phase::Writing => "writing",
                Phase::Judging => "judging",
            },
            done,
            total,
            seconds_left: (now > 0.0).then(|| elapsed / now * total.saturating_sub(done) as f64),
        }
    }
}

pub async fn make_vector(
    owner: &Trimtab,
    model: &mut Model,
    request: VectorRequest,
    listener: Option<&Function>,
) -> Result<JsValue, Failure> {
    let record = ContrastRecord::parse(&request.contrast)?;
    record.is_for(&request.pack, &record.settings, &model.sha256)?;
    let averages = model.averages.take(&record);
    let named = record.clone();
    let mut making = VectorMaking::new(&model.engine, record, request.thresholds, averages)?;
    let began = Date::now();
    while making.next(&mut model.engine, &model.text).await? {
        let progress = making.progress();
        if let Some(listener) = listener {
            let elapsed = (Date::now() - began) / 1_000.0;
            let left = progress.total - progress.done;
            let event = ResponseEvent::Progress {
                phase: "vector",
                done: progress.done,
                total: progress.total,
                seconds_left: Some(elapsed / progress.done.max(1) as f64 * left as f64),
            };
            tell(listener, &event);
        }
        if owner.pause().await.stop {
            return Err(Failure::usage(
                "stopped, as you asked; the responses are kept",
            ));
        }
    }
    let (made, averages) = making.finish()?;
    model.averages.keep(&named, averages);
    let [kept_positive, kept_negative] = made.counts;
    with_nulls(&Extraction {
        kept_positive,
        kept_negative,
        witness_auc: made.witness_auc.map_or(f64::NAN, |area| area.value),
        auc: made.auc.into_iter().map(Curve::from).collect(),
        norms: made.norms.into_iter().map(Curve::from).collect(),
        cosines: made.cosines.into_iter().map(Curve::from).collect(),
        vector: Uint8Array::from(made.file.to_bytes()?.as_slice()),
        kept: made.kept,
    })
}

impl From<LayerCurve> for Curve {
    fn from(curve: LayerCurve) -> Self {
        let array = |values: &[f32]| Float32Array::from(values);
        Self {
            name: curve.name,
            values: array(&curve.values),
            interval: curve.interval.map(|(low, high)| Interval {
                low: array(&low),
                high: array(&high),
            }),
        }
    }
}

fn contrast_set(record: &ContrastRecord) -> Result<ContrastSet<'_>, Failure> {
    let (numbers, testimonies) = record.testimonies();
    let mut witness = vec![None; record.responses.len()];
    for (at, chance) in numbers.into_iter().zip(chances(&testimonies)) {
        witness[at] = chance;
    }
    let band = usual_band(record);
    let responses = (0..record.responses.len())
        .filter_map(|at| response_of(record, at, witness[at], band.as_ref()));
    Ok(ContrastSet {
        responses: responses.collect(),
        bytes: Uint8Array::from(record.to_bytes()?.as_slice()),
        complete: record.is_complete(),
        pack: None,
        settings: None,
    })
}

fn checkpoint(record: &ContrastRecord) -> Result<ResponseEvent<'static>, Failure> {
    Ok(ResponseEvent::Checkpoint {
        contrast: Uint8Array::from(record.to_bytes()?.as_slice()),
    })
}

/// Until enough neutral answers are there, there is none.
fn usual_band(record: &ContrastRecord) -> Option<CoherenceBand> {
    record.band(Thresholds::default().criteria()).ok()
}

fn response_of<'a>(
    record: &'a ContrastRecord,
    at: usize,
    witness: Option<f64>,
    band: Option<&CoherenceBand>,
) -> Option<ContrastResponse<'a>> {
    let response = record.responses.get(at)?.as_ref()?;
    let tokens = response.tokens();
    Some(ContrastResponse {
        evidence: record.evidence(at),
        witness,
        coherence: band.map(|band| band.judge(response.logprob.unwrap_or(f64::NAN), &tokens)),
        ..growing(record, at, &response.text, &tokens)
    })
}

fn growing<'a>(
    record: &ContrastRecord,
    at: usize,
    text: &'a str,
    tokens: &[TokenId],
) -> ContrastResponse<'a> {
    let place = record.settings.place(at);
    ContrastResponse {
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

/// What is not known is `null` in these types.
pub(crate) fn with_nulls(value: &impl Serialize) -> Result<JsValue, Failure> {
    let serializer = serde_wasm_bindgen::Serializer::new()
        .serialize_maps_as_objects(true)
        .serialize_missing_as_null(true);
    Ok(value.serialize(&serializer)?)
}

/// Calls a listener; what it throws is its own concern.
fn tell(listener: &Function, event: &ResponseEvent<'_>) {
    if let Ok(event) = with_nulls(event) {
        let _ = listener.call1(&JsValue::NULL, &event);
    }
}
