//! Buffers on their way back to the host.

use super::device::Device;
use crate::error::EngineError;
use futures_channel::oneshot;

/// The first bytes of a buffer that is being mapped; what was submitted before comes first.
#[derive(Debug)]
pub struct Readback {
    pub buffer: wgpu::Buffer,
    bytes: u64,
    mapped: oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Readback {
    pub fn begin(buffer: &wgpu::Buffer, bytes: u64) -> Self {
        let (sender, mapped) = oneshot::channel();
        buffer.map_async(wgpu::MapMode::Read, 0..bytes, move |result| {
            // Nobody listens when the run was dropped.
            let _ = sender.send(result);
        });
        let buffer = buffer.clone();
        Self {
            buffer,
            bytes,
            mapped,
        }
    }

    /// Lets `decode` see the words when they are there, then unmaps.
    pub async fn read<T>(
        self,
        device: &Device,
        decode: impl FnOnce(&[u32]) -> T,
    ) -> Result<T, EngineError> {
        match self.mapped.await {
            Ok(Ok(())) => {}
            failed => {
                device.check("the result")?;
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the result never came back".into(),
                };
                return Err(EngineError::DeviceLost { reason });
            }
        }
        let decoded = {
            let view = self.buffer.get_mapped_range(0..self.bytes);
            let view = view.map_err(|error| EngineError::Device {
                what: "to show a result".into(),
                reason: error.to_string(),
            })?;
            decode(bytemuck::cast_slice(&view))
        };
        self.buffer.unmap();
        Ok(decoded)
    }
}
