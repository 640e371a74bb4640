//! Rotary positions.

/// Sine and cosine of `position · theta^(−2·pair/head_dim)`, the angle in f32 as Hugging Face computes it.
pub fn rotation(pair: usize, head_dim: usize, position: u32, theta: f32) -> (f32, f32) {
    let frequency = 1.0 / theta.powf((2 * pair) as f32 / head_dim as f32);
    (position as f32 * frequency).sin_cos()
}
