//! Making a trait, told to the page as it happens. The other side of these types is
//! `web/src/engine/traits_protocol.ts`.

mod averages;
mod bytes_in;
mod findings;

pub use averages::KnownAverages;
pub(crate) use bytes_in::{bytes, optional_bytes};
pub(crate) use findings::{tell, with_nulls};

use crate::failure::Failure;
use crate::model::Model;
use crate::protocol::to_js;
use crate::trimtab::Trimtab;
use findings::{
    ContrastSet, Curve, Extraction, ResponseEvent, checkpoint, contrast_set, growing, response_of,
    usual_band,
};
use js_sys::{Date, Function, Uint8Array};
use serde::Deserialize;
use trimtab_persona::contrast_record::{ContrastRecord, ResponseSettings, Thresholds};
use trimtab_persona::control_vector::ControlVector;
use trimtab_persona::making::{Making, MakingEvent, MakingProgress, Phase};
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::vector_file::VectorFile;
use trimtab_persona::vector_making::{VectorMaking, sort};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// The page hears of a growing response every so many tokens.
const TOKENS_A_GROWTH: usize = 6;
/// What is done is handed over for storage at least so often, in milliseconds.
const CHECKPOINT_MS: f64 = 5_000.0;

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
    let control = ControlVector::parse(gguf)?;
    let missing = control.missing_layers(rows);
    let table = control.into_table(rows, width)?;
    Ok(VectorFile::imported(table, "a GGUF control vector", &missing).to_bytes()?)
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
    model.averages.keep(&record, averages);
    outcome?;
    if record.is_complete() {
        model.neutral = Some(record.neutral.clone());
    }
    with_nulls(&contrast_set(&record)?)
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
    /// When the last checkpoint was, in milliseconds, and whether there is something that it does not hold.
    kept: f64,
    unkept: bool,
}

impl Told {
    fn new(progress: MakingProgress) -> Self {
        Self {
            progress,
            began: Date::now(),
            kept: Date::now(),
            unkept: false,
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
        // Responses that were written together are told one by one, and then something else.
        let all_told = matches!(event, MakingEvent::Working);
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
            self.unkept = true;
            tell(listener, &self.progress_event());
        }
        if all_told && self.unkept && Date::now() - self.kept > CHECKPOINT_MS {
            self.kept = Date::now();
            self.unkept = false;
            tell(listener, &checkpoint(record)?);
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
    // Thresholds that leave too little are refused while what was read is still where it is kept.
    sort(&record, &request.thresholds)?;
    let averages = model.averages.take(&record);
    let named = record.clone();
    let mut making = VectorMaking::new(&model.engine, record, request.thresholds, averages)?;
    let outcome = drive_vector(owner, model, &mut making, listener).await;
    if let Err(failure) = outcome {
        model.averages.keep(&named, making.into_averages());
        return Err(failure);
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

async fn drive_vector(
    owner: &Trimtab,
    model: &mut Model,
    making: &mut VectorMaking,
    listener: Option<&Function>,
) -> Result<(), Failure> {
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
                "stopped, as you asked; the responses and what was read of them are kept. Go on whenever you like",
            ));
        }
    }
    Ok(())
}
