//! `trimtab link make`: answers, and the link that lets others see and replay them.

use crate::generate::SamplerArguments;
use crate::input::read_messages;
use crate::model::{ModelArguments, end_tokens};
use crate::progress::{self, Terminal};
use crate::vectors::{SteeringArguments, open_vector, ready_made};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use trimtab_engine::generate::{Answer, Event, GenerateRequest, Generation};
use trimtab_engine::{Engine, Layer, SteeringPlan};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::plan::{NamedTerm, parse_layers, resolve};
use trimtab_persona::recipe::agreement::{keep_readings, readings_of_message};
use trimtab_persona::recipe::inline_vector::InlineVector;
use trimtab_persona::recipe::link::{MARKER, encode};
use trimtab_persona::recipe::replay::{Replayed, prompt_before, vectors_of};
use trimtab_persona::recipe::tokens::{RecipeToken, prompts_mark};
use trimtab_persona::recipe::view::read_hexadecimal;
use trimtab_persona::recipe::{
    Look, ModelReference, PlanChange, Recipe, RecipeMessage, RecipeRun, RecipeTrait, Role,
    VectorReference,
};
use trimtab_persona::vector_file::TraitVector;
use trimtab_studio::generation::{ColumnKind, SEQUENCES};
use trimtab_studio::jobs::replay;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
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
    steering: SteeringArguments,
    /// Move a slider in the last answer: from its token N on, the plan is NAME=α@LAYERS instead
    /// (nothing after the colon: no push). Several of one N make one plan. Repeatable
    #[arg(
        long = "change",
        value_name = "N:[NAME=α@LAYERS]",
        allow_hyphen_values = true
    )]
    changes: Vec<String>,
    /// Carry the vectors in the link, in 8 bit for the layers that are used, also of ready-made traits
    #[arg(long)]
    inline: bool,
    /// Whose readings to show, NAME@LAYER [default: the first steered trait at its first layer]
    #[arg(long, value_name = "NAME@LAYER")]
    look: Option<String>,
    /// Show readings inside the run, with the push, rather than the unsteered model's
    #[arg(long)]
    inside_run: bool,
    /// Point at a token: message and token, both counted from 0
    #[arg(long, value_name = "MESSAGE:TOKEN")]
    token: Option<String>,
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    title: String,
    /// Plain text shown with the answer
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true
    )]
    note: String,
    /// A page's address to put the code behind [default: the code alone]
    #[arg(long, value_name = "URL")]
    base: Option<String>,
    /// Print {"link", "characters", "agreed", "tokens", "messages"}, each message with its ids and readings
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Made {
    /// Tokens that a replay chose too, at once and on this machine.
    agreed: usize,
    /// Length of the code alone.
    characters: usize,
    link: String,
    messages: Vec<MadeMessage>,
    tokens: usize,
}

#[derive(Serialize)]
struct MadeMessage {
    role: &'static str,
    text: String,
    ids: Vec<u32>,
    /// Readings of the trait and layer looked at, in calibrated deviations; null where there is none.
    readings: Vec<f32>,
}

/// Terms of a plan, by the names of the command line.
type Plan = Vec<NamedTerm>;

