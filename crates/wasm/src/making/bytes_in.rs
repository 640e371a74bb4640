//! Bytes cross as a `Uint8Array`.

pub mod bytes {
    use serde::{Deserializer, de::Error};

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        super::optional_bytes::deserialize(from)?
            .ok_or_else(|| D::Error::custom("bytes are missing"))
    }
}

pub mod optional_bytes {
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
