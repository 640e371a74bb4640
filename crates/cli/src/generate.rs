//! `trimtab generate`: one answer, steered or not.

use crate::input::InputArguments;
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{self, Terminal};
use crate::vectors::{SteeringArguments, load_vector, ready_made};
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use std::rc::Rc;
use trimtab_engine::Sampler;
use trimtab_engine::record::MAX_DIRECTIONS;
use trimtab_studio::generation::{
    ColumnKind, ColumnRequest, ColumnResult, GenerateEvent, GenerateRequest,
};
use trimtab_studio::session::Session;
use trimtab_studio::verbs::{Event, Ids};

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
    /// Print "directions", and the column as the page has it: "tokens", "answerStart", "text", "readings" …
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
pub struct SamplerArguments {
    /// 0 is greedy
    #[arg(
        long,
        value_name = "T",
        allow_negative_numbers = true,
        default_value_t = 0.0
    )]
    temperature: f32,
    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,
    /// Keep the most likely tokens up to this probability
    #[arg(
        long,
        value_name = "P",
        allow_negative_numbers = true,
        default_value_t = 1.0
    )]
    top_p: f32,
    /// 1 is off
    #[arg(
        long,
        value_name = "R",
        allow_negative_numbers = true,
        default_value_t = 1.0
    )]
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

/// The answer that `--json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    /// Names of the traits whose readings there are, in their order.
    directions: Vec<&'a str>,
    #[serde(flatten)]
    column: ColumnResult,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let system = arguments.system.as_deref();
    let input = arguments.input.read(&arguments.model, system)?;
    let sampler = arguments.sampler.sampler()?;
    let context = input.ids.len().saturating_add(arguments.max_tokens);
    let model = arguments.model.fast_unless_told();
    let mut session = model.session_for_ids(Some(context))?;
    let plan = arguments.steering.load(&mut session, &arguments.read)?;
    add_ready_made(&mut session)?;
    let ids = input.messages.is_empty().then_some(Ids(input.ids));
    let request = GenerateRequest {
        columns: vec![ColumnRequest {
            column: ColumnKind::Steered,
            messages: input.messages,
            ids,
            plan,
            begun: None,
        }],
        sampler,
        max_tokens: arguments.max_tokens,
        reread: Some(false),
        readings: Some(true),
    };
    let chat = Rc::clone(&session.chat);
    let mut written = 0;
    let mut watch = Terminal::new(|event| {
        let Event::Generate(GenerateEvent::Token { token, .. }) = event else {
            return;
        };
        written += 1;
        if arguments.json {
            progress::show(&format!("writing: {written} tokens"));
        } else if chat.tokenizer.vocabulary_size() == 0 {
            print!("{} ", token.id);
        } else if !chat.tokenizer.is_special(token.id) {
            progress::finish();
            print!("{}", token.text);
        }
    });
    let results = progress::wait(session.generate(request, &mut watch))?;
    if !arguments.json {
        println!();
        return Ok(());
    }
    let column = results.into_iter().next();
    let directions = session.vectors().iter().map(|vector| vector.name.as_str());
    print_json(&Printed {
        directions: directions.collect(),
        column: column.context("the engine gave no answer")?,
    })
}

/// Adds the ready-made traits that fit the model, as far as the engine can read so many at once.
fn add_ready_made(session: &mut Session) -> Result<()> {
    let mut vectors = session.vectors().to_vec();
    for name in ready_made() {
        if vectors.len() < MAX_DIRECTIONS && vectors.iter().all(|vector| vector.name != name) {
            vectors.extend(load_vector(&name, session).ok());
        }
    }
    Ok(session.set_vectors(vectors)?)
}
