//! Links: opened without a model, made of what a page shows, replayed by the loaded model.

use crate::failure::{Failure, sentence};
use crate::generation::PlanSegment;
use crate::jobs::replay;
use crate::session::{Session, TraitCard};
use crate::tokens::Token;
use crate::watch::Watch;
use serde::{Deserialize, Serialize};
use trimtab_engine::TokenId;
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::reading_block::ReadingBlock;
use trimtab_persona::recipe::link::{LinkContent, decode, encode};
use trimtab_persona::recipe::replay::{
    ReplayedAnswer as Answer, hexadecimal, prompt_before, vectors_of,
};
use trimtab_persona::recipe::tokens::prompts_mark;
use trimtab_persona::recipe::view::RecipeView;
use trimtab_persona::recipe::{Context, Recipe, Role, VectorReference};
use trimtab_persona::vector_file::{TraitVector, VectorFile};
use ts_rs::TS;

/// The contents of a link.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum OpenedLink {
    Recipe {
        recipe: RecipeView,
        /// A sentence about what it was made with and this version cannot use: it can be looked at only.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        lacks: Option<String>,
    },
    /// Made by a newer version, or with a term that is not known: a sentence about that, and what could be read of it.
    Newer {
        version: u32,
        sentence: String,
        model: String,
        title: String,
        note: String,
        messages: Vec<NewerMessage>,
    },
}

#[derive(Clone, Debug, Serialize, TS)]
pub struct NewerMessage {
    pub role: Role,
    pub text: String,
}

/// Tokens of all answers, each read twice: in its run, and by the unsteered model.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[ts(rename = "ReplayEvent")]
pub enum LinkEvent {
    Replay { done: usize, total: usize },
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
pub struct ReplayRequest {
    pub link: String,
    /// Files of ready-made vectors that the link names and that newer ones took the place of.
    #[ts(type = "Uint8Array[]")]
    pub older: Vec<serde_bytes::ByteBuf>,
}

/// What this machine makes of a link.
#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    pub tokens: usize,
    /// Tokens that this machine would have chosen too.
    pub agreed: usize,
    /// Largest distance from the link's own readings, which are half a step coarse; null where it has none.
    pub readings_apart: Option<f32>,
    /// Whether messages became the author's tokens; null where the link does not say.
    pub same_prompts: Option<bool>,
    pub sentence: String,
    /// Names of the link's traits here, in its order.
    pub traits: Vec<String>,
    /// All traits of the session, in the order of the readings.
    pub directions: Vec<String>,
    /// Traits that came with the link and were not here before.
    pub added: Vec<TraitCard>,
    pub answers: Vec<ReplayedAnswer>,
    /// Those of the link's other column; empty where it has none.
    pub beside: Vec<ReplayedAnswer>,
}

#[derive(Clone, Debug, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReplayedAnswer {
    /// Index of the recipe's message.
    pub message: usize,
    /// The author's, of the whole conversation up to and with the answer. `logprob` is NaN for a token that was too unlikely
    /// here to be listed.
    pub tokens: Vec<Token>,
    pub answer_start: usize,
    /// What this machine would have chosen in place of each token of the answer.
    pub chosen: Vec<Choice>,
    /// Whether it would have ended there too; null where the author's answer did not end by itself.
    pub ends: Option<bool>,
    /// Inside the run, for all tokens.
    pub in_run: ReadingBlock,
    /// By the unsteered model.
    pub reread: ReadingBlock,
    #[serde(with = "trimtab_persona::json::floats")]
    #[ts(type = "Float32Array")]
    pub reread_logprob: Vec<f32>,
    pub segments: Vec<PlanSegment>,
}

#[derive(Clone, Debug, Serialize, TS)]
#[ts(rename = "ChosenToken")]
pub struct Choice {
    pub id: u32,
    pub text: String,
}

