//! A recipe as a plain object: what pages draw and scripts read, and what they hand over to be shared.
//! Spelt as in the page's protocol. Vectors stay behind; a trait has its card.

use crate::recipe::inline_vector::InlineVector;
use crate::recipe::replay::hexadecimal;
use crate::recipe::tokens::coarse;
use crate::recipe::{
    Context, Hash, Look, NamedHash, Recipe, RecipeError, RecipeMessage, RecipeTrait,
    VectorReference, refuse,
};
use crate::trait_vector::TraitVector;
use serde::{Deserialize, Serialize};
use trimtab_engine::{Layer, Precision};
use ts_rs::TS;

#[derive(Clone, Debug, Serialize, Deserialize, TS)]
#[ts(rename = "SharedRecipe")]
#[serde(rename_all = "camelCase")]
pub struct RecipeView {
    pub model: NamedHash,
    pub precision: Precision,
    /// Adapters beside the model's weights that plans name.
    #[serde(default)]
    pub adapters: Vec<NamedHash>,
    /// Other files that plans name. None can be used yet.
    #[serde(default)]
    pub files: Vec<NamedHash>,
    pub traits: Vec<TraitView>,
    pub messages: Vec<RecipeMessage>,
    /// Absent where the sender does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub context: Option<Context>,
    #[serde(default)]
    pub look: Look,
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
    /// Recommended coefficients of a ready-made trait, lowest and highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub range: Option<[f32; 2]>,
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

impl From<&Recipe> for RecipeView {
    fn from(recipe: &Recipe) -> Self {
        Self {
            model: recipe.model.clone(),
            precision: recipe.precision,
            adapters: recipe.adapters.clone(),
            files: recipe.files.clone(),
            traits: recipe.traits.iter().map(TraitView::from).collect(),
            messages: recipe.messages.clone(),
            context: Some(recipe.context),
            look: recipe.look.clone(),
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
            range: one.range,
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

impl RecipeView {
    /// The recipe, checked. `vector` finds the vector of an inline trait by its name. Readings are
    /// rounded to what links carry.
    pub fn recipe(
        mut self,
        vector: &dyn Fn(&str) -> Option<TraitVector>,
    ) -> Result<Recipe, RecipeError> {
        let messages = self.messages.iter_mut();
        let rounded = |message: &mut RecipeMessage| {
            if let Some(tokens) = &mut message.tokens {
                for token in tokens.iter_mut() {
                    token.reading = token.reading.and_then(coarse);
                }
                // A template may have trimmed what was typed; what the model read counts.
                message.text = tokens.iter().map(|token| token.text.as_str()).collect();
            }
        };
        for message in messages {
            rounded(message);
            message.beside.as_deref_mut().map(rounded);
        }
        let traits = self.traits.into_iter().map(|one| one.recipe_trait(vector));
        let recipe = Recipe {
            model: self.model,
            precision: self.precision,
            adapters: self.adapters,
            files: self.files,
            traits: traits.collect::<Result<_, _>>()?,
            messages: self.messages,
            context: self.context.unwrap_or_default(),
            prompts: None,
            look: self.look,
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
            range: self.range,
            vector: reference,
        })
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

/// A SHA-256 in hexadecimal.
pub(crate) mod hash {
    use super::{Hash, hexadecimal, read_hexadecimal};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(hash: &Hash, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hexadecimal(hash))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(from)?;
        read_hexadecimal(&text).ok_or_else(|| D::Error::custom("it is no SHA-256 in hexadecimal"))
    }
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
