//! `trimtab link replay`: the author's tokens, forced through the model of this machine.

use crate::link::LinkArgument;
use crate::model::{ModelArguments, PrecisionArgument};
use crate::progress::{self, Terminal};
use crate::vectors::{load_vector, ready_made, replaced};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeMap;
use std::rc::Rc;
use trimtab_engine::{Backend, Engine, Layer, Precision};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::reading_block::ReadingBlock;
use trimtab_persona::recipe::link::Opened;
use trimtab_persona::recipe::replay::{Replayed, ReplayedAnswer, hexadecimal, vectors_of};
use trimtab_persona::recipe::{Recipe, VectorReference};
use trimtab_persona::vector_file::TraitVector;
use trimtab_studio::generation::SEQUENCES;
use trimtab_studio::jobs::replay;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    link: LinkArgument,
    /// `--precision` takes the place of the recipe's own
    #[command(flatten)]
    model: ModelArguments,
    /// A vector file (PATH or PATH#TENSOR) in which a trait of the link may be found by its hash, besides
    /// the ready-made ones. Repeatable
    #[arg(long, value_name = "FILE.safetensors")]
    vector: Vec<String>,
    /// Print agreement and readings
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    sentence: String,
    tokens: usize,
    agreed: usize,
    /// Largest distance from the readings in the link, which come in steps of half a deviation.
    readings_apart: Option<f32>,
    same_prompts: Option<bool>,
    backend: Backend,
    precision: Precision,
    adapter: String,
    answers: Vec<AnswerReport>,
}

#[derive(Serialize)]
struct AnswerReport {
    /// Index of the message.
    message: usize,
    text: String,
    ids: Vec<u32>,
    /// The token that this machine would have put in place of each.
    chosen: Vec<u32>,
    disagreements: Vec<Disagreement>,
    /// True if this machine would end the answer there too.
    ends: Option<bool>,
    /// Readings by trait: for each token of the answer, in calibrated deviations at every layer; null where
    /// there is no reading. By the unsteered model, and inside the run.
    readings: BTreeMap<String, Vec<Vec<f32>>>,
    readings_inside_run: BTreeMap<String, Vec<Vec<f32>>>,
}

#[derive(Serialize)]
struct Disagreement {
    /// Counted from the answer's first.
    token: usize,
    author: String,
    here: String,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let recipe = match arguments.link.open()? {
        Opened::Recipe(recipe) => recipe,
        Opened::Newer(newer) => bail!("{}", newer.sentence()),
    };
    let mut model = arguments.model.clone();
    model.precision = model.precision.or(Some(match recipe.precision {
        Precision::Exact => PrecisionArgument::Exact,
        Precision::Fast => PrecisionArgument::Fast,
    }));
    warn_of_other_weights(&recipe, &model)?;
    let mut session = model.session(Some(context(&recipe)), SEQUENCES)?;
    let chat = Rc::clone(&session.chat);
    if session.engine.info().precision != recipe.precision && arguments.model.precision.is_none() {
        progress::warn(
            "this executor has no such precision as the recipe's; small differences are to be expected",
        );
    }
    let vectors = load_vectors(&recipe, &arguments.vector, &session.engine)?;
    let tables: Vec<_> = vectors.iter().map(|vector| vector.table.clone()).collect();
    session.engine.set_directions(&tables)?;
    let direction = recipe
        .look
        .trait_name
        .as_ref()
        .and_then(|name| recipe.traits.iter().position(|one| one.name == *name));
    let mut watch = Terminal::new(|_| {});
    let replayed = replay::run(
        &mut session,
        &recipe,
        &vectors,
        &vectors,
        direction,
        &mut watch,
    );
    let replayed = pollster::block_on(replayed)?;
    progress::finish();
    if arguments.json {
        let report = report(&replayed, &recipe, &chat, &session.engine);
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&replayed, &chat);
    }
    Ok(())
}

