//! Recipes: everything that determines a conversation's runs, with the tokens that came of them, and
//! their travel as links. A recipe from a link is hostile input until [`Recipe::check`] has passed it.

pub mod agreement;
mod document;
pub mod inline_vector;
pub mod link;
pub mod newer;
mod pasted;
pub mod replay;
mod sextets;
pub mod tokens;
pub mod view;

use crate::conversation::message;
use crate::plan::{NamedTerm, TermOperation};
use crate::recipe::inline_vector::InlineVector;
use crate::recipe::tokens::{MAX_TOKEN_ID, RecipeToken};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use trimtab_checkpoint::Message;
use trimtab_engine::generate::EndReason;
use trimtab_engine::record::MAX_DIRECTIONS;
use trimtab_engine::{Layer, Precision, Sampler, Scope};
use ts_rs::TS;

/// Bounds on what a recipe may hold, far above any model's context.
pub const MAX_MESSAGES: usize = 256;
pub const MAX_TOKENS: usize = 65_536;
pub const MAX_TRAITS: usize = MAX_DIRECTIONS;
pub const MAX_TERMS: usize = 32;
pub const MAX_CHANGES: usize = 256;
pub const MAX_LAYERS: u32 = 256;
/// Maximum length of a name, in bytes.
pub const MAX_NAME: usize = 128;
/// Maximum length of a title, a description or the story of how a vector was made, in bytes.
pub const MAX_LINE: usize = 1_000;
/// Maximum length of a note, in bytes.
pub const MAX_NOTE: usize = 8_000;
/// Largest magnitude of a coefficient or a clamp's end.
const MAX_STRENGTH: f32 = 1e6;

/// The reason why a recipe is unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its {field} {reason}")]
pub struct RecipeError {
    pub field: String,
    pub reason: String,
}

pub(crate) fn refuse(field: impl Into<String>, reason: impl Into<String>) -> RecipeError {
    RecipeError {
        field: field.into(),
        reason: reason.into(),
    }
}

/// A SHA-256.
pub type Hash = [u8; 32];

#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub model: NamedHash,
    pub precision: Precision,
    /// Adapters beside the model's weights that plans name.
    pub adapters: Vec<NamedHash>,
    /// Other files that plans name. None can be used yet.
    pub files: Vec<NamedHash>,
    /// Traits that plans name, and that the author looked at.
    pub traits: Vec<RecipeTrait>,
    /// The conversation, the answers in it included.
    pub messages: Vec<RecipeMessage>,
    /// The tokens that a run reads for the messages before its answer.
    pub context: Context,
    /// Six characters of [`tokens::prompts_mark`] over the prompts that the author's runs began with.
    pub prompts: Option<String>,
    pub look: Look,
}

/// A file, known by its hash, and a name to fetch it by; a model by that of its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "SharedFile")]
pub struct NamedHash {
    pub name: String,
    /// Hexadecimal.
    #[serde(with = "view::hash")]
    #[ts(type = "string")]
    pub sha256: Hash,
}

/// The tokens that earlier messages have in a run's prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Context {
    /// The recipe's own tokens.
    #[default]
    Tokens,
    /// The tokens of their texts, tokenised afresh.
    Text,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RecipeTrait {
    pub name: String,
    /// Recommended coefficients, lowest and highest, where the author's page knew them.
    pub range: Option<[f32; 2]>,
    pub vector: VectorReference,
}

#[derive(Clone, Debug, PartialEq)]
pub enum VectorReference {
    /// [`crate::trait_vector::tensor_hash`] of a vector that everybody has.
    ReadyMade(Hash),
    Inline(Box<InlineVector>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "SharedMessage")]
pub struct RecipeMessage {
    pub role: Role,
    /// The message's text; where tokens are known, their texts one after the other.
    pub text: String,
    /// The message's tokens; `None` where they are not known and the text is tokenised when it is needed.
    pub tokens: Option<Vec<RecipeToken>>,
    /// The run that wrote the answer.
    #[serde(default)]
    pub run: Option<RecipeRun>,
    /// The other column's answer to the same question, where the recipe has two columns: usually the unsteered one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub beside: Option<Box<RecipeMessage>>,
}

