//! `trimtab link make`: answers, and the link that lets others see and replay them.

use crate::generate::SamplerArguments;
use crate::input::read_messages;
use crate::link_steering::{LinkSteering, Plan};
use crate::model::ModelArguments;
use crate::output::print_json;
use crate::progress::{self, Terminal};
use crate::vectors::SteeringArguments;
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use std::collections::VecDeque;
use std::path::PathBuf;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::{Sampler, TokenId};
use trimtab_persona::conversation::{ChatText, numbers};
use trimtab_persona::recipe::agreement::{keep_readings, readings_of_message};
use trimtab_persona::recipe::link::{MARKER, encode};
use trimtab_persona::recipe::replay::{Replayed, ReplayedAnswer, prompt_before, vectors_of};
use trimtab_persona::recipe::tokens::{RecipeToken, prompts_mark};
use trimtab_persona::recipe::{
    MAX_TOKENS, PlanChange, Recipe, RecipeMessage, RecipeRun, Role, TokenPlace,
};
use trimtab_studio::generation::{
    ColumnKind, ColumnRequest, ColumnResult, GenerateEvent, GenerateRequest, SEQUENCES,
};
use trimtab_studio::jobs::replay;
use trimtab_studio::session::Session;
use trimtab_studio::verbs::{Event, Ids};
use trimtab_studio::watch::{Asked, NewPlan, Watch};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// A message of the user; answered before the next one. Repeatable
    #[arg(long, value_name = "TEXT", required = true, allow_hyphen_values = true)]
    prompt: Vec<String>,
    /// Messages that come before, [{"role": "user", "content": "…"}, …] or {"messages": […]}
    #[arg(long, value_name = "FILE.json")]
    chat: Option<PathBuf>,
    /// A system prompt, in place of the template's own
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Longest answer
    #[arg(long, value_name = "N", default_value_t = 128)]
    max_tokens: u32,
    #[command(flatten)]
    sampler: SamplerArguments,
    #[command(flatten)]
    pub steering: SteeringArguments,
    /// Move a slider in the last answer: from its token N on, the plan is NAME=α@LAYERS instead
    /// (nothing after the colon: no push). Several of one N make one plan. Repeatable
    #[arg(
        long = "change",
        value_name = "N:[NAME=α@LAYERS]",
        allow_hyphen_values = true
    )]
    pub changes: Vec<String>,
    /// Write unsteered answers to the same prompts, too, and carry them beside the others
    #[arg(long)]
    both: bool,
    /// Carry the vectors in the link, in 8 bit for the layers that are used, also of ready-made traits
    #[arg(long)]
    pub inline: bool,
    /// Whose readings to show, NAME@LAYER [default: the first steered trait at its first layer]
    #[arg(long, value_name = "NAME@LAYER")]
    pub look: Option<String>,
    /// Show readings inside the run, with the push, rather than the unsteered model's
    #[arg(long)]
    pub inside_run: bool,
    /// Point at a token: message and token, both counted from 0
    #[arg(long, value_name = "MESSAGE:TOKEN")]
    token: Option<String>,
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub title: String,
    /// Plain text shown with the answer
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub note: String,
    /// A page's address to put the code behind [default: the code alone]
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Print {"link", "characters", "agreed", "tokens", "messages"}, each message with its ids and readings
    #[arg(long)]
    json: bool,
}

/// The link, and what it holds, as `--json` prints it.
#[derive(Serialize)]
struct Printed {
    /// Tokens that a replay chose too, at once and on this machine.
    agreed: usize,
    /// Length of the code alone.
    characters: usize,
    link: String,
    messages: Vec<PrintedMessage>,
    tokens: usize,
}

#[derive(Serialize)]
struct PrintedMessage {
    /// The other column's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Box<PrintedMessage>>,
    role: &'static str,
    text: String,
    ids: Vec<u32>,
    /// Readings of the trait and layer looked at, in calibrated deviations; null where there is none.
    readings: Vec<f32>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        arguments.max_tokens as usize <= MAX_TOKENS,
        "--max-tokens must be at most {MAX_TOKENS}: a link holds no more"
    );
    let sampler = arguments.sampler.sampler()?;
    let model = &arguments.model;
    let mut session = model.session(Some(context(arguments)?), SEQUENCES)?;
    let steering = LinkSteering::load(arguments, &mut session)?;
    let mut recipe = steering.recipe(arguments, &session, before(arguments)?)?;
    let mut other = arguments.both.then(|| recipe.clone());
    let (rows, width) = (
        session.engine.layer_rows(),
        session.engine.config().hidden_size,
    );
    // What is shared is what runs: an inline vector as the link carries it.
    let vectors = vectors_of(&recipe, &steering.vectors, rows, width)?;
    session.set_vectors(vectors.clone())?;
    let mut all_changes = vec![Vec::new(); arguments.prompt.len()];
    *all_changes.last_mut().context("there is no prompt")? = steering.changes();
    let how = (sampler, arguments.max_tokens);
    let plan = steering.plan();
    let prompts = converse(
        &mut session,
        &mut recipe,
        arguments,
        how,
        (&plan, all_changes),
    )?;
    recipe.prompts = Some(prompts_mark(prompts.iter().map(Vec::as_slice)));
    if let Some(other) = &mut other {
        let unchanged = vec![Vec::new(); arguments.prompt.len()];
        converse(
            &mut session,
            other,
            arguments,
            how,
            (&Vec::new(), unchanged),
        )?;
        for (message, beside) in recipe.messages.iter_mut().zip(&other.messages) {
            message.beside = beside.run.is_some().then(|| Box::new(beside.clone()));
        }
    }
    recipe.look.token = arguments.token.as_deref().map(parse_place).transpose()?;
    let look = recipe.look.trait_name.as_ref();
    let look = look.and_then(|name| recipe.traits.iter().position(|one| one.name == *name));
    // The readings to show, and a look at whether the link does what it promises.
    let mut watch = Terminal::quiet();
    let replayed = replay::run(&mut session, &recipe, &vectors, &vectors, look, &mut watch);
    let replayed = progress::wait(replayed)?;
    keep_readings(&mut recipe, &replayed.answers, look);
    if let Some(mut other) = recipe.other_column() {
        keep_readings(&mut other, &replayed.beside, look);
        for (message, other) in recipe.messages.iter_mut().zip(other.messages) {
            if let Some(beside) = &mut message.beside {
                **beside = other;
            }
        }
    }
    print(arguments, &recipe, &replayed, look)
}

