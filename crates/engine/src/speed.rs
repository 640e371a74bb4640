//! How fast an executor would decode a model, told by a stand-in in a fraction of a second.

use crate::engine::{Backend, Engine, Precision};
use crate::error::EngineError;
use crate::executor::{Batch, Head, Row, TokenSource};
use crate::gpu::self_check::load;
use crate::index::{Position, SequenceIndex, TokenId};
use crate::sampling::Sampler;
use crate::stand_in::StandIn;

/// What is timed at once takes about so long.
const SECONDS: f64 = 0.03;
const ROUNDS: usize = 3;
/// A GPU reads back this many tokens together, so that a token pays this share of the wait.
const TOGETHER: f64 = 4.0;

/// Seconds since some moment; the browser has a clock of its own.
pub type Clock<'a> = &'a dyn Fn() -> f64;

/// Of one answer, near the beginning of a conversation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speeds {
    /// Tokens a second.
    pub gpu: f64,
    pub cpu: f64,
}

impl Speeds {
    /// Times the stand-in on `gpu`, which holds it, and on the CPU, and scales both by how much more work a token of
    /// the real model is. A GPU's work and what it waits for a result are told apart by asking for several passes in
    /// one submission; a pass of the stand-in has more dispatches for its multiply-adds than one of the model, so that
    /// a GPU that is bound by dispatches is faster than this says.
    pub async fn measure(
        stand_in: &StandIn,
        gpu: &mut Engine,
        precision: Precision,
        clock: Clock<'_>,
    ) -> Result<Self, EngineError> {
        let once = shortest(gpu, 1, clock).await?;
        let passes = (SECONDS / once.max(1e-4)).clamp(3.0, 64.0) as u32;
        let several = shortest(gpu, passes, clock).await?;
        let work = ((several - once) / f64::from(passes - 1)).max(1e-7);
        let wait = (once - work).max(0.0);
        let gpu = work * stand_in.work + wait / TOGETHER;

        let mut cpu = load(stand_in, Backend::Cpu, precision).await?;
        let once = shortest(&mut cpu, 1, clock).await?;
        Ok(Self {
            gpu: 1.0 / gpu,
            cpu: 1.0 / (once * stand_in.work).max(1e-7),
        })
    }

    pub fn faster(&self) -> Backend {
        match self.gpu > self.cpu {
            true => Backend::Gpu,
            false => Backend::Cpu,
        }
    }
}

/// Seconds of one token in the quickest round. On the CPU `passes` does not matter: there, several tokens are timed
/// where one is shorter than a clock can tell.
async fn shortest(engine: &mut Engine, passes: u32, clock: Clock<'_>) -> Result<f64, EngineError> {
    let on_cpu = engine.info().backend == Backend::Cpu;
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = clock();
        let mut count = 0;
        loop {
            let row = Row {
                sequence: SequenceIndex(0),
                position: Position(0),
                token: TokenSource::Id(TokenId(1)),
                change: None,
                head: Head::Sample(Sampler::GREEDY),
            };
            let batch = Batch {
                rows: vec![row],
                capture: false,
            };
            engine.submit_passes(&batch, passes)?;
            engine.collect().await?;
            count += 1;
            if !on_cpu || clock() - start > SECONDS / ROUNDS as f64 {
                break;
            }
        }
        best = best.min((clock() - start) / f64::from(count));
    }
    Ok(best)
}
