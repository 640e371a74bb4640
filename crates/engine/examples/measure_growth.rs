//! How the time of a decoded token grows with the context, with the traits that are read, and with the model: on the CPU
//! executor, in *fast*. Takes a model directory and a number of rounds, and writes a [`Growth`] as JSON, which
//! `cargo xtask bench --growth` draws. Larger models than the given one are of random weights in the shapes of others.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::Serialize;
use trimtab_checkpoint::{ByteSource, FileSource, ModelConfig, WeightFile, manifest};
use trimtab_engine::device::stand_in::{Forms, StandIn, published_shapes};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::{
    Backend, Engine, EngineOptions, LayerTable, Precision, Sampler, SequenceIndex, SteeringPlan,
    TokenId,
};

const CONTEXTS: [usize; 5] = [100, 500, 1000, 2000, 4000];
const TRAITS: [usize; 5] = [0, 2, 4, 8, 16];
/// Tokens of one timed answer.
const TOKENS: usize = 16;
/// Context at which traits and models are compared.
const SHORT: usize = 100;

type Failure = Box<dyn std::error::Error>;

/// Points of a number and the median seconds of a token there.
#[derive(Debug, Serialize)]
struct Growth {
    executor: String,
    context: Vec<(usize, f64)>,
    traits: Vec<(usize, f64)>,
    model: Vec<(&'static str, f64)>,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(model), Some(rounds)) = (arguments.next(), arguments.next()) else {
        return Err("usage: measure_growth MODEL_DIRECTORY ROUNDS".into());
    };
    let growth = pollster::block_on(measure(&PathBuf::from(model), rounds.parse()?))?;
    serde_json::to_writer(io::stdout().lock(), &growth)?;
    Ok(())
}

async fn measure(model: &std::path::Path, rounds: usize) -> Result<Growth, Failure> {
    let config = ModelConfig::from_json(&std::fs::read(model.join(manifest::CONFIG))?)?;
    let source = FileSource::open(&model.join(manifest::WEIGHTS))?;
    let mut engine = load(&config, &WeightFile::open(source).await?).await?;
    let executor = engine.info().adapter.clone();
    let mut context = vec![Vec::new(); CONTEXTS.len()];
    let mut traits = vec![Vec::new(); TRAITS.len()];
    // In turns, so that what else the machine does falls on all alike.
    for _ in 0..rounds {
        for (times, &length) in context.iter_mut().zip(&CONTEXTS) {
            times.push(seconds_a_token(&mut engine, length).await?);
        }
        for (times, &count) in traits.iter_mut().zip(&TRAITS) {
            let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
            let table = |seed: usize| {
                let values = (0..rows * width).map(|i| ((i * 7 + seed) as f32).sin());
                LayerTable::new(values.collect(), width)
            };
            let tables: Result<Vec<_>, _> = (0..count).map(table).collect();
            engine.set_directions(&tables?)?;
            times.push(seconds_a_token(&mut engine, SHORT).await?);
        }
        engine.set_directions(&[])?;
    }
    drop(engine);
    let mut sizes = Vec::new();
    for (name, config) in published_shapes() {
        let whole = StandIn::whole(&config, &Forms::usual()).await?;
        let mut engine = load(&whole.config, &whole.weights).await?;
        drop(whole);
        let mut times = Vec::new();
        for _ in 0..rounds {
            times.push(seconds_a_token(&mut engine, SHORT).await?);
        }
        sizes.push((name, median(times)));
    }
    let medians = |numbers: &[usize], times: Vec<Vec<f64>>| {
        let medians = times.into_iter().map(median);
        numbers.iter().copied().zip(medians).collect()
    };
    Ok(Growth {
        executor,
        context: medians(&CONTEXTS, context),
        traits: medians(&TRAITS, traits),
        model: sizes,
    })
}

async fn load<S: ByteSource>(
    config: &ModelConfig,
    weights: &WeightFile<S>,
) -> Result<Engine, Failure> {
    let options = EngineOptions {
        backend: Backend::Cpu,
        precision: Precision::Fast,
        context: None,
        sequences: 1,
    };
    Ok(Engine::load(config, weights, options, &mut |_| ()).await?)
}

/// Mean seconds a token, after the first, of an answer to a prompt of `length` tokens, which is read again only where it has to be.
async fn seconds_a_token(engine: &mut Engine, length: usize) -> Result<f64, Failure> {
    let vocab = engine.config().vocab_size as u32;
    let request = GenerateRequest {
        sequence: SequenceIndex(0),
        prompt: (0..length as u32)
            .map(|i| TokenId((i * 7919 + 13) % vocab))
            .collect(),
        plan: SteeringPlan::default(),
        sampler: Sampler::GREEDY,
        max_tokens: TOKENS + 1,
        end_tokens: Vec::new(),
    };
    let mut run = Generation::start(engine, vec![request]).await?;
    let mut first = None;
    let mut last = Instant::now();
    while let Some(event) = run.next(engine).await? {
        if let Event::Token { .. } = event {
            last = Instant::now();
            first.get_or_insert(last);
        }
    }
    run.finish(engine).await?;
    let first = first.ok_or("nothing was written")?;
    Ok((last - first).as_secs_f64() / TOKENS as f64)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
