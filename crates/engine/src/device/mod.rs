//! Instruments for a device: whether it computes rightly and how fast. Clients of the engine, most of them with a small
//! random model in the real one's place.

pub mod self_check;
pub mod speed;
pub mod stand_in;

use crate::engine::Engine;
use crate::error::EngineError;
use crate::gpu::Profile;

/// Where the time of a token after `context` others goes on a GPU, over `tokens` of them. Forgets sequence 0.
pub async fn profile(
    engine: &mut Engine,
    context: usize,
    tokens: usize,
) -> Result<Profile, EngineError> {
    match engine.idle_gpu().await? {
        Some(gpu) => gpu.profile(context, tokens).await,
        None => Err(no_gpu()),
    }
}

fn no_gpu() -> EngineError {
    EngineError::Usage("only the GPU executor has kernels to time".into())
}
