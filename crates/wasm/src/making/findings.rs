//! What the making of a trait tells the page. The other side of these types is `web/src/engine/traits_protocol.ts`.

use crate::failure::Failure;
use js_sys::{Float32Array, Function, Uint8Array};
use serde::Serialize;
use trimtab_engine::TokenId;
use trimtab_persona::coherence::{Coherence, CoherenceBand};
use trimtab_persona::contrast_record::{ContrastRecord, Kept, ResponseSettings, Thresholds};
use trimtab_persona::extract::Side;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::vector_making::LayerCurve;
use trimtab_persona::witness::chances;
use wasm_bindgen::JsValue;

#[derive(Serialize)]
pub struct ContrastResponse<'a> {
    pub pair: usize,
    pub question: usize,
    pub side: i8,
    pub text: &'a str,
    pub tokens: usize,
    pub evidence: Option<f64>,
    pub witness: Option<f64>,
    pub coherence: Option<Coherence>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ResponseEvent<'a> {
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
        /// Numbers of the responses that are in it.
        written: Vec<usize>,
    },
}

#[derive(Serialize)]
pub struct ContrastSet<'a> {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub bytes: Uint8Array,
    pub responses: Vec<ContrastResponse<'a>>,
    pub complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pack: Option<&'a TraitPack>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<ResponseSettings>,
}

#[derive(Serialize)]
pub struct Curve {
    pub name: &'static str,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub values: Float32Array,
    #[serde(flatten)]
    pub interval: Option<Interval>,
}

#[derive(Serialize)]
pub struct Interval {
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub low: Float32Array,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub high: Float32Array,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Extraction {
    pub kept: Vec<Kept>,
    pub kept_positive: usize,
    pub kept_negative: usize,
    pub witness_auc: f64,
    pub auc: Vec<Curve>,
    pub norms: Vec<Curve>,
    pub cosines: Vec<Curve>,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    pub vector: Uint8Array,
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

pub fn contrast_set(record: &ContrastRecord) -> Result<ContrastSet<'_>, Failure> {
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

pub fn checkpoint(record: &ContrastRecord) -> Result<ResponseEvent<'static>, Failure> {
    Ok(ResponseEvent::Checkpoint {
        contrast: Uint8Array::from(record.to_bytes()?.as_slice()),
        written: (0..record.responses.len())
            .filter(|&at| record.responses[at].is_some())
            .collect(),
    })
}

/// Until enough neutral answers are there, there is none.
pub fn usual_band(record: &ContrastRecord) -> Option<CoherenceBand> {
    record.band(Thresholds::default().criteria()).ok()
}

pub fn response_of<'a>(
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

pub fn growing<'a>(
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
pub fn with_nulls(value: &impl Serialize) -> Result<JsValue, Failure> {
    let serializer = serde_wasm_bindgen::Serializer::new()
        .serialize_maps_as_objects(true)
        .serialize_missing_as_null(true);
    Ok(value.serialize(&serializer)?)
}

/// Calls a listener; what it throws is its own concern.
pub fn tell(listener: &Function, event: &impl Serialize) {
    if let Ok(event) = with_nulls(event) {
        let _ = listener.call1(&JsValue::NULL, &event);
    }
}
