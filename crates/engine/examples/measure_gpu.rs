//! Measures the GPU executor: a profile of its kernels, or what readings and a plan cost. Reads a [`Request`] as JSON from
//! standard input and writes what it measured; `cargo xtask bench --profile` and `--steering` print it.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use trimtab_checkpoint::manifest;
use trimtab_checkpoint::{FileSource, ModelConfig, WeightFile};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::{
    Backend, Engine, EngineOptions, Layer, LayerTable, Operation, Precision, Sampler, Scope,
    SequenceIndex, SteeringPlan, Term, TokenId,
};

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Deserialize)]
struct Request {
    /// A model directory.
    model: PathBuf,
    /// `exact` or `fast`
    precision: String,
    #[serde(flatten)]
    measure: Measure,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "measure", rename_all = "snake_case")]
enum Measure {
    /// Of `tokens` tokens at each length of the context, one length after another, so often.
    Profile {
        contexts: Vec<usize>,
        tokens: usize,
        rounds: usize,
    },
    /// Pairs of answers, without and with a plan and readings, in turns the one and the other first.
    Steering {
        prompt: Vec<u32>,
        tokens: usize,
        pairs: usize,
        directions: usize,
    },
}

fn main() -> Result<(), Failure> {
    let request: Request = serde_json::from_reader(io::stdin().lock())?;
    let measured = pollster::block_on(measure(&request))?;
    serde_json::to_writer(io::stdout().lock(), &measured)?;
    Ok(())
}

async fn measure(request: &Request) -> Result<Value, Failure> {
    let config = ModelConfig::from_json(&std::fs::read(request.model.join(manifest::CONFIG))?)?;
    let source = FileSource::open(&request.model.join(manifest::WEIGHTS))?;
    let weights = WeightFile::open(source).await?;
    let longest = match &request.measure {
        Measure::Profile { contexts, .. } => contexts.iter().copied().max().unwrap_or(0) + 1,
        Measure::Steering { prompt, tokens, .. } => prompt.len() + tokens,
    };
    let options = EngineOptions {
        backend: Backend::Gpu,
        precision: match request.precision.as_str() {
            "exact" => Precision::Exact,
            "fast" => Precision::Fast,
            other => return Err(format!("the precision is exact or fast, not {other}").into()),
        },
        context: Some(longest),
        sequences: 1,
    };
    let mut engine = Engine::load(&config, &weights, options, &mut |_| ()).await?;
    let adapter = engine.info().adapter.clone();
    let measured = match &request.measure {
        Measure::Profile {
            contexts,
            tokens,
            rounds,
        } => profiles(&mut engine, contexts, *tokens, *rounds).await?,
        Measure::Steering {
            prompt,
            tokens,
            pairs,
            directions,
        } => steering(&mut engine, prompt, *tokens, *pairs, *directions).await?,
    };
    let variant = engine.variant().map(|variant| variant.to_string());
    Ok(json!({ "adapter": adapter, "variant": variant, "measured": measured }))
}

async fn profiles(
    engine: &mut Engine,
    contexts: &[usize],
    tokens: usize,
    rounds: usize,
) -> Result<Value, Failure> {
    let mut profiles = Vec::new();
    for _ in 0..rounds {
        for &context in contexts {
            let profile = engine.profile(context, tokens).await?;
            let kernels: Vec<Value> = profile
                .kernels
                .iter()
                .map(|kernel| {
                    json!({
                        "kernel": kernel.kernel,
                        "dispatches": kernel.dispatches,
                        "seconds": kernel.seconds,
                        "bytes": kernel.work.bytes,
                        "products": kernel.work.products,
                        "roofline": kernel.roofline,
                    })
                })
                .collect();
            profiles.push(json!({
                "context": profile.context,
                "seconds": profile.seconds,
                "bytes_per_second": profile.bytes_per_second,
                "products_per_second": profile.products_per_second,
                "kernels": kernels,
            }));
        }
    }
    Ok(profiles.into())
}

/// Seconds from the first token to the last: `[plain, steered]` for each pair.
async fn steering(
    engine: &mut Engine,
    prompt: &[u32],
    tokens: usize,
    pairs: usize,
    directions: usize,
) -> Result<Value, Failure> {
    let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
    let table = |seed: usize, size: f32| {
        let values = (0..rows * width)
            .map(|index| size * ((index * 7 + seed * 13) as f32 * 0.618_034).sin())
            .collect();
        LayerTable::new(values, width)
    };
    let read = (0..directions)
        .map(|seed| table(seed, 1.0))
        .collect::<Result<Vec<_>, _>>()?;
    // Small enough to leave the model its senses, on every layer, so that the cost is the largest.
    let terms = [100, 101].map(|seed| {
        Ok(Term {
            vector: table(seed, 0.01)?,
            layers: (0..rows as u32).map(Layer).collect(),
            operation: Operation::Add { coefficient: 0.5 },
            scope: Scope::All,
        })
    });
    let steered = SteeringPlan {
        terms: terms.into_iter().collect::<Result<_, Failure>>()?,
    };
    let plain = SteeringPlan::default();
    // The first answer pays for pages and pipelines.
    decode(engine, prompt, 2, &[], &plain).await?;
    let mut measured = Vec::new();
    for pair in 0..pairs {
        let mut seconds = [0.0; 2];
        for turn in 0..2 {
            let which = (pair + turn) % 2;
            let (read, plan) = [(&[][..], &plain), (&read[..], &steered)][which];
            seconds[which] = decode(engine, prompt, tokens, read, plan).await?;
        }
        measured.push(seconds);
    }
    Ok(json!(measured))
}

async fn decode(
    engine: &mut Engine,
    prompt: &[u32],
    max_tokens: usize,
    directions: &[LayerTable],
    plan: &SteeringPlan,
) -> Result<f64, Failure> {
    engine.set_directions(directions)?;
    engine.clear(SequenceIndex(0))?;
    let request = GenerateRequest {
        sequence: SequenceIndex(0),
        prompt: prompt.iter().copied().map(TokenId).collect(),
        plan: plan.clone(),
        sampler: Sampler::GREEDY,
        max_tokens,
        end_tokens: Vec::new(),
    };
    let mut times = Vec::with_capacity(max_tokens);
    let mut run = Generation::start(engine, vec![request]).await?;
    while let Some(event) = run.next(engine).await? {
        if matches!(event, Event::Token { .. }) {
            times.push(Instant::now());
        }
    }
    match times[..] {
        [first, .., last] => Ok((last - first).as_secs_f64()),
        _ => Err("the answer has fewer than two tokens".into()),
    }
}