/// The steering that the command line asks for, its vectors loaded.
struct Wanted {
    plan: Plan,
    changes: BTreeMap<usize, Plan>,
    /// Name on the command line, and whose readings are shown at which layer.
    look: Option<(String, Layer)>,
    /// Command-line names with the recipe's traits.
    traits: Vec<(String, RecipeTrait)>,
    ready: Vec<TraitVector>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let sampler = arguments.sampler.sampler()?;
    let mut session = arguments
        .model
        .session(Some(context(arguments)?), SEQUENCES)?;
    let chat = Rc::clone(&session.chat);
    let engine = &mut session.engine;
    let wanted = Wanted::load(arguments, engine)?;
    let mut recipe = wanted.recipe(arguments, engine)?;
    let (rows, width) = (engine.layer_rows(), engine.config().hidden_size);
    // What is shared is what runs: an inline vector as the link carries it.
    let vectors = vectors_of(&recipe, &wanted.ready, rows, width)?;
    let tables: Vec<_> = vectors.iter().map(|vector| vector.table.clone()).collect();
    engine.set_directions(&tables)?;
    let plan = wanted.renamed(&wanted.plan);
    let mut prompts = Vec::new();
    for (index, text) in arguments.prompt.iter().enumerate() {
        let last = index + 1 == arguments.prompt.len();
        let changes: BTreeMap<usize, Plan> = match last {
            true => wanted
                .changes
                .iter()
                .map(|(from, plan)| (*from, wanted.renamed(plan)))
                .collect(),
            false => BTreeMap::new(),
        };
        recipe.messages.push(given(Role::User, text));
        let prompt = take_tokens(&mut recipe, &chat)?;
        let request = GenerateRequest {
            sequence: ColumnKind::Steered.sequence(),
            prompt: prompt.clone(),
            plan: resolve(&plan, &vectors, rows)?,
            sampler,
            max_tokens: arguments.max_tokens as usize,
            end_tokens: end_tokens(engine.config()),
        };
        let resolved = changes
            .iter()
            .map(|(from, plan)| Ok((*from, resolve(plan, &vectors, rows)?)))
            .collect::<Result<Vec<_>>>()?;
        let (answer, opened) = pollster::block_on(write(engine, request, resolved))?;
        if let Some(late) = changes.keys().nth(opened) {
            progress::warn(&format!(
                "the answer ended before its token {late}, so that changes from there on are left out"
            ));
        }
        let plans = changes.iter().take(opened).map(|(from, plan)| PlanChange {
            from: *from as i32,
            plan: plan.clone(),
        });
        let run = RecipeRun {
            sampler,
            max_tokens: arguments.max_tokens,
            plan: plan.clone(),
            changes: plans.collect(),
            end: answer.reason,
        };
        recipe.messages.push(answered(&chat, &prompt, &answer, run));
        prompts.push(prompt);
    }
    recipe.prompts = Some(prompts_mark(prompts.iter().map(Vec::as_slice)));
    recipe.look.token = arguments.token.as_deref().map(parse_place).transpose()?;
    let direction = recipe
        .look
        .trait_name
        .as_ref()
        .and_then(|name| recipe.traits.iter().position(|one| one.name == *name));
    // The readings to show, and a look at whether the link does what it promises.
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
    keep_readings(&mut recipe, &replayed.answers, direction);
    print(arguments, &recipe, &replayed, direction)
}

fn print(
    arguments: &Arguments,
    recipe: &Recipe,
    replayed: &Replayed,
    direction: Option<usize>,
) -> Result<()> {
    let code = encode(recipe)?;
    let link = match &arguments.base {
        Some(base) => format!("{}{MARKER}{code}", base.trim_end_matches('#')),
        None => code.clone(),
    };
    let sentence = replayed.agreement.sentence();
    if !arguments.json {
        for (_, message, _) in recipe.answers() {
            eprintln!("{}\n", message.text);
        }
        eprintln!("{} characters; replayed: {sentence}", code.len());
        println!("{link}");
        return Ok(());
    }
    let message = |(index, message): (usize, &RecipeMessage)| MadeMessage {
        role: message.role.name(),
        text: message.text.clone(),
        ids: message
            .tokens
            .iter()
            .flatten()
            .map(|token| token.id.0)
            .collect(),
        readings: readings_of_message(&replayed.answers, recipe, direction, index),
    };
    let made = Made {
        agreed: replayed.agreement.agreed,
        characters: code.len(),
        link,
        messages: recipe.messages.iter().enumerate().map(message).collect(),
        tokens: replayed.agreement.tokens,
    };
    println!("{}", serde_json::to_string(&made)?);
    Ok(())
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
    }
}

