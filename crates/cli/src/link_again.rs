//! `trimtab link again`: the answers of a link, written anew here with its settings, and the link of these.

use crate::link_make::{answered, take_tokens, write};
use crate::link_replay::{RecipeArguments, vectors_here};
use crate::progress::{Terminal, wait};
use anyhow::{Result, ensure};
use trimtab_persona::recipe::RecipeRun;
use trimtab_persona::recipe::agreement::keep_readings;
use trimtab_persona::recipe::link::encode;
use trimtab_persona::recipe::replay::{hexadecimal, vectors_of};
use trimtab_persona::recipe::tokens::prompts_mark;
use trimtab_studio::jobs::replay;

pub fn run(arguments: &RecipeArguments) -> Result<()> {
    let (mut recipe, mut session) = arguments.open()?;
    ensure!(
        session.is_model(&hexadecimal(&recipe.model.sha256)),
        "this link was made with {}, and the model here is another",
        recipe.model.name
    );
    let here = vectors_here(&recipe, &arguments.vector, &session)?;
    let (rows, width) = (
        session.engine.layer_rows(),
        session.engine.config().hidden_size,
    );
    let vectors = vectors_of(&recipe, &here, rows, width)?;
    session.set_vectors(vectors.clone())?;
    recipe.precision = session.engine.info().precision;
    let mut prompts = Vec::new();
    for message in std::mem::take(&mut recipe.messages) {
        let Some(run) = message.run else {
            recipe.messages.push(message);
            continue;
        };
        let prompt = take_tokens(&mut recipe, &session.chat)?;
        let changes = run.changes.iter();
        let changes = changes
            .map(|change| Ok((usize::try_from(change.from)?, change.plan.clone())))
            .collect::<Result<_>>()?;
        let how = (run.sampler, run.max_tokens);
        let (answer, changes) = write(&mut session, (&prompt, run.plan.clone()), how, changes)?;
        recipe.messages.push(answered(
            &answer,
            RecipeRun {
                changes,
                end: answer.reason,
                ..run
            },
        ));
        prompts.push(prompt);
    }
    recipe.prompts = Some(prompts_mark(prompts.iter().map(Vec::as_slice)));
    let look = recipe.look.trait_name.as_ref();
    let look = look.and_then(|name| recipe.traits.iter().position(|one| one.name == *name));
    let mut watch = Terminal::quiet();
    let replayed = replay::run(&mut session, &recipe, &vectors, &vectors, look, &mut watch);
    let replayed = wait(replayed)?;
    keep_readings(&mut recipe, &replayed.answers, look);
    for (_, message, _) in recipe.answers() {
        eprintln!("{}\n", message.text);
    }
    println!("{}", encode(&recipe)?);
    Ok(())
}
