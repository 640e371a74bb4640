//! Links: opened without a model, made of what the page shows, replayed by the loaded model.

use crate::failure::{Failure, sentence};
use crate::making::with_nulls;
use crate::model::Model;
use crate::protocol::{ReadingBlock, Token, TraitCard, tell};
use crate::trimtab::Trimtab;
use js_sys::{Array, Float32Array, Function, Uint8Array};
use serde::Serialize;
use trimtab_engine::TokenId;
use trimtab_persona::recipe::link::{Opened, decode, encode};
use trimtab_persona::recipe::replay::{
    Replay, ReplayedAnswer, hexadecimal, prompt_before, vectors_of,
};
use trimtab_persona::recipe::tokens::prompts_mark;
use trimtab_persona::recipe::view::{RecipeView, RoleName, TermView};
use trimtab_persona::recipe::{Context, Recipe, VectorReference};
use trimtab_persona::vector_file::{TraitVector, VectorFile};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

/// `OpenedLink` of the page's protocol.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum OpenedLink {
    Recipe { recipe: RecipeView },
    Newer(NewerLink),
}

#[derive(Serialize)]
struct NewerLink {
    version: u32,
    sentence: String,
    model: String,
    title: String,
    note: String,
    messages: Vec<NewerMessage>,
}

#[derive(Serialize)]
struct NewerMessage {
    role: RoleName,
    text: String,
}

/// A link (or code) as an `OpenedLink`, with no model at hand.
#[wasm_bindgen(js_name = openLink)]
pub fn open_link(link: &str) -> Result<JsValue, JsValue> {
    let opened = match decode(link).map_err(Failure::from)? {
        Opened::Recipe(recipe) => OpenedLink::Recipe {
            recipe: recipe.as_ref().into(),
        },
        Opened::Newer(newer) => OpenedLink::Newer(NewerLink {
            version: newer.version,
            sentence: sentence(newer.sentence()),
            model: newer.model,
            title: newer.title,
            note: newer.note,
            messages: newer
                .messages
                .into_iter()
                .map(|(role, text)| NewerMessage {
                    role: role.into(),
                    text,
                })
                .collect(),
        }),
    };
    Ok(with_nulls(&opened)?)
}

pub fn make(view: RecipeView, model: Option<&Model>) -> Result<String, Failure> {
    let knows_context = view.context.is_some();
    let vectors = model.map(Model::vectors).unwrap_or_default();
    let by_name = |name: &str| vectors.iter().find(|vector| vector.name == name).cloned();
    let mut recipe = view.recipe(&by_name)?;
    if let Some(model) = model.filter(|model| is_of(&recipe, model)) {
        if !knows_context {
            recipe.context = context_of(&recipe, model)?;
        }
        let prompts = prompts(&recipe, model)?;
        recipe.prompts = Some(prompts_mark(prompts.iter().map(Vec::as_slice)));
    }
    Ok(encode(&recipe)?)
}

fn is_of(recipe: &Recipe, model: &Model) -> bool {
    hexadecimal(&recipe.model.sha256) == model.sha256
}

/// The page's runs began with texts; where those make the recipe's tokens, the tokens count.
fn context_of(recipe: &Recipe, model: &Model) -> Result<Context, Failure> {
    let under = |context| {
        let recipe = Recipe {
            context,
            ..recipe.clone()
        };
        prompts(&recipe, model)
    };
    let same = under(Context::Tokens)? == under(Context::Text)?;
    Ok(if same { Context::Tokens } else { Context::Text })
}