impl Wanted {
    fn load(arguments: &Arguments, engine: &Engine) -> Result<Self> {
        let terms = |texts: &[String]| -> Result<Plan> {
            Ok(texts
                .iter()
                .map(|text| text.parse())
                .collect::<Result<Plan, _>>()?)
        };
        let mut wanted = Self {
            plan: terms(&arguments.steering.steer)?,
            changes: BTreeMap::new(),
            look: None,
            traits: Vec::new(),
            ready: Vec::new(),
        };
        for text in &arguments.changes {
            let (from, term) = text
                .split_once(':')
                .with_context(|| format!("{text:?} is not N:NAME=α@LAYERS"))?;
            let from: usize = from
                .parse()
                .with_context(|| format!("{from:?} is not a token's number"))?;
            let plan = wanted.changes.entry(from).or_default();
            if !term.is_empty() {
                plan.push(term.parse()?);
            }
        }
        let mut vectors: BTreeMap<String, TraitVector> = BTreeMap::new();
        let plans = std::iter::once(&mut wanted.plan).chain(wanted.changes.values_mut());
        for term in plans.flatten() {
            if !vectors.contains_key(&term.vector) {
                vectors.insert(
                    term.vector.clone(),
                    crate::vectors::load_vector(&term.vector, engine)?,
                );
            }
            if term.layers.is_none() {
                let recommended = vectors[&term.vector].recommended.as_ref();
                let layers = recommended.with_context(|| {
                    format!(
                        "the vector {0} recommends no layers; name them, as in {0}=2@16",
                        term.vector
                    )
                })?;
                term.layers = Some(layers.layers());
            }
        }
        wanted.look = wanted.choose_look(arguments)?;
        if let Some((name, _)) = &wanted.look
            && !vectors.contains_key(name)
        {
            vectors.insert(name.clone(), crate::vectors::load_vector(name, engine)?);
        }
        for (name, vector) in vectors {
            let one = wanted.recipe_trait(arguments, &name, &vector)?;
            wanted.traits.push((name, one));
            wanted.ready.push(vector);
        }
        Ok(wanted)
    }

    fn choose_look(&self, arguments: &Arguments) -> Result<Option<(String, Layer)>> {
        let Some(look) = &arguments.look else {
            let plans = std::iter::once(&self.plan).chain(self.changes.values());
            let first = plans.flatten().next();
            return Ok(
                first.and_then(|term| Some((term.vector.clone(), *term.layers.as_ref()?.first()?)))
            );
        };
        let (name, layer) = look
            .rsplit_once('@')
            .with_context(|| format!("{look:?} is not NAME@LAYER"))?;
        let layers = parse_layers(layer).map_err(anyhow::Error::msg)?;
        ensure!(layers.len() == 1, "--look takes one layer");
        Ok(Some((name.to_owned(), layers[0])))
    }

    fn recipe_trait(
        &self,
        arguments: &Arguments,
        name: &str,
        vector: &TraitVector,
    ) -> Result<RecipeTrait> {
        if !arguments.inline && ready_made().iter().any(|ready| ready == name) {
            let hash = read_hexadecimal(&vector.hash).context("the vector has no hash")?;
            return Ok(RecipeTrait {
                name: name.to_owned(),
                vector: VectorReference::ReadyMade(hash),
            });
        }
        let plans = std::iter::once(&self.plan).chain(self.changes.values());
        let mut layers: BTreeSet<Layer> = plans
            .flatten()
            .filter(|term| term.vector == name)
            .flat_map(|term| term.layers.iter().flatten().copied())
            .collect();
        if let Some((look, layer)) = &self.look
            && look == name
        {
            layers.insert(*layer);
        }
        let layers: Vec<Layer> = layers.into_iter().collect();
        let (path, _, file) = open_vector(name)?;
        let made = file.metadata.made.clone().unwrap_or_default();
        let shown = file.metadata.name.clone().unwrap_or_else(|| stem(&path));
        let taken = |shown: &str| self.traits.iter().any(|(_, one)| one.name == shown);
        let shown = match taken(&shown) {
            true => format!("{shown} {}", self.traits.len() + 1),
            false => shown,
        };
        Ok(RecipeTrait {
            name: shown,
            vector: VectorReference::Inline(Box::new(InlineVector::of(vector, &layers, &made)?)),
        })
    }

    /// A plan by the recipe's names.
    fn renamed(&self, plan: &[NamedTerm]) -> Plan {
        let rename = |term: &NamedTerm| NamedTerm {
            vector: self.name_of(&term.vector),
            ..term.clone()
        };
        plan.iter().map(rename).collect()
    }

    fn name_of(&self, name: &str) -> String {
        let found = self.traits.iter().find(|(argument, _)| argument == name);
        found.map_or_else(|| name.to_owned(), |(_, one)| one.name.clone())
    }