/// Settings and course of the run that wrote an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(rename = "SharedRun")]
pub struct RecipeRun {
    pub sampler: Sampler,
    pub max_tokens: u32,
    /// Plan from the first token of the conversation on.
    pub plan: Vec<NamedTerm>,
    /// Sliders moved in mid-answer, in order.
    #[serde(default)]
    pub changes: Vec<PlanChange>,
    pub end: EndReason,
}

/// A segment opened while the run was under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "SharedChange")]
pub struct PlanChange {
    /// Counts from the answer's first token; negative inside the prompt.
    #[serde(rename = "fromToken")]
    pub from: i32,
    pub plan: Vec<NamedTerm>,
}

/// The part of the conversation that the author wants looked at. Title and note are plain text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase", default)]
#[ts(rename = "SharedLook")]
pub struct Look {
    #[serde(rename = "trait")]
    pub trait_name: Option<String>,
    pub layer: Option<Layer>,
    pub token: Option<TokenPlace>,
    /// Readings inside the run (with the push) rather than the unsteered model's.
    pub inside_run: bool,
    pub title: String,
    pub note: String,
}

/// A token of a message, both counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "SharedPlace")]
pub struct TokenPlace {
    pub message: usize,
    pub token: usize,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

impl RecipeMessage {
    /// The message as the chat template takes it.
    pub fn message(&self) -> Message {
        message(self.role.name(), &self.text)
    }
}

impl RecipeRun {
    /// The plan in force when the run ended.
    pub fn last_plan(&self) -> &[NamedTerm] {
        self.changes
            .last()
            .map_or(&self.plan, |change| &change.plan)
    }

    fn plans(&self) -> impl Iterator<Item = &[NamedTerm]> {
        let changed = self.changes.iter().map(|change| change.plan.as_slice());
        std::iter::once(self.plan.as_slice()).chain(changed)
    }
}

impl Recipe {
    /// Messages that a run wrote, with their index.
    pub fn answers(&self) -> impl Iterator<Item = (usize, &RecipeMessage, &RecipeRun)> {
        let with_run = |(index, message): (usize, _)| {
            let message: &RecipeMessage = message;
            message.run.as_ref().map(|run| (index, message, run))
        };
        self.messages.iter().enumerate().filter_map(with_run)
    }

    /// The other column as a recipe of its own; its prompts are not marked, and its questions have no readings.
    pub fn other_column(&self) -> Option<Self> {
        let other = |message: &RecipeMessage| match &message.beside {
            Some(beside) => beside.as_ref().clone(),
            None => {
                // Its readings are those after the first column's answers.
                let mut given = message.clone();
                let tokens = given.tokens.iter_mut().flatten();
                tokens.for_each(|token| token.reading = None);
                given
            }
        };
        let two = self.messages.iter().any(|one| one.beside.is_some());
        two.then(|| Self {
            messages: self.messages.iter().map(other).collect(),
            prompts: None,
            look: Look {
                token: None,
                ..self.look.clone()
            },
            ..self.clone()
        })
    }

    /// A sentence about what the recipe was made with and no Trimtab of this version has.
    pub fn lacks(&self) -> Option<String> {
        let one = self.files.first()?;
        let hash = replay::hexadecimal(&one.sha256);
        Some(format!(
            "this was made with the file {} (sha256 {}…), which this version cannot use: its words and colours are shown, but it cannot be replayed here; get the newest Trimtab to run it",
            one.name,
            &hash[..12]
        ))
    }

    pub fn trait_named(&self, name: &str) -> Option<&RecipeTrait> {
        self.traits.iter().find(|one| one.name == name)
    }

