//! The wgpu executor.

use crate::architecture::Architecture;
use crate::engine::{EngineInfo, EngineOptions, LoadProgress};
use crate::error::EngineError;
use crate::executor::{Batch, BatchRecord, ChangeSlot, Execute, Limits};
use crate::index::{SequenceIndex, TokenId};
use crate::steering::{ComposedChange, LayerTable};
use trimtab_checkpoint::{ByteSource, ModelConfig, WeightFile};

#[derive(Debug)]
pub enum GpuExecutor {}

impl GpuExecutor {
    pub async fn load<S: ByteSource>(
        _: &ModelConfig,
        _: Architecture,
        _: &WeightFile<S>,
        _: EngineOptions,
        _: &mut dyn FnMut(LoadProgress),
    ) -> Result<(Self, EngineInfo), EngineError> {
        Err(EngineError::NoAdapter {
            reason: "the GPU executor is not built yet".into(),
        })
    }
}

impl Execute for GpuExecutor {
    fn limits(&self) -> Limits {
        match *self {}
    }
    fn set_directions(&mut self, _: &[LayerTable]) -> Result<(), EngineError> {
        match *self {}
    }
    fn set_change(&mut self, _: ChangeSlot, _: &ComposedChange) -> Result<(), EngineError> {
        match *self {}
    }
    fn set_seen(&mut self, _: SequenceIndex, _: &[TokenId]) -> Result<(), EngineError> {
        match *self {}
    }
    fn submit(&mut self, _: &Batch) -> Result<(), EngineError> {
        match *self {}
    }
    async fn collect(&mut self) -> Result<BatchRecord, EngineError> {
        match *self {}
    }
}
