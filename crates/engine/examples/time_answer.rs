//! Times one greedy answer, or several side by side. Reads a [`Request`] as JSON from standard input and writes a [`Timing`];
//! `cargo xtask bench` runs it beside other runtimes, a process for each round.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use trimtab_checkpoint::manifest;
use trimtab_checkpoint::{FileSource, ModelConfig, Tokenizer, WeightFile};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::{
    Backend, Engine, EngineOptions, LayerTable, Precision, Sampler, SequenceIndex, SteeringPlan,
    TokenId,
};

type Failure = Box<dyn std::error::Error>;

#[derive(Debug, Deserialize)]
struct Request {
    /// A model directory.
    model: PathBuf,
    /// `gpu` or `cpu`
    backend: String,
    /// `exact` or `fast`
    precision: String,
    prompt: Vec<u32>,
    max_tokens: usize,
    /// How many directions are read at every layer of every token.
    directions: usize,
    /// How many sequences answer the prompt side by side.
    #[serde(default = "one")]
    sequences: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Serialize)]
struct Timing {
    prompt_tokens: usize,
    /// Tokens of all sequences.
    tokens: usize,
    first_token_s: f64,
    /// Tokens of all sequences after the first of each, over the time from the last of those to the last of all.
    decode_tok_s: f64,
    text: String,
}

fn main() -> Result<(), Failure> {
    let request: Request = serde_json::from_reader(io::stdin().lock())?;
    let mut engine = pollster::block_on(load(&request))?;
    let config = engine.config();
    let (rows, width) = (engine.layer_rows(), config.hidden_size);
    let tables: Vec<LayerTable> = (0..request.directions)
        .map(|direction| LayerTable::new(direction_values(direction, rows * width), width))
        .collect::<Result<_, _>>()?;
    engine.set_directions(&tables)?;
    // Pages of the weights are touched and pipelines made before anything is timed.
    pollster::block_on(answer(&mut engine, &request, 2))?;
    for sequence in 0..request.sequences {
        engine.clear(SequenceIndex(sequence))?;
    }
    let (mut timing, ids) = pollster::block_on(answer(&mut engine, &request, request.max_tokens))?;
    let tokenizer = std::fs::read(request.model.join(manifest::TOKENIZER))?;
    timing.text = Tokenizer::from_json(&tokenizer)?.decode(&ids);
    serde_json::to_writer(io::stdout().lock(), &timing)?;
    Ok(())
}

async fn load(request: &Request) -> Result<Engine, Failure> {
    let config = ModelConfig::from_json(&std::fs::read(request.model.join(manifest::CONFIG))?)?;
    let source = FileSource::open(&request.model.join(manifest::WEIGHTS))?;
    let weights = WeightFile::open(source).await?;
    let options = EngineOptions {
        backend: match request.backend.as_str() {
            "gpu" => Backend::Gpu,
            "cpu" => Backend::Cpu,
            other => return Err(format!("the backend is gpu or cpu, not {other}").into()),
        },
        precision: match request.precision.as_str() {
            "exact" => Precision::Exact,
            "fast" => Precision::Fast,
            other => return Err(format!("the precision is exact or fast, not {other}").into()),
        },
        context: Some(request.prompt.len() + request.max_tokens),
        sequences: request.sequences as usize,
    };
    Ok(Engine::load(&config, &weights, options, &mut |_| ()).await?)
}

/// The timing and the tokens of the answer, which every sequence must have given alike.
async fn answer(
    engine: &mut Engine,
    request: &Request,
    max_tokens: usize,
) -> Result<(Timing, Vec<u32>), Failure> {
    let end_tokens = engine.config().end_tokens.clone();
    let one = |sequence| GenerateRequest {
        sequence: SequenceIndex(sequence),
        prompt: request.prompt.iter().copied().map(TokenId).collect(),
        plan: SteeringPlan::default(),
        sampler: Sampler {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            repetition_penalty: 1.0,
            seed: 0,
        },
        max_tokens,
        end_tokens: end_tokens.iter().copied().map(TokenId).collect(),
    };
    let requests = (0..request.sequences).map(one).collect();
    let start = Instant::now();
    let mut first = None;
    let mut all_first = start;
    let mut last = start;
    let mut ids = vec![Vec::new(); request.sequences as usize];
    let mut run = Generation::start(engine, requests).await?;
    while let Some(event) = run.next(engine).await? {
        if let Event::Token {
            request,
            prediction,
            ..
        } = event
        {
            last = Instant::now();
            first.get_or_insert(last);
            if ids[request].is_empty() {
                all_first = last;
            }
            ids[request].push(prediction.chosen.0);
        }
    }
    let first = first.ok_or("the answer is empty: the prompt ends it at once")?;
    if ids.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err("side by side, sequences answered the same prompt differently".into());
    }
    let tokens: usize = ids.iter().map(Vec::len).sum();
    let timing = Timing {
        prompt_tokens: request.prompt.len(),
        tokens,
        first_token_s: (first - start).as_secs_f64(),
        decode_tok_s: tokens.saturating_sub(ids.len()) as f64 / (last - all_first).as_secs_f64(),
        text: String::new(),
    };
    Ok((timing, ids.swap_remove(0)))
}

/// Any numbers without a pattern that a kernel could profit from.
fn direction_values(direction: usize, count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| ((index * 7 + direction * 13) as f32 * 0.618_034).sin())
        .collect()
}
