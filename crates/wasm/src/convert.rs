//! Values that cross between Rust and JavaScript.

use js_sys::{Float32Array, Function, Uint32Array};
use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use trimtab_persona::json::{Row, write_rows_as};
use trimtab_studio::failure::{Failure, sentence};
use wasm_bindgen::{JsCast, JsValue};

/// A row of numbers as the page has it.
enum Typed {
    Floats(Float32Array),
    Ids(Uint32Array),
}

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Floats(array) => serde_wasm_bindgen::preserve::serialize(array, to),
            Self::Ids(array) => serde_wasm_bindgen::preserve::serialize(array, to),
        }
    }
}

/// Rows of numbers cross as typed arrays from now on.
pub fn use_typed_arrays() {
    write_rows_as(|row| {
        Box::new(match row {
            Row::Floats(values) => Typed::Floats(Float32Array::from(values)),
            Row::Ids(values) => Typed::Ids(Uint32Array::from(values)),
        })
    });
}

/// A plain object; what is not there is null, where it is not left out.
pub fn to_js(value: &impl Serialize) -> Result<JsValue, JsValue> {
    let serializer = serde_wasm_bindgen::Serializer::new()
        .serialize_maps_as_objects(true)
        .serialize_missing_as_null(true);
    value.serialize(&serializer).map_err(unexpected)
}

pub fn from_js<T: DeserializeOwned>(value: JsValue) -> Result<T, JsValue> {
    serde_wasm_bindgen::from_value(value).map_err(unexpected)
}

fn unexpected(error: serde_wasm_bindgen::Error) -> JsValue {
    thrown(Failure::usage(format!(
        "what was asked has not the expected form: {error}"
    )))
}

/// A failure as the page throws it: a visitor reads a sentence.
pub fn thrown(failure: impl Into<Failure>) -> JsValue {
    let Failure { kind, message } = failure.into();
    let failure = Failure {
        kind,
        message: sentence(message),
    };
    serde_wasm_bindgen::to_value(&failure).unwrap_or_else(|_| JsValue::from_str(&failure.message))
}

/// Calls a listener; what it throws is its own concern.
pub fn tell(listener: &Function, value: &impl Serialize) {
    if let Ok(value) = to_js(value) {
        let _ = listener.call1(&JsValue::NULL, &value);
    }
}

/// What JavaScript threw, in words.
pub fn text_of(thrown: &JsValue) -> String {
    thrown
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()))
        .or_else(|| thrown.as_string())
        .unwrap_or_else(|| format!("{thrown:?}"))
}
