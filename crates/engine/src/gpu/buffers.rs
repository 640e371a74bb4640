//! Buffer creation that keeps count.

use std::cell::Cell;

/// Creates buffers on one device and adds up their bytes.
#[derive(Debug)]
pub struct Buffers<'a> {
    device: &'a wgpu::Device,
    bytes: Cell<u64>,
}

impl<'a> Buffers<'a> {
    pub fn new(device: &'a wgpu::Device) -> Self {
        Self {
            device,
            bytes: Cell::new(0),
        }
    }

    /// Bytes of all buffers made so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// A zeroed storage buffer of at least `words` 32-bit words.
    pub fn storage(&self, label: &str, words: usize) -> wgpu::Buffer {
        let usages = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        self.create(label, words * 4, usages)
    }

    pub fn uniform(&self, label: &str, bytes: usize) -> wgpu::Buffer {
        self.create(
            label,
            bytes,
            wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
        )
    }

    /// A buffer that the host can map for reading.
    pub fn staging(&self, label: &str, words: usize) -> wgpu::Buffer {
        self.create(
            label,
            words * 4,
            wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
        )
    }

    fn create(&self, label: &str, bytes: usize, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        // A binding needs at least one element of whatever the kernel declares.
        let size = bytes.max(64).next_multiple_of(16) as u64;
        self.bytes.set(self.bytes.get() + size);
        self.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }
}
