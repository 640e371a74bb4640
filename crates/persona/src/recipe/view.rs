//! A recipe as a plain object: what pages draw and scripts read, and what they hand over to be shared.
//! Spelt as in the page's protocol. Vectors stay behind; a trait has its card.

use crate::plan::NamedTerm;
use crate::recipe::inline_vector::InlineVector;
use crate::recipe::replay::hexadecimal;
use crate::recipe::tokens::{RecipeToken, coarse};
use crate::recipe::{
    Context, Hash, Look, ModelReference, PlanChange, Recipe, RecipeError, RecipeMessage, RecipeRun,
    RecipeTrait, Role, VectorReference, refuse,
};
use crate::trait_vector::TraitVector;
use serde::{Deserialize, Serialize};
use trimtab_engine::generate::EndReason;
use trimtab_engine::{Layer, Precision, Sampler, TokenId};
use ts_rs::TS;

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedRecipe")]
#[serde(rename_all = "camelCase")]
pub struct RecipeView {
    pub model: ModelView,
    pub precision: Precision,
    pub traits: Vec<TraitView>,
    pub messages: Vec<MessageView>,
    /// Absent where the sender does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub context: Option<Context>,
    #[serde(default)]
    pub look: LookView,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedModel")]
pub struct ModelView {
    pub name: String,
    /// Hexadecimal.
    pub sha256: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedTrait")]
pub struct TraitView {
    pub name: String,
    /// Hexadecimal, of a ready-made trait's tensor.
    #[serde(default)]
    pub hash: Option<String>,
    /// The card of a vector that travels in the link.
    #[serde(default)]
    pub inline: Option<CardView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedCard")]
pub struct CardView {
    #[serde(default)]
    pub opposite: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub made: String,
    pub layers: Vec<u32>,
    #[serde(default)]
    pub min: f32,
    #[serde(default)]
    pub max: f32,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedMessage")]
pub struct MessageView {
    pub role: Role,
    pub text: String,
    pub tokens: Option<Vec<TokenView>>,
    #[serde(default)]
    pub run: Option<RunView>,
}

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedToken")]
pub struct TokenView {
    pub id: u32,
    pub text: String,
    #[serde(default)]
    pub reading: Option<f32>,
}

/// The way in which an answer was written.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(rename = "SharedRun")]
pub struct RunView {
    pub sampler: Sampler,
    pub max_tokens: u32,
    pub plan: Vec<NamedTerm>,
    #[serde(default)]
    pub changes: Vec<ChangeView>,
    pub end: EndReason,
}

/// `fromToken` counts from the answer's first token, and is negative inside the prompt.
#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
#[ts(rename = "SharedChange")]
pub struct ChangeView {
    pub from_token: i32,
    pub plan: Vec<NamedTerm>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize, TS)]
#[ts(rename = "SharedLook")]
#[serde(rename_all = "camelCase", default)]
pub struct LookView {
    #[serde(rename = "trait")]
    pub trait_name: Option<String>,
    pub layer: Option<u32>,
    pub token: Option<PlaceView>,
    pub inside_run: bool,
    pub title: String,
    pub note: String,
}

/// A token of a message, both counted from 0.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedPlace")]
pub struct PlaceView {
    pub message: usize,
    pub token: usize,
}

impl From<&Recipe> for RecipeView {
    fn from(recipe: &Recipe) -> Self {
        let look = &recipe.look;
        Self {
            model: ModelView {
                name: recipe.model.name.clone(),
                sha256: hexadecimal(&recipe.model.sha256),
            },
            precision: recipe.precision,
            traits: recipe.traits.iter().map(TraitView::from).collect(),
            messages: recipe.messages.iter().map(MessageView::from).collect(),
            context: Some(recipe.context),
            look: LookView {
                trait_name: look.trait_name.clone(),
                layer: look.layer.map(|layer| layer.0),
                token: look
                    .token
                    .map(|(message, token)| PlaceView { message, token }),
                inside_run: look.inside_run,
                title: look.title.clone(),
                note: look.note.clone(),
            },
        }
    }
}

impl From<&RecipeTrait> for TraitView {
    fn from(one: &RecipeTrait) -> Self {
        let (hash, inline) = match &one.vector {
            VectorReference::ReadyMade(hash) => (Some(hexadecimal(hash)), None),
            VectorReference::Inline(vector) => (None, Some(CardView::from(vector.as_ref()))),
        };
        Self {
            name: one.name.clone(),
            hash,
            inline,
        }
    }
}

impl From<&InlineVector> for CardView {
    fn from(vector: &InlineVector) -> Self {
        Self {
            opposite: vector.opposite.clone(),
            description: vector.description.clone(),
            made: vector.made.clone(),
            layers: vector.rows.iter().map(|row| row.layer.0).collect(),
            min: vector.min,
            max: vector.max,
        }
    }
}

impl From<&RecipeMessage> for MessageView {
    fn from(message: &RecipeMessage) -> Self {
        let token = |token: &RecipeToken| TokenView {
            id: token.id.0,
            text: token.text.clone(),
            reading: token.reading,
        };
        Self {
            role: message.role,
            text: message.text.clone(),
            tokens: message
                .tokens
                .as_ref()
                .map(|tokens| tokens.iter().map(token).collect()),
            run: message.run.as_ref().map(RunView::from),
        }
    }
}

impl From<&RecipeRun> for RunView {
    fn from(run: &RecipeRun) -> Self {
        let change = |change: &PlanChange| ChangeView {
            from_token: change.from,
            plan: change.plan.clone(),
        };
        Self {
            sampler: run.sampler,
            max_tokens: run.max_tokens,
            plan: run.plan.clone(),
            changes: run.changes.iter().map(change).collect(),
            end: run.end,
        }
    }
}

impl RecipeView {
    /// The recipe, checked. `vector` finds the vector of an inline trait by its name. Readings are
    /// rounded to what links carry.
    pub fn recipe(
        self,
        vector: &dyn Fn(&str) -> Option<TraitVector>,
    ) -> Result<Recipe, RecipeError> {
        let traits = self.traits.into_iter().map(|one| one.recipe_trait(vector));
        let recipe = Recipe {
            model: ModelReference {
                sha256: read_hexadecimal(&self.model.sha256)
                    .ok_or_else(|| refuse("model's sha256", "is none"))?,
                name: self.model.name,
            },
            precision: self.precision,
            traits: traits.collect::<Result<_, _>>()?,
            messages: self
                .messages
                .into_iter()
                .map(MessageView::message)
                .collect(),
            context: self.context.unwrap_or_default(),
            prompts: None,
            look: Look {
                trait_name: self.look.trait_name,
                layer: self.look.layer.map(Layer),
                token: self.look.token.map(|place| (place.message, place.token)),
                inside_run: self.look.inside_run,
                title: self.look.title,
                note: self.look.note,
            },
        };
        recipe.check()?;
        Ok(recipe)
    }
}

impl TraitView {
    fn recipe_trait(
        self,
        vector: &dyn Fn(&str) -> Option<TraitVector>,
    ) -> Result<RecipeTrait, RecipeError> {
        let reference = match (self.hash, self.inline) {
            (Some(hash), None) => VectorReference::ReadyMade(
                read_hexadecimal(&hash).ok_or_else(|| refuse("trait's hash", "is none"))?,
            ),
            (None, Some(card)) => {
                let vector = vector(&self.name).ok_or_else(|| {
                    refuse("traits", format!("name {:?}, which is not here", self.name))
                })?;
                let layers: Vec<Layer> = card.layers.into_iter().map(Layer).collect();
                let mut inline = InlineVector::of(&vector, &layers, &card.made)?;
                if !card.description.is_empty() {
                    inline.description = card.description;
                }
                VectorReference::Inline(Box::new(inline))
            }
            _ => return Err(refuse("trait", "must have either a hash or a card")),
        };
        Ok(RecipeTrait {
            name: self.name,
            vector: reference,
        })
    }
}

impl MessageView {
    fn message(self) -> RecipeMessage {
        let token = |token: TokenView| RecipeToken {
            id: TokenId(token.id),
            text: token.text,
            reading: token.reading.and_then(coarse),
        };
        let tokens: Option<Vec<RecipeToken>> = self
            .tokens
            .map(|tokens| tokens.into_iter().map(token).collect());
        // A template may have trimmed what was typed; what the model read counts.
        let spelt = tokens
            .as_ref()
            .map(|tokens| tokens.iter().map(|token| token.text.as_str()).collect());
        RecipeMessage {
            role: self.role,
            text: spelt.unwrap_or(self.text),
            tokens,
            run: self.run.map(RunView::run),
        }
    }
}

impl RunView {
    fn run(self) -> RecipeRun {
        let change = |change: ChangeView| PlanChange {
            from: change.from_token,
            plan: change.plan,
        };
        RecipeRun {
            sampler: self.sampler,
            max_tokens: self.max_tokens,
            plan: self.plan,
            changes: self.changes.into_iter().map(change).collect(),
            end: self.end,
        }
    }
}

/// A SHA-256 as manifests and vector files write it.
pub fn read_hexadecimal(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high << 4 | low) as u8;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::samples;

    #[test]
    fn what_a_page_is_shown_it_can_share_again() {
        let recipe = samples::recipe();
        let json = serde_json::to_value(RecipeView::from(&recipe)).unwrap();
        assert_eq!(json["messages"][2]["run"]["changes"][0]["fromToken"], 2);
        assert_eq!(json["look"]["insideRun"], true);
        let view: RecipeView = serde_json::from_value(json).unwrap();
        let back = view
            .recipe(&|name| (name == "curious").then(|| samples::vector(3, 64)))
            .unwrap();
        let unmarked = Recipe {
            prompts: None,
            ..recipe
        };
        assert_eq!(back, unmarked);
    }

    #[test]
    fn an_inline_trait_needs_its_vector() {
        let view = RecipeView::from(&samples::recipe());
        let error = view.recipe(&|_| None).unwrap_err().to_string();
        assert!(error.contains("curious"), "{error}");
    }
}
