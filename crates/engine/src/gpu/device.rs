//! The adapter and its device, and what it has complained of.

use super::variant::Variant;
use crate::error::EngineError;
use std::sync::{Arc, Mutex, PoisonError};

/// A device with the largest buffers that its adapter allows.
#[derive(Debug)]
pub struct Device {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub name: String,
    pub software: bool,
    /// Whether its WGSL has `dot4I8Packed`.
    pub packed_dot: bool,
    /// Whether its WGSL has halves, `shader-f16`.
    pub halves: bool,
    pub variant: Variant,
    /// Most bytes of a piece of a matrix with a row for each token.
    pub piece_bytes: u64,
    faults: Arc<Mutex<Faults>>,
}

/// What is assumed of an adapter instead of asked; `None` asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assumptions {
    /// Whether it is a program on the CPU, which wants other shapes of dispatches.
    pub software: Option<bool>,
    /// Whether its WGSL has `dot4I8Packed`.
    pub packed_dot: Option<bool>,
    /// Most bytes that it binds of a matrix with a row for each token.
    pub piece_bytes: Option<u64>,
    /// Which of the ways through its work it is given, instead of the likely one.
    pub variant: Option<Variant>,
}

#[derive(Debug, Default)]
struct Faults {
    lost: Option<String>,
    error: Option<String>,
}

impl Device {
    pub async fn open(assumptions: Assumptions) -> Result<Self, EngineError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter =
            instance
                .request_adapter(&options)
                .await
                .map_err(|error| EngineError::NoAdapter {
                    reason: error.to_string(),
                })?;
        let info = adapter.get_info();
        // Natively this is naga's own, which spells the product out where the adapter has no such instruction.
        let packed_dot = instance
            .wgsl_language_features()
            .contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
        let features =
            adapter.features() & (wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::SHADER_F16);
        let offered = adapter.limits();
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            ..wgpu::Limits::default()
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("trimtab"),
            // They cost nothing until a profile is taken, or a variant in halves.
            required_features: features,
            required_limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let (device, queue) =
            adapter
                .request_device(&descriptor)
                .await
                .map_err(|error| EngineError::NoAdapter {
                    reason: error.to_string(),
                })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let seen = Arc::clone(&faults);
        device.set_device_lost_callback(move |reason, message| {
            lock(&seen)
                .lost
                .get_or_insert(format!("{reason:?}: {message}"));
        });
        let seen = Arc::clone(&faults);
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&seen).error.get_or_insert(error.to_string());
        }));
        let software = info.device_type == wgpu::DeviceType::Cpu
            || is_software(&info.name)
            || is_software(&info.driver_info);
        let name = match info.name.is_empty() {
            true => info.driver_info,
            false => info.name,
        };
        let software = assumptions.software.unwrap_or(software);
        Ok(Self {
            device,
            queue,
            name,
            software,
            variant: assumptions.variant.unwrap_or(Variant::likely(software)),
            packed_dot: assumptions.packed_dot.unwrap_or(packed_dot),
            piece_bytes: assumptions.piece_bytes.unwrap_or(
                offered
                    .max_storage_buffer_binding_size
                    .min(offered.max_buffer_size),
            ),
            halves: features.contains(wgpu::Features::SHADER_F16),
            faults,
        })
    }

    /// Most bytes of a buffer that is bound whole.
    pub fn largest_buffer(&self) -> u64 {
        let limits = self.device.limits();
        limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
    }

    /// The first thing that went wrong since the last look, if any. A lost device stays lost.
    pub fn check(&self, what: &str) -> Result<(), EngineError> {
        let mut faults = lock(&self.faults);
        if let Some(reason) = &faults.lost {
            return Err(EngineError::DeviceLost {
                reason: reason.clone(),
            });
        }
        match faults.error.take() {
            Some(reason) => Err(EngineError::Device {
                what: what.into(),
                reason,
            }),
            None => Ok(()),
        }
    }

    /// Runs `make`, which creates buffers, and says whether memory sufficed.
    pub async fn allocate<T>(
        &self,
        what: &str,
        make: impl FnOnce() -> T,
    ) -> Result<T, EngineError> {
        let memory = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let made = make();
        match memory.pop().await {
            None => Ok(made),
            Some(_) => Err(EngineError::OutOfMemory { what: what.into() }),
        }
    }
}

fn lock(faults: &Mutex<Faults>) -> std::sync::MutexGuard<'_, Faults> {
    faults.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Browsers report no device type, but name their software adapters.
fn is_software(name: &str) -> bool {
    let name = name.to_lowercase();
    [
        "swiftshader",
        "llvmpipe",
        "lavapipe",
        "basic render",
        "warp",
    ]
    .iter()
    .any(|software| name.contains(software))
}
