//! Whether a model has room on the visitor's machine, as far as a browser tells what there is.

use crate::convert::from_js;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use trimtab_checkpoint::convert::OutputTensor;
use trimtab_checkpoint::family::ModelWeight;
use trimtab_checkpoint::{ModelConfig, WeightError};
use trimtab_engine::memory::{Machine, MemoryThere, Room, Wanted};
use trimtab_engine::{Backend, EngineError, Precision};
use trimtab_studio::failure::sentence;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// `RoomWanted` of `web/src/engine/protocol.ts`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomWanted {
    backend: Option<Backend>,
    precision: Precision,
    context: Option<usize>,
    /// Most bytes of a buffer that the graphics device binds; absent without one that would be used.
    largest_buffer: Option<f64>,
    /// Of the machine, in bytes; browsers round it, and some do not say.
    memory: Option<f64>,
}

/// `Room` of `web/src/engine/protocol.ts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TellRoom {
    fits: bool,
    weight_bytes: u64,
    cache_bytes_per_token: u64,
    context: usize,
    sentences: Vec<String>,
}

impl RoomWanted {
    fn machine(&self) -> Machine {
        Machine {
            gpu: self.largest_buffer.map(|bytes| MemoryThere {
                total: None,
                largest_buffer: Some(bytes as u64),
            }),
            cpu: MemoryThere::of_this_program(),
            memory: self.memory.map(|bytes| bytes as u64),
        }
    }

    /// # Errors
    /// Weights that the family needs and `tensors` lack.
    pub fn room(
        &self,
        config: &ModelConfig,
        tensors: &[OutputTensor],
    ) -> Result<TellRoom, EngineError> {
        let named = tensors
            .iter()
            .map(|tensor| (&*tensor.name, tensor.encoding));
        let named: HashMap<_, _> = named.collect();
        let encoding = |weight: &ModelWeight| {
            let found = named.get(&*weight.name).copied();
            found.ok_or_else(|| {
                EngineError::from(WeightError::Tensor {
                    tensor: weight.name.clone(),
                    reason: "is missing".into(),
                })
            })
        };
        let wanted = Wanted {
            backend: self.backend,
            precision: self.precision,
            context: self.context,
        };
        let room = Room::of(config, &encoding, wanted, self.machine())?;
        Ok(TellRoom {
            fits: room.fits,
            weight_bytes: room.weights,
            cache_bytes_per_token: room.cache_per_token,
            context: room.context,
            sentences: room.sentences,
        })
    }
}

/// Why a GGUF file of so many bytes has no room here, as a sentence. `asked`: a `RoomWanted`.
#[wasm_bindgen(js_name = fileShortage)]
pub fn file_shortage(bytes: f64, asked: JsValue) -> Result<Option<String>, JsValue> {
    let asked: RoomWanted = from_js(asked)?;
    let shortage = asked.machine().shortage_for_file(bytes as u64);
    Ok(shortage.map(|shortage| sentence(shortage.to_string())))
}