    fn recipe(&self, arguments: &Arguments, engine: &Engine) -> Result<Recipe> {
        let manifest = arguments.model.manifest()?;
        let directory = arguments.model.directory()?;
        let sha256 = arguments.model.weights_sha256()?;
        Ok(Recipe {
            model: ModelReference {
                name: manifest.map_or_else(|| stem(&directory), |manifest| manifest.name),
                sha256: read_hexadecimal(&sha256).context("the model's sha256 is none")?,
            },
            precision: engine.info().precision,
            traits: self.traits.iter().map(|(_, one)| one.clone()).collect(),
            messages: before(arguments)?,
            context: trimtab_persona::recipe::Context::Tokens,
            prompts: None,
            look: Look {
                trait_name: self.look.as_ref().map(|(name, _)| self.name_of(name)),
                layer: self.look.as_ref().map(|(_, layer)| *layer),
                token: None,
                inside_run: arguments.inside_run,
                title: arguments.title.clone(),
                note: arguments.note.clone(),
            },
        })
    }
}

fn stem(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or_else(|| "vector".into())
}

/// Renders the recipe up to where the next answer begins, and keeps the tokens that new messages got.
fn take_tokens(recipe: &mut Recipe, chat: &ChatText) -> Result<Vec<trimtab_engine::TokenId>> {
    let (prompt, places) = prompt_before(recipe, recipe.messages.len(), chat)?;
    let pieces = chat.pieces(&prompt.tokens);
    for (message, place) in recipe.messages.iter_mut().zip(places) {
        if let (None, Some(place)) = (&message.tokens, place) {
            let tokens: Vec<RecipeToken> = place
                .map(|index| RecipeToken {
                    id: prompt.tokens[index],
                    text: pieces[index].clone(),
                    reading: None,
                })
                .collect();
            message.text = tokens.iter().map(|token| token.text.as_str()).collect();
            message.tokens = Some(tokens);
        }
    }
    Ok(prompt.tokens)
}

fn answered(
    chat: &ChatText,
    prompt: &[trimtab_engine::TokenId],
    answer: &Answer,
    run: RecipeRun,
) -> RecipeMessage {
    let all = [prompt, &answer.tokens].concat();
    let pieces = chat.pieces(&all);
    let tokens: Vec<RecipeToken> = answer
        .tokens
        .iter()
        .zip(&pieces[prompt.len()..])
        .map(|(&id, text)| RecipeToken {
            id,
            text: text.clone(),
            reading: None,
        })
        .collect();
    RecipeMessage {
        role: Role::Assistant,
        text: tokens.iter().map(|token| token.text.as_str()).collect(),
        tokens: Some(tokens),
        run: Some(run),
    }
}

/// Writes one answer. Each change is made as soon as its token is the next to be queued; how many were, the answer having
/// been long enough, is told with it. A device that queues tokens ahead would make one later, and is refused.
async fn write(
    engine: &mut Engine,
    request: GenerateRequest,
    changes: Vec<(usize, SteeringPlan)>,
) -> Result<(Answer, usize)> {
    let prompt_length = request.prompt.len();
    let mut changes = changes.into_iter().peekable();
    let mut opened = 0;
    let mut written = 0;
    let mut run = Generation::start(engine, vec![request]).await?;
    while let Some(event) = run.next(engine).await? {
        match event {
            Event::Prompt { done, total } => {
                progress::show(&format!("reading the prompt: {done} of {total} tokens"));
            }
            Event::Token { .. } => {
                written += 1;
                progress::show(&format!("writing: {written} tokens"));
                // The token just written is the next one that is read.
                if let Some((asked, plan)) = changes.next_if(|(from, _)| *from < written) {
                    let from = run.set_plan(engine, 0, plan)?;
                    let acts = from.0 as usize - prompt_length;
                    ensure!(
                        acts == asked,
                        "this device works on several tokens ahead, so that the change at token {asked} would act from \
                         token {acts} on; make the link with --backend cpu"
                    );
                    opened += 1;
                }
            }
            _ => {}
        }
    }
    progress::finish();
    let answer = run.finish(engine).await?.into_iter().next();
    Ok((answer.context("the engine gave no answer")?, opened))
}

fn parse_place(text: &str) -> Result<(usize, usize)> {
    let place = text
        .split_once(':')
        .and_then(|(message, token)| Some((message.parse().ok()?, token.parse().ok()?)));
    place.with_context(|| format!("{text:?} is not MESSAGE:TOKEN, two numbers"))
}
