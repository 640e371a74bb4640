//! A model that somebody has in another form than ours, converted in the browser.

use crate::blob::BlobSource;
use crate::convert::{from_js, thrown, to_js};
use crate::room::RoomWanted;
use js_sys::{Array, Function, Map, Promise, Uint8Array};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::rc::Rc;
use trimtab_checkpoint::convert::{
    Conversion, ConvertError, Folder, OutputTensor, Quantisation, Sink,
};
use trimtab_checkpoint::manifest::WEIGHTS;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_checkpoint::{ByteSource, SourceError};
use trimtab_engine::EngineError;
use trimtab_studio::failure::Failure;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::Blob;

/// Bytes that are handed to the page at once.
const PIECE: usize = 4 << 20;

/// Files that a visitor chose.
struct ChosenFiles {
    name: String,
    files: Map,
}

impl Folder for ChosenFiles {
    fn names(&self) -> Vec<String> {
        let keys = Array::from(&self.files.keys());
        keys.iter().filter_map(|name| name.as_string()).collect()
    }

    fn open(&self, name: &str) -> Result<Rc<dyn ByteSource>, SourceError> {
        let found = self.files.get(&JsValue::from_str(name));
        let blob = found.dyn_into::<Blob>();
        let blob = blob.map_err(|_| SourceError::Unreadable {
            name: name.to_owned(),
            reason: "is not among the files that were opened".into(),
        })?;
        Ok(Rc::new(BlobSource::new(name, blob)))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(&self.name)
    }
}

/// Hands the weight file's bytes to the page, which keeps them.
struct PageSink<'a> {
    /// `(bytes: Uint8Array) => Promise<void>`
    write: &'a Function,
}

impl Sink for PageSink<'_> {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalFuture<'a, Result<(), ConvertError>> {
        let failed = |error: JsValue| ConvertError::Write {
            path: WEIGHTS.into(),
            reason: crate::convert::text_of(&error),
        };
        Box::pin(async move {
            for piece in bytes.chunks(PIECE) {
                let piece = Uint8Array::from(piece);
                let promise = self.write.call1(&JsValue::NULL, &piece).map_err(failed)?;
                if let Ok(promise) = promise.dyn_into::<Promise>() {
                    JsFuture::from(promise).await.map_err(failed)?;
                }
            }
            Ok(())
        })
    }
}

/// What the page asks for.
#[derive(Deserialize)]
struct Asked {
    /// The folder's name, or nothing.
    folder: String,
    /// The GGUF file, where there is one.
    gguf: Option<String>,
    quantisation: Option<AskedQuantisation>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum AskedQuantisation {
    Q4,
    Q8,
}

/// What a person is told before anything is converted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Described<'a> {
    name: &'a str,
    licence: Option<&'a str>,
    notes: &'a [String],
    model_type: &'a str,
    /// Numbers that were trained.
    parameters: u64,
    layers: usize,
    hidden_size: usize,
    /// Longest conversation that the model was made for, in tokens.
    context: usize,
    bytes: ByForm<u64>,
}

/// Of a model as it is and quantised.
#[derive(Serialize)]
struct ByForm<T> {
    kept: T,
    q8: Option<T>,
    q4: Option<T>,
}

/// A model that is ready to be converted.
#[wasm_bindgen]
#[derive(Debug)]
pub struct PreparedModel {
    conversion: Conversion,
}

#[wasm_bindgen]
impl PreparedModel {
    /// `files`: `Map<string, Blob>`; `asked`: `{folder, gguf?, quantisation?: "q4" | "q8"}`.
    pub async fn prepare(files: Map, asked: JsValue) -> Result<PreparedModel, JsValue> {
        let asked: Asked = from_js(asked)?;
        let quantisation = asked.quantisation.map(|asked| match asked {
            AskedQuantisation::Q4 => Quantisation::Q4,
            AskedQuantisation::Q8 => Quantisation::Q8,
        });
        let folder = ChosenFiles {
            name: asked.folder,
            files,
        };
        let prepared = Conversion::prepare(&folder, asked.gguf.as_deref(), quantisation).await;
        let conversion = prepared.map_err(|error| thrown(Failure::from(error)))?;
        Ok(Self { conversion })
    }

    /// What the model is and needs.
    pub fn description(&self) -> Result<JsValue, JsValue> {
        let Self { conversion } = self;
        let config = &conversion.config;
        let small = conversion.files.iter().map(|(_, bytes)| bytes.len() as u64);
        let small: u64 = small.sum();
        let numbers = conversion.tensors().iter();
        to_js(&Described {
            name: conversion.name(),
            licence: conversion.licence(),
            notes: conversion.notes(),
            model_type: &config.model_type,
            parameters: numbers
                .map(|tensor| tensor.rows as u64 * tensor.cols as u64)
                .sum(),
            layers: config.layers,
            hidden_size: config.hidden_size,
            context: config.context,
            bytes: ByForm {
                kept: conversion.weight_bytes() + small,
                q8: self.bytes_as(Quantisation::Q8).map(|bytes| bytes + small),
                q4: self.bytes_as(Quantisation::Q4).map(|bytes| bytes + small),
            },
        })
    }

    /// Whether the model has room here, in each of its forms: `ByForm` of `Room`. `asked`: a `RoomWanted`.
    pub fn room(&self, asked: JsValue) -> Result<JsValue, JsValue> {
        let asked: RoomWanted = from_js(asked)?;
        let Self { conversion } = self;
        let room = |tensors: &[OutputTensor]| asked.room(&conversion.config, tensors);
        let quantised = |form| {
            let tensors = conversion.tensors_as(form);
            tensors.map(|tensors| room(&tensors)).transpose()
        };
        let rooms = || {
            Ok::<_, EngineError>(ByForm {
                kept: room(conversion.tensors())?,
                q8: quantised(Quantisation::Q8)?,
                q4: quantised(Quantisation::Q4)?,
            })
        };
        to_js(&rooms().map_err(|error| thrown(Failure::from(error)))?)
    }

    fn bytes_as(&self, quantisation: Quantisation) -> Option<u64> {
        let tensors = self.conversion.tensors_as(quantisation)?;
        Some(tensors.iter().map(OutputTensor::bytes).sum())
    }

    /// `Map<string, Uint8Array>` of everything but the weights.
    pub fn files(&self) -> Map {
        let files = Map::new();
        for (name, bytes) in &self.conversion.files {
            files.set(&JsValue::from_str(name), &Uint8Array::from(&bytes[..]));
        }
        files
    }

    /// Length of the weight file.
    #[wasm_bindgen(js_name = weightBytes)]
    pub fn weight_bytes(&self) -> f64 {
        self.conversion.weight_bytes() as f64
    }

    /// Hands the weight file to `write` from byte `from` on, in pieces; a piece that `write` rejects ends it.
    #[wasm_bindgen(js_name = writeWeights)]
    pub async fn write_weights(&self, from: f64, write: Function) -> Result<(), JsValue> {
        let mut sink = PageSink { write: &write };
        let written = self.conversion.write_weights(from as u64, &mut sink).await;
        written.map_err(|error| thrown(Failure::from(error)))
    }
}