    /// Fails with a sentence for whatever is out of bounds or does not fit together.
    pub fn check(&self) -> Result<(), RecipeError> {
        check_name("model's name", &self.model.name)?;
        for one in [&self.adapters, &self.files] {
            check_count("adapters and files", one.len(), MAX_TRAITS)?;
            one.iter()
                .try_for_each(|one| check_name("file's name", &one.name))?;
        }
        check_count("traits", self.traits.len(), MAX_TRAITS)?;
        check_count("messages", self.messages.len(), MAX_MESSAGES)?;
        let mut names = BTreeSet::new();
        for one in &self.traits {
            check_name("trait's name", &one.name)?;
            if !names.insert(&one.name) {
                return Err(refuse("traits", format!("name {:?} twice", one.name)));
            }
            let sound = |end: f32| end.abs() <= MAX_STRENGTH;
            if one
                .range
                .is_some_and(|ends| !ends.into_iter().all(sound) || ends[0] > ends[1])
            {
                return Err(refuse("trait's range", "is none"));
            }
            if let VectorReference::Inline(vector) = &one.vector {
                vector.check()?;
            }
        }
        let columns = |message: &'_ RecipeMessage| -> usize {
            let both = [Some(message), message.beside.as_deref()];
            let tokens = both.into_iter().flatten().flat_map(|one| &one.tokens);
            tokens.map(Vec::len).sum()
        };
        let total = self.messages.iter().map(columns).sum();
        check_count("tokens", total, MAX_TOKENS)?;
        let two = self.messages.iter().any(|one| one.beside.is_some());
        for (index, message) in self.messages.iter().enumerate() {
            self.check_message(index, message)?;
            if let Some(beside) = &message.beside {
                if beside.role != Role::Assistant
                    || message.role != Role::Assistant
                    || beside.beside.is_some()
                {
                    return Err(refuse("other column", "has more than an answer in a place"));
                }
                self.check_message(index, beside)?;
            } else if two && message.run.is_some() {
                return Err(refuse("other column", "lacks an answer"));
            }
        }
        if let Some(mark) = &self.prompts
            && (mark.len() != tokens::MARK_CHARS || !sextets::is_alphabet(mark))
        {
            return Err(refuse("prompts", "are not marked by six characters"));
        }
        self.check_look()
    }

    fn check_message(&self, index: usize, message: &RecipeMessage) -> Result<(), RecipeError> {
        let field = || format!("message {index}");
        if let Some(tokens) = &message.tokens {
            if tokens.iter().map(|token| token.text.len()).sum::<usize>() != message.text.len() {
                return Err(refuse(field(), "has tokens that do not spell its text"));
            }
            if tokens.iter().any(|token| token.id.0 > MAX_TOKEN_ID) {
                return Err(refuse(field(), "has a token that no vocabulary has"));
            }
        }
        let Some(run) = &message.run else {
            return Ok(());
        };
        if message.role != Role::Assistant || message.tokens.is_none() || index == 0 {
            return Err(refuse(
                field(),
                "was written by a run, so it must be an answer with tokens after another message",
            ));
        }
        check_sampler(&run.sampler)?;
        if run.max_tokens as usize > MAX_TOKENS {
            return Err(refuse("longest answer", format!("is above {MAX_TOKENS}")));
        }
        check_count("slider movements", run.changes.len(), MAX_CHANGES)?;
        if !run.changes.is_sorted_by(|a, b| a.from < b.from)
            || run
                .changes
                .iter()
                .any(|change| change.from.unsigned_abs() as usize > MAX_TOKENS)
        {
            return Err(refuse("slider movements", "are out of order"));
        }
        run.plans().try_for_each(|plan| self.check_plan(plan))
    }

