//! Measures the GPU executor: a profile of its kernels, what readings and a plan cost, or how fast it is. Reads a [`Request`] as
//! JSON from standard input and writes what it measured; `cargo xtask bench --profile`, `--steering` and `--gpu` print it.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::Deserialize;
use serde_json::{Value, json};
use trimtab_checkpoint::manifest;
use trimtab_checkpoint::{ByteSource, FileSource, ModelConfig, WeightFile};
use trimtab_engine::device::stand_in::{Forms, StandIn, published_shapes};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::gpu::Assumptions;
use trimtab_engine::{
    Backend, Engine, EngineOptions, Layer, LayerTable, Operation, Precision, Sampler, Scope,
    SequenceIndex, SteeringPlan, Term, TokenId,
};

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Deserialize)]
struct Request {
    model: Model,
    /// `exact` or `fast`
    precision: String,
    /// One of `Variant`'s; without, the adapter's likely one.
    #[serde(default)]
    variant: Option<String>,
    #[serde(flatten)]
    measure: Measure,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Model {
    Directory(PathBuf),
    /// Random weights in the shape of a published model.
    Shape(String),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "measure", rename_all = "snake_case")]
enum Measure {
    /// A profile of `tokens` tokens at each length of the context, one length after another, so often.
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
    /// The speed of a prompt of each length and an answer of `tokens` tokens to it, one length after another, so often.
    Speed {
        contexts: Vec<usize>,
        tokens: usize,
        rounds: usize,
    },
}

fn main() -> Result<(), Failure> {
    let request: Request = serde_json::from_reader(io::stdin().lock())?;
    let measured = pollster::block_on(measure(&request))?;
    serde_json::to_writer(io::stdout().lock(), &measured)?;
    Ok(())
}

async fn measure(request: &Request) -> Result<Value, Failure> {
    match &request.model {
        Model::Directory(folder) => {
            let config = ModelConfig::from_json(&std::fs::read(folder.join(manifest::CONFIG))?)?;
            let source = FileSource::open(&folder.join(manifest::WEIGHTS))?;
            measure_model(request, &config, &WeightFile::open(source).await?).await
        }
        Model::Shape(name) => {
            let (_, config) = published_shapes()
                .find(|(known, _)| known == name)
                .ok_or_else(|| format!("no published shape is called {name}"))?;
            let whole = StandIn::whole(&config, &Forms::usual()).await?;
            measure_model(request, &whole.config, &whole.weights).await
        }
    }
}

async fn measure_model<S: ByteSource>(
    request: &Request,
    config: &ModelConfig,
    weights: &WeightFile<S>,
) -> Result<Value, Failure> {
    let longest = match &request.measure {
        Measure::Profile { contexts, .. } => contexts.iter().copied().max().unwrap_or(0) + 1,
        Measure::Steering { prompt, tokens, .. } => prompt.len() + tokens,
        Measure::Speed {
            contexts, tokens, ..
        } => contexts.iter().copied().max().unwrap_or(0) + tokens + 1,
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
    let variant = request.variant.as_deref().map(str::parse);
    let assumptions = Assumptions {
        variant: variant.transpose().map_err(|_| "no such variant")?,
        ..Assumptions::default()
    };
    let mut quietly = |_| ();
    let load = Engine::load_assuming(config, weights, options, assumptions, &mut quietly);
    let mut engine = load.await?;
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
        Measure::Speed {
            contexts,
            tokens,
            rounds,
        } => speeds(&mut engine, contexts, *tokens, *rounds).await?,
    };
    let variant = engine.gpu().map(|gpu| gpu.variant().to_string());
    let bytes = engine.info().device_bytes;
    Ok(
        json!({ "adapter": adapter, "variant": variant, "device_bytes": bytes, "measured": measured }),
    )
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
            let profile = trimtab_engine::device::profile(engine, context, tokens).await?;
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
        ..SteeringPlan::default()
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

/// Seconds to the first token and from it to the last: for each context, each round's pair.
async fn speeds(
    engine: &mut Engine,
    contexts: &[usize],
    tokens: usize,
    rounds: usize,
) -> Result<Value, Failure> {
    let vocab = engine.config().vocab_size as u32;
    let plain = SteeringPlan::default();
    let mut measured = vec![Vec::new(); contexts.len()];
    // The first round pays for pages and pipelines.
    for round in 0..=rounds {
        for (times, &context) in measured.iter_mut().zip(contexts) {
            let prompt: Vec<u32> = (0..context as u32)
                .map(|i| (i * 7919 + 13) % vocab)
                .collect();
            let begun = Instant::now();
            let (first, rest) = answer(engine, &prompt, tokens + 1, &[], &plain).await?;
            if round > 0 {
                times.push([(first - begun).as_secs_f64(), rest]);
            }
        }
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
    Ok(answer(engine, prompt, max_tokens, directions, plan)
        .await?
        .1)
}

/// When the first token came, and the seconds from it to the last.
async fn answer(
    engine: &mut Engine,
    prompt: &[u32],
    max_tokens: usize,
    directions: &[LayerTable],
    plan: &SteeringPlan,
) -> Result<(Instant, f64), Failure> {
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
        [first, .., last] => Ok((first, (last - first).as_secs_f64())),
        _ => Err("the answer has fewer than two tokens".into()),
    }
}