fn warn_of_other_weights(recipe: &Recipe, model: &ModelArguments) -> Result<()> {
    let (author, here) = (hexadecimal(&recipe.model.sha256), model.weights_sha256()?);
    if author != here {
        progress::warn(&format!(
            "this link was made with {} (sha256 {}…), and the model here is another ({}…): its tokens can be read, but agreement means little",
            recipe.model.name,
            &author[..8],
            here.get(..8).unwrap_or(&here),
        ));
    }
    Ok(())
}

/// Room for the whole conversation; a message whose tokens are not known has at most one a byte.
fn context(recipe: &Recipe) -> usize {
    let tokens = |message: &trimtab_persona::recipe::RecipeMessage| {
        let known = message.tokens.as_ref().map_or(message.text.len(), Vec::len);
        // Tokenised afresh it may take a few more.
        2 * known + 64
    };
    256 + recipe.messages.iter().map(tokens).sum::<usize>()
}

fn load_vectors(recipe: &Recipe, also: &[String], engine: &Engine) -> Result<Vec<TraitVector>> {
    let needs_ready = recipe
        .traits
        .iter()
        .any(|one| matches!(one.vector, VectorReference::ReadyMade(_)));
    let mut here = Vec::new();
    if needs_ready {
        for name in also {
            here.push(load_vector(name, engine)?);
        }
        // One that does not fit this model is not the one that is looked for.
        here.extend(
            ready_made()
                .iter()
                .chain(&replaced())
                .filter_map(|name| load_vector(name, engine).ok()),
        );
    }
    let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
    vectors_of(recipe, &here, rows, width).context("the recipe's traits")
}

fn print(replayed: &Replayed, chat: &ChatText) {
    for answer in &replayed.answers {
        for disagreement in disagreements(answer, chat) {
            println!(
                "message {}, token {}: the author has {:?}, this machine would have chosen {:?}",
                answer.message, disagreement.token, disagreement.author, disagreement.here
            );
        }
        if answer.ends == Some(false) {
            println!(
                "message {}: this machine would have gone on",
                answer.message
            );
        }
    }
    println!("{}", replayed.agreement.sentence());
}

fn disagreements(answer: &ReplayedAnswer, chat: &ChatText) -> Vec<Disagreement> {
    let places = answer.disagreements().into_iter();
    places
        .map(|token| Disagreement {
            token,
            author: chat.pieces(&[answer.answer()[token]]).concat(),
            here: chat.pieces(&[answer.chosen[token]]).concat(),
        })
        .collect()
}

fn report(replayed: &Replayed, recipe: &Recipe, chat: &ChatText, engine: &Engine) -> Report {
    let info = engine.info();
    let answer = |answer: &ReplayedAnswer| AnswerReport {
        message: answer.message,
        text: chat.decode(answer.answer()),
        ids: answer.answer().iter().map(|id| id.0).collect(),
        chosen: answer.chosen.iter().map(|id| id.0).collect(),
        disagreements: disagreements(answer, chat),
        ends: answer.ends,
        readings: readings(&answer.reread, answer, recipe),
        readings_inside_run: readings(&answer.in_run, answer, recipe),
    };
    let agreement = &replayed.agreement;
    Report {
        sentence: agreement.sentence(),
        tokens: agreement.tokens,
        agreed: agreement.agreed,
        readings_apart: agreement.readings_apart,
        same_prompts: agreement.same_prompts,
        backend: info.backend,
        precision: info.precision,
        adapter: info.adapter.clone(),
        answers: replayed.answers.iter().map(answer).collect(),
    }
}

fn readings(
    block: &ReadingBlock,
    answer: &ReplayedAnswer,
    recipe: &Recipe,
) -> BTreeMap<String, Vec<Vec<f32>>> {
    let tokens = answer.conversation.prompt_length..answer.conversation.tokens.len();
    let of_trait = |direction: usize| {
        let layers = |token: usize| {
            (0..block.layer_rows as u32)
                .map(|layer| block.at(token, direction, Layer(layer)))
                .collect()
        };
        tokens.clone().map(layers).collect()
    };
    recipe
        .traits
        .iter()
        .enumerate()
        .map(|(direction, one)| (one.name.clone(), of_trait(direction)))
        .collect()
}
