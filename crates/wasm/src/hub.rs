//! Models by their name on the Hugging Face hub; the page fetches.

use crate::convert::{thrown, to_js};
use trimtab_checkpoint::hub::{HUB, HubError, HubName};
use trimtab_studio::failure::{Failure, FailureKind};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

fn failure(error: HubError) -> JsValue {
    let kind = match error {
        HubError::Name { .. } | HubError::NoSuchFile { .. } => FailureKind::Usage,
        HubError::NoModel { .. } => FailureKind::CorruptModel,
        _ => FailureKind::Download,
    };
    thrown(Failure::new(kind, error.to_string()))
}

fn parsed(name: &str) -> Result<HubName, JsValue> {
    name.parse().map_err(failure)
}

/// Where the hub lists the files of the model of that name.
#[wasm_bindgen(js_name = hubListing)]
pub fn hub_listing(name: &str) -> Result<String, JsValue> {
    Ok(parsed(name)?.listing(HUB))
}

/// A `HubModel`, of the hub's answer.
#[wasm_bindgen(js_name = hubModel)]
pub fn hub_model(name: &str, listing: &[u8]) -> Result<JsValue, JsValue> {
    to_js(&parsed(name)?.model(HUB, listing).map_err(failure)?)
}

/// A `Failure`: why the hub answered with that status. `code` is its `X-Error-Code`, `retry_after` its `Retry-After`.
#[wasm_bindgen(js_name = hubRefusal)]
pub fn hub_refusal(
    name: &str,
    status: u16,
    code: Option<String>,
    retry_after: Option<u32>,
) -> JsValue {
    match parsed(name) {
        Ok(name) => {
            let retry_after = retry_after.map(u64::from);
            failure(name.refusal(HUB, status, code.as_deref(), retry_after))
        }
        Err(failure) => failure,
    }
}