fn prompts(recipe: &Recipe, model: &Model) -> Result<Vec<Vec<TokenId>>, Failure> {
    let prompt = |message| Ok(prompt_before(recipe, message, &model.text)?.0.tokens);
    recipe
        .answers()
        .map(|(message, ..)| prompt(message))
        .collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReplayEvent {
    kind: &'static str,
    done: usize,
    total: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    tokens: usize,
    agreed: usize,
    readings_apart: Option<f32>,
    same_prompts: Option<bool>,
    sentence: String,
    /// What the link's traits are called here, in its order.
    traits: Vec<String>,
    /// All traits of the page, in the order of the readings.
    directions: Vec<String>,
    /// Traits that came with the link and were not here before.
    added: Vec<TraitCard>,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    message: usize,
    tokens: Vec<Token>,
    answer_start: usize,
    chosen: Vec<Choice>,
    ends: Option<bool>,
    in_run: ReadingBlock,
    reread: ReadingBlock,
    #[serde(with = "serde_wasm_bindgen::preserve")]
    reread_logprob: Float32Array,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Choice {
    id: u32,
    text: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Segment {
    from_token: usize,
    plan: Vec<TermView>,
}

/// Replays `link`. `older` are files of ready-made vectors (`Uint8Array`s) that newer ones took the place of.
pub async fn replay(
    owner: &Trimtab,
    model: &mut Model,
    link: &str,
    older: &Array,
    listener: &Function,
) -> Result<Replayed, Failure> {
    let recipe = match decode(link)? {
        Opened::Recipe(recipe) => *recipe,
        Opened::Newer(newer) => return Err(Failure::usage(newer.sentence())),
    };
    if !is_of(&recipe, model) {
        return Err(Failure::usage(format!(
            "this link was made with {}, and another model is loaded; load that one to replay it",
            recipe.model.name
        )));
    }
    let (rows, width) = (model.engine.layer_rows(), model.engine.config().hidden_size);
    let mut here = model.vectors().to_vec();
    for file in older.iter() {
        let file = VectorFile::parse(&Uint8Array::new(&file).to_vec())?;
        here.push(file.into_vector("", None, rows, width)?);
    }
    let vectors = vectors_of(&recipe, &here, rows, width)?;
    let mut added = Vec::new();
    let outcome = read_again(owner, model, &recipe, &vectors, &mut added, listener).await;
    outcome.map_err(|failure| {
        // The page hears of them with the result only, and counts directions as this model does.
        let names: Vec<String> = added.into_iter().map(|card| card.name).collect();
        model.remove_vectors(&names).err().unwrap_or(failure)
    })
}

/// Replays the recipe with its `vectors`. Traits that came with it are in `added`, whatever the outcome.
async fn read_again(
    owner: &Trimtab,
    model: &mut Model,
    recipe: &Recipe,
    vectors: &[TraitVector],
    added: &mut Vec<TraitCard>,
    listener: &Function,
) -> Result<Replayed, Failure> {
    add_missing(recipe, vectors, model, added)?;
    let directions = model.vectors().to_vec();
    let here = |vector: &TraitVector| {
        let same = |direction: &&TraitVector| direction.hash == vector.hash;
        directions.iter().find(same).map(|same| same.name.clone())
    };
    let traits: Vec<String> = vectors
        .iter()
        .map(|vector| here(vector).unwrap_or_else(|| vector.name.clone()))
        .collect();
    let mut replay = Replay::new(recipe, &model.text, vectors, &directions, &model.engine)?;
    while replay.next(&mut model.engine).await? {
        let event = ReplayEvent {
            kind: "replay",
            done: replay.done(),
            total: replay.total(),
        };
        tell(listener, &event);
        if owner.pause().await.stop {
            return Err(Failure::usage("stopped, as you asked"));
        }
    }
    let looked = recipe.look.trait_name.as_ref().and_then(|name| {
        let at = recipe.traits.iter().position(|one| one.name == *name)?;
        directions
            .iter()
            .position(|direction| direction.hash == vectors[at].hash)
    });
    let replayed = replay.finish(recipe, looked);
    let agreement = replayed.agreement;
    let answers = replayed.answers.into_iter();
    Ok(Replayed {
        tokens: agreement.tokens,
        agreed: agreement.agreed,
        readings_apart: agreement.readings_apart,
        same_prompts: agreement.same_prompts,
        sentence: sentence(agreement.sentence()),
        answers: answers
            .map(|answer| answer_of(answer, recipe, &traits, model))
            .collect(),
        traits,
        directions: directions.into_iter().map(|vector| vector.name).collect(),
        added: added.clone(),
    })
}

/// Makes the link's own vectors, and ready-made ones that newer ones took the place of, traits of this page under names
/// that are free.
fn add_missing(
    recipe: &Recipe,
    vectors: &[TraitVector],
    model: &mut Model,
    added: &mut Vec<TraitCard>,
) -> Result<(), Failure> {
    for (one, vector) in recipe.traits.iter().zip(vectors) {
        let known = |known: &TraitVector| known.hash == vector.hash;
        let made = match &one.vector {
            VectorReference::Inline(inline) => &inline.made,
            VectorReference::ReadyMade(_) => "ready-made, since then made anew",
        };
        if model.vectors().iter().any(known) {
            continue;
        }
        let taken = |name: &str| model.vectors().iter().any(|known| known.name == name);
        let mut name = vector.name.clone();
        let mut count = 1;
        while taken(&name) {
            count += 1;
            name = format!("{} ({count})", vector.name);
        }
        let vector = TraitVector {
            name,
            ..vector.clone()
        };
        added.push(model.put_vector(vector, made)?);
    }
    Ok(())
}

fn answer_of(answer: ReplayedAnswer, recipe: &Recipe, traits: &[String], model: &Model) -> Answer {
    let conversation = &answer.conversation;
    let texts = model.text.pieces(&conversation.tokens);
    let tokens = conversation
        .tokens
        .iter()
        .zip(texts)
        .zip(&conversation.parts)
        .zip(&answer.expected);
    let chosen = answer.chosen.iter().map(|&id| Choice {
        id: id.0,
        text: model.text_alone(id),
    });
    let named_here = |name: &str| {
        let at = recipe.traits.iter().position(|one| one.name == name);
        at.map_or_else(|| name.to_owned(), |at| traits[at].clone())
    };
    let segments = answer.segments.iter().map(|(from, plan)| Segment {
        from_token: from.0 as usize,
        plan: plan
            .iter()
            .map(|term| TermView {
                trait_name: named_here(&term.vector),
                ..TermView::from(term)
            })
            .collect(),
    });
    Answer {
        message: answer.message,
        tokens: tokens
            .map(|(((&id, text), &part), expected)| model.token(id, text, part, expected.as_ref()))
            .collect(),
        answer_start: conversation.prompt_length,
        chosen: chosen.collect(),
        ends: answer.ends,
        in_run: (&answer.in_run).into(),
        reread: (&answer.reread).into(),
        reread_logprob: Float32Array::from(answer.reread_logprobs.as_slice()),
        segments: segments.collect(),
    }
}
