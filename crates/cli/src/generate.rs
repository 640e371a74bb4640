//! `trimtab generate`: one answer, steered or not.

use crate::input::InputArguments;
use crate::model::{ModelArguments, end_tokens};
use crate::progress;
use crate::vectors::{Steering, SteeringArguments, load_vector, ready_made};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use trimtab_checkpoint::Tokenizer;
use trimtab_engine::generate::{Answer, Event, GenerateRequest, Generation};
use trimtab_engine::record::MAX_DIRECTIONS;
use trimtab_engine::{Engine, Sampler, SequenceIndex, TokenId};
use trimtab_persona::conversation::numbers;
use trimtab_persona::vector_file::TraitVector;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    input: InputArguments,
    /// A system prompt, in place of the template's own
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Longest answer
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: usize,
    #[command(flatten)]
    sampler: SamplerArguments,
    #[command(flatten)]
    steering: SteeringArguments,
    /// Also read this direction (a ready-made trait or a vector file); the ready-made traits that fit
    /// the model are always read. Repeatable
    #[arg(long, value_name = "NAME")]
    read: Vec<String>,
    /// Print {"prompt_ids", "ids", "text", "readings"}
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SamplerArguments {
    /// 0 is greedy
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Keep the most likely tokens up to this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// 1 is off
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f32,
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u32,
}

impl SamplerArguments {
    pub fn sampler(&self) -> Result<Sampler> {
        let sampler = Sampler {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
        };
        Ok(sampler.checked()?)
    }
}

#[derive(Debug, Serialize)]
struct Generated {
    prompt_ids: Vec<u32>,
    /// The new tokens only, without the one that ended the answer.
    ids: Vec<u32>,
    /// Empty where the model directory has no tokenizer.
    text: String,
    /// Readings by direction: for every token of prompt and answer, `h_l · v̂_l` at every layer,
    /// `[prompt_ids + ids, L+1]`, `h_l` taken after that layer's change.
    readings: BTreeMap<String, Vec<Vec<f32>>>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let prompt = arguments
        .input
        .tokens(&arguments.model, arguments.system.as_deref())?;
    let sampler = arguments.sampler.sampler()?;
    let mut engine = arguments
        .model
        .fast_unless_told()
        .engine(Some(prompt.len().saturating_add(arguments.max_tokens)), 1)?;
    let Steering { mut vectors, plan } =
        arguments
            .steering
            .load(&engine, &arguments.model, &arguments.read)?;
    add_ready_made(&mut vectors, &engine);
    let tables: Vec<_> = vectors.iter().map(|vector| vector.table.clone()).collect();
    engine.set_directions(&tables)?;
    let request = GenerateRequest {
        sequence: SequenceIndex(0),
        prompt,
        plan,
        sampler,
        max_tokens: arguments.max_tokens,
        end_tokens: end_tokens(engine.config()),
    };
    let prompt_ids = numbers(&request.prompt);
    let tokenizer = arguments.model.tokenizer()?;
    let is_special = |id| {
        let tokenizer = tokenizer.as_ref();
        tokenizer.is_some_and(|tokenizer| tokenizer.is_special(id))
    };
    let mut pieces = tokenizer.as_ref().map(Tokenizer::piece_stream);
    let mut show = |token: TokenId| match &mut pieces {
        Some(_) if is_special(token.0) => String::new(),
        Some(pieces) => pieces.push(token.0),
        None => format!("{} ", token.0),
    };
    let answer = pollster::block_on(write(
        &mut engine,
        request,
        (!arguments.json).then_some(&mut show),
    ))?;
    let readings = vectors
        .iter()
        .enumerate()
        .map(|(direction, vector)| (vector.name.clone(), readings_of(&answer, direction)))
        .collect();
    let ids = numbers(&answer.tokens);
    // The text is the same as the one printed piece by piece: a character that was never finished is not there.
    let ordinary: Vec<u32> = ids.iter().copied().filter(|id| !is_special(*id)).collect();
    let text = tokenizer
        .as_ref()
        .map(|tokenizer| tokenizer.pieces(&ordinary).concat());
    let generated = Generated {
        prompt_ids,
        ids,
        text: text.unwrap_or_default(),
        readings,
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&generated)?);
    }
    Ok(())
}

/// Adds the ready-made traits that fit the model, as far as the engine can read so many at once.
fn add_ready_made(vectors: &mut Vec<TraitVector>, engine: &Engine) {
    for name in ready_made() {
        if vectors.len() < MAX_DIRECTIONS && vectors.iter().all(|vector| vector.name != name) {
            vectors.extend(load_vector(&name, engine).ok());
        }
    }
}

/// Runs the request; `show` turns a token into what is printed as it comes.
async fn write(
    engine: &mut Engine,
    request: GenerateRequest,
    mut show: Option<&mut dyn FnMut(TokenId) -> String>,
) -> Result<Answer> {
    let mut run = Generation::start(engine, vec![request]).await?;
    while let Some(event) = run.next(engine).await? {
        match event {
            Event::Prompt { done, total } => {
                progress::show(&format!("reading the prompt: {done} of {total} tokens"))
            }
            Event::Token {
                position,
                prediction,
                ..
            } => match &mut show {
                Some(show) => {
                    progress::finish();
                    print!("{}", show(prediction.chosen));
                }
                None => progress::show(&format!("writing: token {}", position.0)),
            },
            _ => {}
        }
    }
    progress::finish();
    if show.is_some() {
        println!();
    }
    let answer = run.finish(engine).await?.into_iter().next();
    answer.ok_or_else(|| anyhow::anyhow!("the engine gave no answer"))
}

fn readings_of(answer: &Answer, direction: usize) -> Vec<Vec<f32>> {
    answer
        .records
        .iter()
        .map(|record| {
            let rows = record.readings.layer_rows;
            record.readings.values[direction * rows..][..rows].to_vec()
        })
        .collect()
}
