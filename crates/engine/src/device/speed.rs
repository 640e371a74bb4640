//! How fast an executor would decode a model, told by a stand-in in a fraction of a second.

use super::no_gpu;
use super::stand_in::StandIn;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::executor::{Batch, Execute, Head, Row, TokenSource};
use crate::gpu::GpuExecutor;
use crate::gpu::variant::Variant;
use crate::index::{Position, SequenceIndex, TokenId};
use crate::sampling::Sampler;
use crate::types::{Backend, Precision};

/// Length of a timed stretch, roughly.
const SECONDS: f64 = 0.03;
const ROUNDS: usize = 3;
/// Where compiling takes longer, the likely variant is taken as it is: a visitor waits.
const PATIENCE: f64 = 1.0;
/// A GPU reads back this many tokens together, so that a token pays this share of the wait.
const TOGETHER: f64 = 4.0;

/// Seconds since some moment; the browser has a clock of its own.
pub type Clock<'a> = &'a dyn Fn() -> f64;

/// Speeds of one answer, near the beginning of a conversation.
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
        let (work, wait) = work_and_wait(gpu, &token(), clock).await?;
        let gpu = work * stand_in.work + wait / TOGETHER;

        let mut cpu = stand_in.load(Backend::Cpu, precision, None).await?;
        let once = shortest(&mut cpu, &token(), 1, clock).await?;
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

/// Seconds that a GPU works on one pass over `batch`, and that one waits besides.
async fn work_and_wait(
    gpu: &mut Engine,
    batch: &Batch,
    clock: Clock<'_>,
) -> Result<(f64, f64), EngineError> {
    let once = shortest(gpu, batch, 1, clock).await?;
    let passes = (SECONDS / once.max(1e-4)).clamp(3.0, 64.0) as u32;
    let several = shortest(gpu, batch, passes, clock).await?;
    let work = ((several - once) / f64::from(passes - 1)).max(1e-7);
    Ok((work, (once - work).max(0.0)))
}

/// The variant that is fastest with few rows and the one that is with many, put together. `gpu` holds the
/// likely one; the others are loaded, which is to compile them, while that has taken no longer than [`PATIENCE`].
pub async fn fastest_variant(
    stand_in: &StandIn,
    gpu: &mut Engine,
    precision: Precision,
    clock: Clock<'_>,
) -> Result<Variant, EngineError> {
    let candidates = gpu.gpu().map_or(Vec::new(), GpuExecutor::candidates);
    let begun = clock();
    let prompt = prompt(gpu.limits().rows.min(stand_in.config.context));
    let Some(&(mut first)) = candidates.first() else {
        return Err(no_gpu());
    };
    let mut best = [f64::INFINITY; 2];
    for (index, &candidate) in candidates.iter().enumerate() {
        let mut loaded = None;
        if index > 0 {
            if clock() - begun > PATIENCE {
                break;
            }
            loaded = Some(
                stand_in
                    .load(Backend::Gpu, precision, Some(candidate))
                    .await?,
            );
        }
        let engine = loaded.as_mut().unwrap_or(&mut *gpu);
        let (few, _) = work_and_wait(engine, &token(), clock).await?;
        if few < best[0] {
            best[0] = few;
            first.few = candidate.few;
        }
        let (many, _) = work_and_wait(engine, &prompt, clock).await?;
        if many < best[1] {
            best[1] = many;
            first.many = candidate.many;
        }
    }
    Ok(first)
}

/// One token is decoded.
fn token() -> Batch {
    rows(1, Head::Sample(Sampler::GREEDY))
}

/// Rows of a prompt that is being read.
fn prompt(count: usize) -> Batch {
    rows(count as u32, Head::Skip)
}

fn rows(count: u32, head: Head) -> Batch {
    let row = |position| Row {
        sequence: SequenceIndex(0),
        position: Position(position),
        token: TokenSource::Id(TokenId(1)),
        change: None,
        want: head.into(),
    };
    Batch {
        rows: (0..count).map(row).collect(),
    }
}

/// Seconds of one `batch` in the quickest round. A GPU is given `passes` of it in one submission; on the CPU several are
/// timed where one is shorter than a clock can tell.
async fn shortest(
    engine: &mut Engine,
    batch: &Batch,
    passes: u32,
    clock: Clock<'_>,
) -> Result<f64, EngineError> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = clock();
        let mut count = 0;
        loop {
            count += 1;
            if let Some(gpu) = engine.idle_gpu().await? {
                gpu.submit_passes(batch, passes).await?;
                gpu.collect().await?;
                break;
            }
            engine.submit(batch).await?;
            engine.collect().await?;
            if clock() - start > SECONDS / ROUNDS as f64 {
                break;
            }
        }
        best = best.min((clock() - start) / f64::from(count));
    }
    Ok(best)
}
