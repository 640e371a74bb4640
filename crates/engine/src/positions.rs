//! Rotary positions.

use crate::op::Rotation;

impl Rotation {
    /// Sine and cosine for each pair at a position, the angle in f32 as Hugging Face computes it.
    pub fn at(&self, position: u32) -> impl Iterator<Item = (f32, f32)> {
        self.frequencies.iter().map(move |frequency| {
            let (sin, cos) = (position as f32 * frequency).sin_cos();
            (sin * self.amplitude, cos * self.amplitude)
        })
    }
}
