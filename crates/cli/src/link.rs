//! `trimtab link`: recipes as links. Make one, show what one holds, check it, replay it here.

use crate::output::print_json;
use crate::progress::printable;
use crate::{link_again, link_make, link_replay};
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use std::io::{IsTerminal, Read};
use std::process::ExitCode;
use trimtab_engine::Precision;
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::recipe::link::{LinkContent, MAX_CODE_CHARS, decode};
use trimtab_persona::recipe::newer::Newer;
use trimtab_persona::recipe::replay::hexadecimal;
use trimtab_persona::recipe::view::RecipeView;
use trimtab_persona::recipe::{Recipe, RecipeRun, VectorReference};

/// Exit code for a link that is not sound.
const UNSOUND: u8 = 2;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Answer, and make a link of it.
    Make(Box<link_make::Arguments>),
    /// Show what a link holds; no model is needed.
    Show {
        #[command(flatten)]
        link: LinkArgument,
        /// Print the recipe as a plain object
        #[arg(long)]
        json: bool,
    },
    /// Force the author's tokens through the model here, and say where it would have chosen others.
    Replay(Box<link_replay::Arguments>),
    /// Write the answers of a link anew here, with its settings, and make a link of these.
    Again(Box<link_replay::RecipeArguments>),
    /// Check whether a link is sound: exit code 0, or 2 with one sentence.
    Check {
        #[command(flatten)]
        link: LinkArgument,
    },
}

#[derive(Clone, Debug, Args)]
pub struct LinkArgument {
    /// The link, or its code alone [default: standard input]
    #[arg(value_name = "LINK")]
    link: Option<String>,
}

impl LinkArgument {
    /// The link's text, from standard input where none is given (or `-`).
    pub fn text(&self) -> Result<String> {
        if let Some(link) = self.link.as_deref().filter(|link| *link != "-") {
            return Ok(link.to_owned());
        }
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("Paste the link, then end the input (Ctrl-D).");
        }
        let mut text = String::new();
        // One more than is opened, so that what is longer is refused as such.
        input
            .take(2 * MAX_CODE_CHARS as u64)
            .read_to_string(&mut text)
            .context("standard input is no text")?;
        Ok(text)
    }

    /// Opens the link.
    pub fn open(&self) -> Result<LinkContent> {
        Ok(decode(&self.text()?)?)
    }
}

/// The recipe in a link; one of a newer version is refused.
pub fn recipe_of(link: &LinkArgument) -> Result<Recipe> {
    match link.open()? {
        LinkContent::Recipe(recipe) => Ok(*recipe),
        LinkContent::Newer(newer) => bail!("{}", newer.sentence()),
    }
}

pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.verb {
        Verb::Make(make) => link_make::run(make)?,
        Verb::Show { link, json } => show(link, *json)?,
        Verb::Replay(replay) => link_replay::run(replay)?,
        Verb::Again(again) => link_again::run(again)?,
        Verb::Check { link } => return Ok(check(link)),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(link: &LinkArgument) -> ExitCode {
    let sentence = match link.open() {
        Ok(LinkContent::Recipe(recipe)) => {
            println!("sound: {}", in_short(&recipe));
            return ExitCode::SUCCESS;
        }
        Ok(LinkContent::Newer(newer)) => newer.sentence(),
        Err(error) => format!("{error:#}"),
    };
    // One line, whatever names the JSON parser quotes from the link.
    eprintln!("trimtab: {}", printable(&sentence.replace('\n', " ")));
    ExitCode::from(UNSOUND)
}

fn in_short(recipe: &Recipe) -> String {
    let other = recipe.other_column();
    let answers = || {
        let other = other.iter().flat_map(Recipe::answers);
        recipe.answers().chain(other)
    };
    let tokens: usize = answers()
        .filter_map(|(_, message, _)| message.tokens.as_ref())
        .map(Vec::len)
        .sum();
    let traits: Vec<&str> = recipe.traits.iter().map(|one| one.name.as_str()).collect();
    let traits = match traits.len() {
        0 => "no trait".to_owned(),
        _ => traits.join(", "),
    };
    let answers = answers().count();
    format!(
        "{answers} answers with {tokens} tokens by {}, {traits}",
        recipe.model.name
    )
}

fn show(link: &LinkArgument, json: bool) -> Result<()> {
    match link.open()? {
        LinkContent::Newer(newer) => show_newer(&newer, json)?,
        LinkContent::Recipe(recipe) if json => {
            print_json(&RecipeView::from(recipe.as_ref()))?;
        }
        LinkContent::Recipe(recipe) => show_recipe(&recipe),
    }
    Ok(())
}

fn show_newer(newer: &Newer, json: bool) -> Result<()> {
    eprintln!("trimtab: {}", newer.sentence());
    let messages: Vec<_> = newer
        .messages
        .iter()
        .map(|(role, text)| serde_json::json!({"role": role.name(), "text": text}))
        .collect();
    if json {
        let Newer {
            version,
            model,
            title,
            note,
            ..
        } = newer;
        let object = serde_json::json!({
            "version": version, "model": model, "title": title, "note": note, "messages": messages
        });
        print_json(&object)?;
        return Ok(());
    }
    for line in [&newer.title, &newer.note]
        .into_iter()
        .filter(|line| !line.is_empty())
    {
        println!("{}\n", printable(line));
    }
    for (role, text) in &newer.messages {
        println!("{}: {}\n", role.name(), printable(text));
    }
    Ok(())
}

fn show_recipe(recipe: &Recipe) {
    let look = &recipe.look;
    for line in [&look.title, &look.note]
        .into_iter()
        .filter(|line| !line.is_empty())
    {
        println!("{}\n", printable(line));
    }
    for message in &recipe.messages {
        for message in std::iter::once(message).chain(message.beside.as_deref()) {
            if let Some(run) = &message.run {
                println!("{}", describe_run(run));
            }
            println!("{}: {}\n", message.role.name(), printable(&message.text));
        }
    }
    if let Some(sentence) = recipe.lacks() {
        println!("{}\n", printable(&sentence));
    }
    let precision = match recipe.precision {
        Precision::Exact => "exact",
        Precision::Fast => "fast",
    };
    let sha256 = hexadecimal(&recipe.model.sha256);
    println!(
        "model: {} (sha256 {sha256}), {precision}",
        printable(&recipe.model.name)
    );
    for one in &recipe.traits {
        match &one.vector {
            VectorReference::ReadyMade(hash) => {
                println!(
                    "trait: {}, ready-made (sha256 {})",
                    printable(&one.name),
                    hexadecimal(hash)
                );
            }
            VectorReference::Inline(vector) => {
                let layers: Vec<String> = vector
                    .rows
                    .iter()
                    .map(|row| row.layer.0.to_string())
                    .collect();
                println!(
                    "trait: {}, in the link for layers {}. {} {}",
                    printable(&one.name),
                    layers.join(", "),
                    printable(&vector.description),
                    printable(&vector.made),
                );
            }
        }
    }
    if let (Some(name), Some(layer)) = (&look.trait_name, look.layer) {
        let inside = if look.inside_run {
            ", inside the run"
        } else {
            ""
        };
        println!("look at: {} at {layer}{inside}", printable(name));
    }
}

fn describe_run(run: &RecipeRun) -> String {
    let sampler = &run.sampler;
    let how = match sampler.temperature > 0.0 {
        true => format!("temperature {}, seed {}", sampler.temperature, sampler.seed),
        false => "greedy".to_owned(),
    };
    let mut text = format!("[{how}; {}", describe_plan(&run.plan));
    for change in &run.changes {
        text += &format!(
            "; from token {} on {}",
            change.from,
            describe_plan(&change.plan)
        );
    }
    text + "]"
}

fn describe_plan(plan: &[NamedTerm]) -> String {
    if plan.is_empty() {
        return "unsteered".to_owned();
    }
    let terms = plan.iter().map(|term| printable(&term.to_string()));
    terms.collect::<Vec<_>>().join(" ")
}
