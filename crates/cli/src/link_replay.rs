//! `trimtab link replay`: the author's tokens, forced through the model of this machine.

use crate::adapters::{AdapterFiles, directory_and_scale};
use crate::link::{LinkArgument, recipe_of};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{Terminal, wait, warn};
use crate::vectors::{load_vector, ready_made, replaced};
use anyhow::Result;
use clap::Args;
use serde::Serialize;
use trimtab_engine::{Backend, Precision};
use trimtab_persona::recipe::replay::hexadecimal;
use trimtab_persona::recipe::{Recipe, RecipeMessage, VectorReference};
use trimtab_persona::trait_vector::sha256;
use trimtab_persona::vector_file::TraitVector;
use trimtab_studio::generation::SEQUENCES;
use trimtab_studio::links::Replayed;
use trimtab_studio::session::Session;

#[derive(Debug, Args)]
pub struct RecipeArguments {
    #[command(flatten)]
    link: LinkArgument,
    /// `--precision` takes the place of the recipe's own; an adapter that the link names, known by its hash, acts where its plans say
    #[command(flatten)]
    pub model: ModelArguments,
    /// A vector file (PATH or PATH#TENSOR) in which a trait of the link may be found by its hash, besides
    /// the ready-made ones. Repeatable
    #[arg(long, value_name = "FILE.safetensors")]
    pub vector: Vec<String>,
}

impl RecipeArguments {
    /// The link's recipe, and a session with room for its conversation.
    pub fn open(&self) -> Result<(Recipe, Session)> {
        let recipe = recipe_of(&self.link)?;
        let mut model = self.model.clone();
        model.precision = model.precision.or(Some(recipe.precision));
        let mut named = Vec::new();
        let mut everywhere = Vec::new();
        for text in std::mem::take(&mut model.adapter) {
            let (directory, _) = directory_and_scale(&text)?;
            let files = AdapterFiles::read(directory)?;
            let hash = sha256(&files.weights);
            let mut known = recipe.adapters.iter();
            match known.find(|one| hexadecimal(&one.sha256) == hash) {
                Some(one) => named.push((one.name.clone(), files)),
                None => everywhere.push(text),
            }
        }
        model.adapter = everywhere;
        let mut session = model.session(Some(context(&recipe)), SEQUENCES)?;
        for (name, files) in named {
            files.add(&name, &mut session)?;
        }
        Ok((recipe, session))
    }
}

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    given: RecipeArguments,
    /// Print agreement and readings as the page has them, and the machine
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed {
    backend: Backend,
    precision: Precision,
    adapter: String,
    #[serde(flatten)]
    replayed: Replayed,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let given = &arguments.given;
    let (recipe, mut session) = given.open()?;
    warn_of_other_weights(&recipe, &session);
    let info = session.engine.info().clone();
    if info.precision != recipe.precision && given.model.precision.is_none() {
        warn(
            "this executor has no such precision as the recipe's; small differences are to be expected",
        );
    }
    let here = vectors_here(&recipe, &given.vector, &session)?;
    let replayed = wait(session.replay(&recipe, &here, &mut Terminal::quiet()))?;
    if arguments.json {
        return print_json(&Printed {
            backend: info.backend,
            precision: info.precision,
            adapter: info.adapter,
            replayed,
        });
    }
    print(&replayed);
    Ok(())
}

fn warn_of_other_weights(recipe: &Recipe, session: &Session) {
    let author = hexadecimal(&recipe.model.sha256);
    if !session.is_model(&author) {
        let here = &session.sha256;
        warn(&format!(
            "this link was made with {} (sha256 {}…), and the model here is another ({}…): its tokens can be read, but agreement means little",
            recipe.model.name,
            &author[..8],
            here.get(..8).unwrap_or(here),
        ));
    }
}

/// Room for the whole conversation; a message whose tokens are not known has at most one a byte.
fn context(recipe: &Recipe) -> usize {
    let tokens = |message: &RecipeMessage| {
        let known = message.tokens.as_ref().map_or(message.text.len(), Vec::len);
        // Tokenised afresh it may take a few more.
        2 * known + 64
    };
    let whole = |recipe: &Recipe| 256 + recipe.messages.iter().map(tokens).sum::<usize>();
    let other = recipe.other_column();
    whole(recipe).max(other.as_ref().map_or(0, whole))
}

/// Vectors among which the recipe's ready-made traits may be.
pub fn vectors_here(
    recipe: &Recipe,
    also: &[String],
    session: &Session,
) -> Result<Vec<TraitVector>> {
    let ready = |reference: &VectorReference| matches!(reference, VectorReference::ReadyMade(_));
    if !recipe.traits.iter().any(|one| ready(&one.vector)) {
        return Ok(Vec::new());
    }
    let also = also.iter().map(|name| load_vector(name, session));
    let mut here = also.collect::<Result<Vec<_>>>()?;
    // One that does not fit this model is not the one that is looked for.
    let known = ready_made().into_iter().chain(replaced());
    here.extend(known.filter_map(|name| load_vector(&name, session).ok()));
    Ok(here)
}

fn print(replayed: &Replayed) {
    let columns = [
        (&replayed.answers, ""),
        (&replayed.beside, ", other column"),
    ];
    let answers = columns
        .iter()
        .flat_map(|(answers, column)| answers.iter().map(move |answer| (answer, column)));
    for (answer, column) in answers {
        let authors = &answer.tokens[answer.answer_start..];
        for (token, (author, here)) in authors.iter().zip(&answer.chosen).enumerate() {
            if author.id != here.id {
                println!(
                    "message {}{column}, token {token}: the author has {:?}, this machine would have chosen {:?}",
                    answer.message, author.text, here.text
                );
            }
        }
        if answer.ends == Some(false) {
            println!(
                "message {}{column}: this machine would have gone on",
                answer.message
            );
        }
    }
    println!("{}", replayed.sentence);
}
