//! The wgpu executor.