/// Writes an answer to each prompt into the recipe, the changes of plan in `changes` made in it. Gives the tokens that each
/// began with.
fn converse(
    session: &mut Session,
    recipe: &mut Recipe,
    arguments: &Arguments,
    (sampler, max_tokens): (Sampler, u32),
    (plan, changes): (&Plan, Vec<Vec<(usize, Plan)>>),
) -> Result<Vec<Vec<TokenId>>> {
    let mut prompts = Vec::new();
    for (text, changes) in arguments.prompt.iter().zip(changes) {
        recipe.messages.push(given(Role::User, text));
        let prompt = take_tokens(recipe, &session.chat)?;
        let (answer, changes) = write(
            session,
            (&prompt, plan.clone()),
            (sampler, max_tokens),
            changes,
        )?;
        let run = RecipeRun {
            sampler,
            max_tokens,
            plan: plan.clone(),
            changes,
            end: answer.reason,
        };
        recipe.messages.push(answered(&answer, run));
        prompts.push(prompt);
    }
    Ok(prompts)
}

fn print(
    arguments: &Arguments,
    recipe: &Recipe,
    replayed: &Replayed,
    look: Option<usize>,
) -> Result<()> {
    let code = encode(recipe)?;
    let link = match &arguments.base {
        Some(base) => format!("{}{MARKER}{code}", base.trim_end_matches('#')),
        None => code.clone(),
    };
    if !arguments.json {
        for (_, message, _) in recipe.answers() {
            eprintln!("{}\n", message.text);
        }
        let sentence = replayed.agreement.sentence();
        eprintln!("{} characters; replayed: {sentence}", code.len());
        println!("{link}");
        return Ok(());
    }
    let printed = |recipe: &Recipe, answers: &[ReplayedAnswer], index: usize| {
        let message = &recipe.messages[index];
        let tokens = message.tokens.iter().flatten();
        PrintedMessage {
            beside: None,
            role: message.role.name(),
            text: message.text.clone(),
            ids: tokens.map(|token| token.id.0).collect(),
            readings: readings_of_message(answers, recipe, look, index),
        }
    };
    let other = recipe.other_column();
    let message = |index: usize| {
        let beside = other
            .as_ref()
            .filter(|_| recipe.messages[index].beside.is_some())
            .map(|other| Box::new(printed(other, &replayed.beside, index)));
        PrintedMessage {
            beside,
            ..printed(recipe, &replayed.answers, index)
        }
    };
    print_json(&Printed {
        agreed: replayed.agreement.agreed,
        characters: code.len(),
        link,
        messages: (0..recipe.messages.len()).map(message).collect(),
        tokens: replayed.agreement.tokens,
    })
}

/// Room for everything that is said; a token has at least one byte.
fn context(arguments: &Arguments) -> Result<usize> {
    let mut bytes: usize = arguments.prompt.iter().map(String::len).sum();
    bytes += arguments.system.as_ref().map_or(0, String::len);
    for message in before(arguments)? {
        bytes += message.text.len() + 32;
    }
    let answers = arguments.prompt.len();
    Ok(bytes + answers * (arguments.max_tokens as usize + 64) + 256)
}

/// Messages before the first prompt.
fn before(arguments: &Arguments) -> Result<Vec<RecipeMessage>> {
    let mut messages = Vec::new();
    if let Some(system) = &arguments.system {
        messages.push(given(Role::System, system));
    }
    let Some(path) = &arguments.chat else {
        return Ok(messages);
    };
    for message in read_messages(path)? {
        let role = match message.role.as_str() {
            "system" if arguments.system.is_some() => continue,
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => bail!("{}: a link has no messages by {other:?}", path.display()),
        };
        messages.push(given(role, &message.content));
    }
    Ok(messages)
}

