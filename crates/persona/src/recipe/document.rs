//! Version 1 of a recipe as JSON. Keys are in alphabetical order and defaults are left out, so that a
//! recipe has one spelling. Unknown keys are refused: a later version has a later number.

use crate::plan::NamedTerm;
use crate::recipe::inline_vector::{
    InlineRow, InlineVector, RowStatistics, pack_values, unpack_values,
};
use crate::recipe::tokens::{KnownPieces, PackedTokens};
use crate::recipe::{
    Context, Hash, Look, MAX_LAYERS, MAX_MESSAGES, MAX_TERMS, ModelReference, PlanChange, Recipe,
    RecipeError, RecipeMessage, RecipeRun, RecipeTrait, Role, TokenPlace, VectorReference,
    check_count, refuse,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trimtab_engine::generate::EndReason;
use trimtab_engine::{Layer, Operation, Precision, Sampler, Scope};

pub const VERSION: u32 = 1;

/// A finite number, whole ones without a point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Number(f32);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Adding zero makes −0 plain 0.
        let value = self.0 + 0.0;
        if value.fract() == 0.0 && value.abs() < 1e7 {
            serializer.serialize_i64(value as i64)
        } else {
            serializer.serialize_f32(value)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)? as f32;
        if value.is_finite() {
            Ok(Self(value))
        } else {
            Err(serde::de::Error::custom("a number is out of range"))
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    #[serde(default, skip_serializing_if = "is_default")]
    context: Context,
    #[serde(default, skip_serializing_if = "is_default")]
    look: LookDocument,
    messages: Vec<MessageDocument>,
    model: ModelDocument,
    precision: Precision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompts: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    traits: Vec<TraitDocument>,
    version: u32,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LookDocument {
    #[serde(default, skip_serializing_if = "is_default")]
    inside_run: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layer: Option<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    note: String,
    #[serde(default, skip_serializing_if = "is_default")]
    title: String,
    /// Index of a message, and of a token in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<(u32, u32)>,
    #[serde(default, rename = "trait", skip_serializing_if = "Option::is_none")]
    trait_name: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelDocument {
    name: String,
    sha256: String,
}

/// `ids` is there where tokens are known; see [`PackedTokens`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageDocument {
    #[serde(default, skip_serializing_if = "is_default")]
    again: String,
    #[serde(default, skip_serializing_if = "is_default")]
    cuts: String,
    #[serde(default, skip_serializing_if = "is_default")]
    empty: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ids: Option<String>,
    #[serde(default, skip_serializing_if = "is_default")]
    readings: String,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<RunDocument>,
    text: String,
}

/// Sampler and plan are left out where they are still those of the run before.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunDocument {
    #[serde(default, skip_serializing_if = "is_default")]
    changes: Vec<ChangeDocument>,
    #[serde(default, skip_serializing_if = "is_default")]
    end: EndReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<TermDocument>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampler: Option<SamplerDocument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeDocument {
    from: i32,
    plan: Vec<TermDocument>,
}

/// One of `ablate`, `add` and `clamp`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TermDocument {
    #[serde(default, skip_serializing_if = "is_default")]
    ablate: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    add: Option<Number>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    clamp: Option<(Number, Number)>,
    layers: Vec<u32>,
    #[serde(default, skip_serializing_if = "is_default")]
    scope: Scope,
    #[serde(rename = "trait")]
    trait_name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SamplerDocument {
    max_tokens: u32,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    repetition_penalty: Number,
    #[serde(default, skip_serializing_if = "is_default")]
    seed: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    temperature: Number,
    #[serde(default, skip_serializing_if = "is_default")]
    top_k: u32,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    top_p: Number,
}

fn one() -> Number {
    Number(1.0)
}

fn is_one(value: &Number) -> bool {
    *value == one()
}

/// `hash` alone for a ready-made trait; without it the vector is here.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraitDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vector: Option<VectorDocument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VectorDocument {
    #[serde(default, skip_serializing_if = "is_default")]
    description: String,
    layers: Vec<LayerDocument>,
    #[serde(default, skip_serializing_if = "is_default")]
    made: String,
    max: Number,
    min: Number,
    #[serde(default, skip_serializing_if = "is_default")]
    opposite: String,
    width: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerDocument {
    layer: u32,
    scale: Number,
    /// Mean and deviation of tokens, answers and prompt tokens, and the neutral norm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statistics: Option<[Number; 7]>,
    values: String,
}

fn hash_text(hash: &Hash) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

fn read_hash(text: &str, field: &str) -> Result<Hash, RecipeError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
    Hash::try_from(bytes).map_err(|_| refuse(field, "is no SHA-256 in base64url"))
}

impl Document {
    /// `recipe` has passed its check.
    pub fn of(recipe: &Recipe) -> Self {
        let mut known = KnownPieces::default();
        let mut before: Option<&RecipeRun> = None;
        let messages = recipe.messages.iter().map(|message| {
            let document = MessageDocument::of(message, before, &mut known);
            before = message.run.as_ref().or(before);
            document
        });
        let look = &recipe.look;
        Self {
            context: recipe.context,
            messages: messages.collect(),
            look: LookDocument {
                inside_run: look.inside_run,
                layer: look.layer.map(|layer| layer.0),
                note: look.note.clone(),
                title: look.title.clone(),
                token: look
                    .token
                    .map(|place| (place.message as u32, place.token as u32)),
                trait_name: look.trait_name.clone(),
            },
            model: ModelDocument {
                name: recipe.model.name.clone(),
                sha256: hash_text(&recipe.model.sha256),
            },
            precision: recipe.precision,
            prompts: recipe.prompts.clone(),
            traits: recipe.traits.iter().map(TraitDocument::of).collect(),
            version: VERSION,
        }
    }

    /// The recipe, checked.
    pub fn recipe(self) -> Result<Recipe, RecipeError> {
        // Counted first: each message looks back for the run before it.
        check_count("messages", self.messages.len(), MAX_MESSAGES)?;
        let mut known = KnownPieces::default();
        let mut messages: Vec<RecipeMessage> = Vec::with_capacity(self.messages.len());
        for message in self.messages {
            let before = messages
                .iter()
                .rev()
                .find_map(|message| message.run.as_ref());
            let message = message.message(before, &mut known)?;
            messages.push(message);
        }
        let traits = self.traits.into_iter().map(TraitDocument::recipe_trait);
        let recipe = Recipe {
            model: ModelReference {
                sha256: read_hash(&self.model.sha256, "model's sha256")?,
                name: self.model.name,
            },
            precision: self.precision,
            traits: traits.collect::<Result<_, _>>()?,
            messages,
            context: self.context,
            prompts: self.prompts,
            look: Look {
                trait_name: self.look.trait_name,
                layer: self.look.layer.map(Layer),
                token: self.look.token.map(|(message, token)| TokenPlace {
                    message: message as usize,
                    token: token as usize,
                }),
                inside_run: self.look.inside_run,
                title: self.look.title,
                note: self.look.note,
            },
        };
        recipe.check()?;
        Ok(recipe)
    }
}

impl MessageDocument {
    fn of(message: &RecipeMessage, before: Option<&RecipeRun>, known: &mut KnownPieces) -> Self {
        let tokens = message.tokens.as_deref();
        let packed = tokens
            .map(|tokens| PackedTokens::pack(tokens, known))
            .unwrap_or_default();
        Self {
            again: packed.again,
            cuts: packed.cuts,
            empty: packed.empty,
            ids: tokens.map(|_| packed.ids),
            readings: packed.readings,
            role: message.role,
            run: message.run.as_ref().map(|run| RunDocument::of(run, before)),
            text: message.text.clone(),
        }
    }

    fn message(
        self,
        before: Option<&RecipeRun>,
        known: &mut KnownPieces,
    ) -> Result<RecipeMessage, RecipeError> {
        let packed = PackedTokens {
            empty: self.empty,
            cuts: self.cuts,
            again: self.again,
            ids: self.ids.clone().unwrap_or_default(),
            readings: self.readings,
        };
        let tokens = match self.ids {
            Some(_) => Some(packed.unpack(&self.text, known)?),
            None if packed == PackedTokens::default() => None,
            None => return Err(refuse("tokens", "have no ids")),
        };
        Ok(RecipeMessage {
            role: self.role,
            tokens,
            text: self.text,
            run: self.run.map(|run| run.run(before)).transpose()?,
        })
    }
}

impl RunDocument {
    fn of(run: &RecipeRun, before: Option<&RecipeRun>) -> Self {
        let terms = |plan: &[NamedTerm]| plan.iter().map(TermDocument::of).collect();
        let changes = run.changes.iter().map(|change| ChangeDocument {
            from: change.from,
            plan: terms(&change.plan),
        });
        let sampler = SamplerDocument::of(run);
        let same_plan = run.plan == before.map_or(&[][..], RecipeRun::last_plan);
        let same_sampler = before.map(SamplerDocument::of).as_ref() == Some(&sampler);
        Self {
            changes: changes.collect(),
            end: run.end,
            plan: (!same_plan).then(|| terms(&run.plan)),
            sampler: (!same_sampler).then_some(sampler),
        }
    }

    fn run(self, before: Option<&RecipeRun>) -> Result<RecipeRun, RecipeError> {
        // Counted here already: plans are copied to the runs that leave theirs out.
        let terms = |plan: Vec<TermDocument>| -> Result<Vec<NamedTerm>, RecipeError> {
            check_count("plan's terms", plan.len(), MAX_TERMS)?;
            plan.into_iter().map(TermDocument::term).collect()
        };
        let plan = match (self.plan, before) {
            (Some(plan), _) => terms(plan)?,
            (None, Some(before)) => before.last_plan().to_vec(),
            (None, None) => Vec::new(),
        };
        let (sampler, max_tokens) = match (self.sampler, before) {
            (Some(sampler), _) => (sampler.sampler(), sampler.max_tokens),
            (None, Some(before)) => (before.sampler, before.max_tokens),
            (None, None) => return Err(refuse("first run", "has no sampler")),
        };
        let changes = self.changes.into_iter().map(|change| {
            Ok(PlanChange {
                from: change.from,
                plan: terms(change.plan)?,
            })
        });
        Ok(RecipeRun {
            sampler,
            max_tokens,
            plan,
            changes: changes.collect::<Result<_, RecipeError>>()?,
            end: self.end,
        })
    }
}

impl TermDocument {
    fn of(term: &NamedTerm) -> Self {
        let layers = term.layers.iter().flatten().map(|layer| layer.0).collect();
        let mut document = Self {
            ablate: false,
            add: None,
            clamp: None,
            layers,
            scope: term.scope,
            trait_name: term.vector.clone(),
        };
        match term.operation {
            Operation::Add { coefficient } => document.add = Some(Number(coefficient)),
            Operation::Ablate => document.ablate = true,
            Operation::Clamp { low, high } => document.clamp = Some((Number(low), Number(high))),
        }
        document
    }

    fn term(self) -> Result<NamedTerm, RecipeError> {
        check_count("plan's layers", self.layers.len(), MAX_LAYERS as usize)?;
        let operation = match (self.ablate, self.add, self.clamp) {
            (false, Some(Number(coefficient)), None) => Operation::Add { coefficient },
            (true, None, None) => Operation::Ablate,
            (false, None, Some((Number(low), Number(high)))) => Operation::Clamp { low, high },
            _ => return Err(refuse("plan", "has a term that does not do one thing")),
        };
        Ok(NamedTerm {
            vector: self.trait_name,
            operation,
            layers: Some(self.layers.into_iter().map(Layer).collect()),
            scope: self.scope,
        })
    }
}

impl SamplerDocument {
    fn of(run: &RecipeRun) -> Self {
        let sampler = &run.sampler;
        Self {
            max_tokens: run.max_tokens,
            repetition_penalty: Number(sampler.repetition_penalty),
            seed: sampler.seed,
            temperature: Number(sampler.temperature),
            top_k: sampler.top_k,
            top_p: Number(sampler.top_p),
        }
    }

    fn sampler(&self) -> Sampler {
        Sampler {
            temperature: self.temperature.0,
            top_k: self.top_k,
            top_p: self.top_p.0,
            repetition_penalty: self.repetition_penalty.0,
            seed: self.seed,
        }
    }
}

impl TraitDocument {
    fn of(one: &RecipeTrait) -> Self {
        let (hash, vector) = match &one.vector {
            VectorReference::ReadyMade(hash) => (Some(hash_text(hash)), None),
            VectorReference::Inline(vector) => (None, Some(VectorDocument::of(vector))),
        };
        Self {
            hash,
            name: one.name.clone(),
            vector,
        }
    }

    fn recipe_trait(self) -> Result<RecipeTrait, RecipeError> {
        let vector = match (self.hash, self.vector) {
            (Some(hash), None) => VectorReference::ReadyMade(read_hash(&hash, "trait's hash")?),
            (None, Some(vector)) => VectorReference::Inline(Box::new(vector.vector()?)),
            _ => return Err(refuse("trait", "must have either a hash or a vector")),
        };
        Ok(RecipeTrait {
            name: self.name,
            vector,
        })
    }
}

impl VectorDocument {
    fn of(vector: &InlineVector) -> Self {
        let layer = |row: &InlineRow| LayerDocument {
            layer: row.layer.0,
            scale: Number(row.scale),
            statistics: row.statistics.map(|one| {
                let ([a, b], [c, d], [e, f]) = (one.token, one.answer, one.prompt);
                [a, b, c, d, e, f, one.neutral_norm].map(Number)
            }),
            values: pack_values(&row.values),
        };
        Self {
            description: vector.description.clone(),
            layers: vector.rows.iter().map(layer).collect(),
            made: vector.made.clone(),
            max: Number(vector.max),
            min: Number(vector.min),
            opposite: vector.opposite.clone(),
            width: vector.width as u32,
        }
    }

    fn vector(self) -> Result<InlineVector, RecipeError> {
        let width = self.width as usize;
        let row = |layer: LayerDocument| {
            Ok(InlineRow {
                layer: Layer(layer.layer),
                scale: layer.scale.0,
                values: unpack_values(&layer.values, width)?,
                statistics: layer.statistics.map(|seven| {
                    let [a, b, c, d, e, f, neutral_norm] = seven.map(|number| number.0);
                    RowStatistics {
                        token: [a, b],
                        answer: [c, d],
                        prompt: [e, f],
                        neutral_norm,
                    }
                }),
            })
        };
        Ok(InlineVector {
            opposite: self.opposite,
            description: self.description,
            made: self.made,
            min: self.min.0,
            max: self.max.0,
            width,
            rows: self
                .layers
                .into_iter()
                .map(row)
                .collect::<Result<_, RecipeError>>()?,
        })
    }
}