/// Opens a link, or its code alone.
pub fn open_link(link: &str) -> Result<OpenedLink, Failure> {
    Ok(match decode(link)? {
        LinkContent::Recipe(recipe) => OpenedLink::Recipe {
            lacks: recipe.lacks().map(sentence),
            recipe: recipe.as_ref().into(),
        },
        LinkContent::Newer(newer) => OpenedLink::Newer {
            version: newer.version,
            sentence: sentence(newer.sentence()),
            model: newer.model,
            title: newer.title,
            note: newer.note,
            messages: newer
                .messages
                .into_iter()
                .map(|(role, text)| NewerMessage { role, text })
                .collect(),
        },
    })
}

/// A recipe as a link's code. A trait that travels in it has to be one of the session's.
pub fn make_link(view: RecipeView, session: Option<&Session>) -> Result<String, Failure> {
    let knows_context = view.context.is_some();
    let vectors = session.map(Session::vectors).unwrap_or_default();
    let by_name = |name: &str| vectors.iter().find(|vector| vector.name == name).cloned();
    let mut recipe = view.recipe(&by_name)?;
    if let Some(session) = session.filter(|session| session.made(&recipe)) {
        if !knows_context {
            recipe.context = session.context_of(&recipe)?;
        }
        let prompts = session.prompts(&recipe)?;
        recipe.prompts = Some(prompts_mark(prompts.iter().map(Vec::as_slice)));
    }
    Ok(encode(&recipe)?)
}

impl Session {
    /// Whether the recipe's model is the loaded one.
    fn made(&self, recipe: &Recipe) -> bool {
        self.is_model(&hexadecimal(&recipe.model.sha256))
    }

    /// The page's runs began with texts; where those make the recipe's tokens, the tokens count.
    fn context_of(&self, recipe: &Recipe) -> Result<Context, Failure> {
        let other = recipe.other_column();
        let columns: Vec<&Recipe> = std::iter::once(recipe).chain(&other).collect();
        let under = |context| -> Result<Vec<_>, Failure> {
            let prompts = columns.iter().map(|&column| {
                self.prompts(&Recipe {
                    context,
                    ..column.clone()
                })
            });
            prompts.collect()
        };
        let same = under(Context::Tokens)? == under(Context::Text)?;
        Ok(if same { Context::Tokens } else { Context::Text })
    }

    fn prompts(&self, recipe: &Recipe) -> Result<Vec<Vec<TokenId>>, Failure> {
        let prompt = |message| Ok(prompt_before(recipe, message, &self.chat)?.0.tokens);
        recipe
            .answers()
            .map(|(message, ..)| prompt(message))
            .collect()
    }

    /// Forces a link's tokens through the loaded model, which must be the link's.
    pub async fn replay_link(
        &mut self,
        request: ReplayRequest,
        watch: &mut dyn Watch,
    ) -> Result<Replayed, Failure> {
        let recipe = match decode(&request.link)? {
            LinkContent::Recipe(recipe) => *recipe,
            LinkContent::Newer(newer) => return Err(Failure::usage(newer.sentence())),
        };
        if !self.made(&recipe) {
            return Err(Failure::usage(format!(
                "this link was made with {}, and another model is loaded; load that one to replay it",
                recipe.model.name
            )));
        }
        let mut here = self.vectors().to_vec();
        for file in &request.older {
            here.push(self.vector_of("", &VectorFile::parse(file)?, None)?);
        }
        self.replay(&recipe, &here, watch).await
    }

    /// Forces a recipe's tokens through the loaded model, whichever that is. Its ready-made traits are among the vectors
    /// `here`.
    pub async fn replay(
        &mut self,
        recipe: &Recipe,
        here: &[TraitVector],
        watch: &mut dyn Watch,
    ) -> Result<Replayed, Failure> {
        let (rows, width) = (self.engine.layer_rows(), self.engine.config().hidden_size);
        let vectors = vectors_of(recipe, here, rows, width)?;
        let mut added = Vec::new();
        let outcome = self.read_again(recipe, &vectors, &mut added, watch).await;
        outcome.map_err(|failure| {
            // They are told of with the result only, and directions are counted as this session does.
            let names: Vec<String> = added.into_iter().map(|card| card.name).collect();
            self.remove_vectors(&names).err().unwrap_or(failure)
        })
    }