fn given(role: Role, text: &str) -> RecipeMessage {
    RecipeMessage {
        role,
        text: text.to_owned(),
        tokens: None,
        run: None,
        beside: None,
    }
}

/// Renders the recipe up to where the next answer begins, and keeps the tokens that new messages got.
pub fn take_tokens(recipe: &mut Recipe, chat: &ChatText) -> Result<Vec<TokenId>> {
    let (prompt, places) = prompt_before(recipe, recipe.messages.len(), chat)?;
    let pieces = chat.pieces(&prompt.tokens);
    for (message, place) in recipe.messages.iter_mut().zip(places) {
        if let (None, Some(place)) = (&message.tokens, place) {
            let token = |index: usize| RecipeToken {
                id: prompt.tokens[index],
                text: pieces[index].clone(),
                reading: None,
            };
            set_tokens(message, place.map(token).collect());
        }
    }
    Ok(prompt.tokens)
}

/// Gives a message its tokens, and the text that they spell.
fn set_tokens(message: &mut RecipeMessage, tokens: Vec<RecipeToken>) {
    message.text = tokens.iter().map(|token| token.text.as_str()).collect();
    message.tokens = Some(tokens);
}

pub fn answered(answer: &ColumnResult, run: RecipeRun) -> RecipeMessage {
    let mut message = given(Role::Assistant, "");
    let tokens = answer.tokens[answer.answer_start..].iter();
    let token = |token: &trimtab_studio::tokens::Token| RecipeToken {
        id: TokenId(token.id),
        text: token.text.clone(),
        reading: None,
    };
    set_tokens(&mut message, tokens.map(token).collect());
    message.run = Some(run);
    message
}

/// Asks for each change of plan as soon as its token is the next to be queued.
struct Sliding<'a> {
    terminal: Terminal<'a>,
    /// Changes that are not made yet, by their tokens.
    changes: VecDeque<(usize, Plan)>,
    written: usize,
    /// Tokens at which the last change was asked for, and acts.
    acts: (usize, usize),
}

impl Watch for Sliding<'_> {
    fn tell(&mut self, event: Event) {
        match event {
            Event::Generate(GenerateEvent::Token { .. }) => {
                self.written += 1;
                progress::show(&format!("writing: {} tokens", self.written));
            }
            Event::Generate(GenerateEvent::Segment { from_token, .. }) => self.acts.1 = from_token,
            other => self.terminal.tell(other),
        }
    }

    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        // The token just written is the next one that is read.
        let due = self
            .changes
            .front()
            .is_some_and(|(from, _)| *from < self.written);
        let plan = due.then(|| self.changes.pop_front()).flatten();
        let plan = plan.map(|(from, terms)| {
            self.acts = (from, from);
            // Every plan was checked before the answer was begun.
            let answer = Box::new(|_| {});
            NewPlan { terms, answer }
        });
        let stop = self.acts.0 != self.acts.1;
        Box::pin(std::future::ready(Asked { plan, stop }))
    }

    fn seconds(&self) -> f64 {
        self.terminal.seconds()
    }
}

/// Writes one answer, and gives the changes that were made, the answer having been long enough. A device that queues tokens
/// ahead would make one later than asked, and is refused.
pub fn write(
    session: &mut Session,
    (prompt, plan): (&[TokenId], Plan),
    (sampler, max_tokens): (Sampler, u32),
    changes: Vec<(usize, Plan)>,
) -> Result<(ColumnResult, Vec<PlanChange>)> {
    for (_, plan) in &changes {
        session.plan(plan)?;
    }
    let request = GenerateRequest {
        columns: vec![ColumnRequest {
            column: ColumnKind::Steered,
            messages: Vec::new(),
            ids: Some(Ids(numbers(prompt))),
            plan,
            begun: None,
        }],
        sampler,
        max_tokens: max_tokens as usize,
        reread: Some(false),
        readings: None,
    };
    let mut watch = Sliding {
        terminal: Terminal::quiet(),
        changes: changes.iter().cloned().collect(),
        written: 0,
        acts: (0, 0),
    };
    let answers = progress::wait(session.generate(request, &mut watch))?;
    let (asked, acts) = watch.acts;
    ensure!(
        acts == asked,
        "this device works on several tokens ahead, so that the change at token {asked} would act from token {acts} on; make \
         the link with --backend cpu"
    );
    if let Some((late, _)) = watch.changes.front() {
        progress::warn(&format!(
            "the answer ended before its token {late}, so that changes from there on are left out"
        ));
    }
    let made = changes.len() - watch.changes.len();
    let changes = changes.into_iter().take(made);
    let answer = answers.into_iter().next();
    Ok((
        answer.context("the engine gave no answer")?,
        changes
            .map(|(from, plan)| PlanChange {
                from: from as i32,
                plan,
            })
            .collect(),
    ))
}

fn parse_place(text: &str) -> Result<TokenPlace> {
    let place = text.split_once(':').and_then(|(message, token)| {
        Some(TokenPlace {
            message: message.parse().ok()?,
            token: token.parse().ok()?,
        })
    });
    place.with_context(|| format!("{text:?} is not MESSAGE:TOKEN, two numbers"))
}