    fn check_plan(&self, plan: &[NamedTerm]) -> Result<(), RecipeError> {
        check_count("plan's terms", plan.len(), MAX_TERMS)?;
        for term in plan {
            let sound = |value: f32| value.abs() <= MAX_STRENGTH;
            if let TermOperation::Tune { scale } = term.operation {
                let known = self.adapters.iter().any(|one| one.name == term.vector);
                if !known || !sound(scale) || term.layers.is_some() || term.scope != Scope::All {
                    return Err(refuse(
                        "plan",
                        format!(
                            "names the adapter {:?}, which it does not carry or which cannot act so",
                            term.vector
                        ),
                    ));
                }
                continue;
            }
            let Some(of) = self.trait_named(&term.vector) else {
                return Err(refuse(
                    "plan",
                    format!("uses {:?}, which it does not carry", term.vector),
                ));
            };
            let layers = term.layers.as_deref().unwrap_or_default();
            if layers.is_empty()
                || !layers.is_sorted_by(|a, b| a < b)
                || layers.iter().any(|layer| layer.0 >= MAX_LAYERS)
            {
                return Err(refuse("plan", "has a term without layers in order"));
            }
            if let VectorReference::Inline(vector) = &of.vector
                && let Some(layer) = layers.iter().find(|layer| vector.row(**layer).is_none())
            {
                return Err(refuse(
                    "plan",
                    format!("uses {} at {layer}, which it does not carry", of.name),
                ));
            }
            let strength_is_sound = match term.operation {
                TermOperation::Add { coefficient } => sound(coefficient),
                TermOperation::Ablate => true,
                TermOperation::Clamp { low, high } => sound(low) && sound(high) && low <= high,
                TermOperation::Tune { scale } => sound(scale),
            };
            if !strength_is_sound {
                return Err(refuse("plan", "has a strength that is out of bounds"));
            }
        }
        Ok(())
    }

    fn check_look(&self) -> Result<(), RecipeError> {
        let look = &self.look;
        check_text("title", &look.title, MAX_LINE)?;
        check_text("note", &look.note, MAX_NOTE)?;
        if let Some(name) = &look.trait_name
            && self.trait_named(name).is_none()
        {
            return Err(refuse(
                "view",
                format!("shows {name:?}, which it does not carry"),
            ));
        }
        if look.layer.is_some_and(|layer| layer.0 >= MAX_LAYERS) {
            return Err(refuse("view", "shows a layer that no model has"));
        }
        if let Some(TokenPlace { message, token }) = look.token
            && self
                .messages
                .get(message)
                .and_then(|message| message.tokens.as_ref()?.get(token))
                .is_none()
        {
            return Err(refuse("view", "points at a token that is not there"));
        }
        Ok(())
    }
}

fn check_count(field: &str, count: usize, most: usize) -> Result<(), RecipeError> {
    if count > most {
        return Err(refuse(field, format!("are {count}, more than {most}")));
    }
    Ok(())
}

fn check_text(field: &str, text: &str, most: usize) -> Result<(), RecipeError> {
    if text.len() > most {
        let length = text.len();
        return Err(refuse(
            field,
            format!("has {length} bytes, more than {most}"),
        ));
    }
    Ok(())
}

/// Names become keys and labels elsewhere: no control characters, nothing that a language reserves.
fn check_name(field: &str, name: &str) -> Result<(), RecipeError> {
    check_text(field, name, MAX_NAME)?;
    let reserved = ["__proto__", "constructor", "prototype"];
    if name.trim().is_empty() || name.chars().any(char::is_control) || reserved.contains(&name) {
        return Err(refuse(field, format!("is no name: {name:?}")));
    }
    Ok(())
}

fn check_sampler(sampler: &Sampler) -> Result<(), RecipeError> {
    let Sampler {
        temperature,
        top_k: _,
        top_p,
        repetition_penalty,
        seed: _,
    } = *sampler;
    let sound = (0.0..=100.0).contains(&temperature)
        && top_p > 0.0
        && top_p <= 1.0
        && (0.01..=100.0).contains(&repetition_penalty);
    if !sound {
        return Err(refuse("sampler", "has a setting that is out of bounds"));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod samples;