    /// Replays the recipe with its `vectors`. Traits that came with it are in `added`, whatever the outcome.
    async fn read_again(
        &mut self,
        recipe: &Recipe,
        vectors: &[TraitVector],
        added: &mut Vec<TraitCard>,
        watch: &mut dyn Watch,
    ) -> Result<Replayed, Failure> {
        self.add_missing(recipe, vectors, added)?;
        let directions = self.vectors().to_vec();
        let here = |vector: &TraitVector| {
            let same = |direction: &&TraitVector| direction.hash == vector.hash;
            directions.iter().find(same).map(|same| same.name.clone())
        };
        let traits: Vec<String> = vectors
            .iter()
            .map(|vector| here(vector).unwrap_or_else(|| vector.name.clone()))
            .collect();
        let look = recipe.look.trait_name.as_ref().and_then(|name| {
            let at = recipe.traits.iter().position(|one| one.name == *name)?;
            directions
                .iter()
                .position(|direction| direction.hash == vectors[at].hash)
        });
        let replayed = replay::run(self, recipe, vectors, &directions, look, watch).await?;
        let agreement = replayed.agreement;
        let (answers, beside) = (replayed.answers.into_iter(), replayed.beside.into_iter());
        Ok(Replayed {
            tokens: agreement.tokens,
            agreed: agreement.agreed,
            readings_apart: agreement.readings_apart,
            same_prompts: agreement.same_prompts,
            sentence: sentence(agreement.sentence()),
            answers: answers
                .map(|answer| self.answer_of(answer, recipe, &traits))
                .collect(),
            beside: beside
                .map(|answer| self.answer_of(answer, recipe, &traits))
                .collect(),
            traits,
            directions: directions.into_iter().map(|vector| vector.name).collect(),
            added: added.clone(),
        })
    }

    /// Makes the link's own vectors, and ready-made ones that newer ones took the place of, traits of this session under
    /// names that are free.
    fn add_missing(
        &mut self,
        recipe: &Recipe,
        vectors: &[TraitVector],
        added: &mut Vec<TraitCard>,
    ) -> Result<(), Failure> {
        for (one, vector) in recipe.traits.iter().zip(vectors) {
            let known = |known: &TraitVector| known.hash == vector.hash;
            let made = match &one.vector {
                VectorReference::Inline(inline) => &inline.made,
                VectorReference::ReadyMade(_) => "ready-made, since then made anew",
            };
            if self.vectors().iter().any(known) {
                continue;
            }
            let taken = |name: &str| self.vectors().iter().any(|known| known.name == name);
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
            added.push(self.put_vector(vector, made)?);
        }
        Ok(())
    }

    fn answer_of(&self, answer: Answer, recipe: &Recipe, traits: &[String]) -> ReplayedAnswer {
        let named_here = |name: &str| {
            let at = recipe.traits.iter().position(|one| one.name == name);
            at.map_or_else(|| name.to_owned(), |at| traits[at].clone())
        };
        let chosen = answer.chosen.iter().map(|&id| Choice {
            id: id.0,
            text: self.text_alone(id),
        });
        let segments = answer.segments.iter().map(|(from, plan)| PlanSegment {
            from_token: from.0 as usize,
            plan: plan
                .iter()
                .map(|term| NamedTerm {
                    vector: named_here(&term.vector),
                    ..term.clone()
                })
                .collect(),
        });
        ReplayedAnswer {
            message: answer.message,
            tokens: self.tokens(&answer.conversation, &answer.expected),
            answer_start: answer.conversation.prompt_length,
            chosen: chosen.collect(),
            ends: answer.ends,
            segments: segments.collect(),
            in_run: answer.in_run,
            reread: answer.reread,
            reread_logprob: answer.reread_logprobs,
        }
    }
}
