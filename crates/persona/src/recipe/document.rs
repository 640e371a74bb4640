//! A recipe as JSON. Keys are in alphabetical order and defaults are left out, so that a recipe has one spelling.
//! Unknown keys are refused: a later version has a later number.
//!
//! Version 2 has plans in the notation of [`NamedTerm`], a second column, and places for the hashes of adapters and files.
//! Version 1 has plans as objects, and is only read.

use crate::plan::{NamedTerm, TermOperation};
use crate::recipe::inline_vector::{
    InlineRow, InlineVector, RowStatistics, pack_values, unpack_values,
};
use crate::recipe::tokens::{KnownPieces, PackedTokens};
use crate::recipe::{
    Context, Hash, Look, MAX_LAYERS, MAX_MESSAGES, MAX_TERMS, NamedHash, PlanChange, Recipe,
    RecipeError, RecipeMessage, RecipeRun, RecipeTrait, Role, TokenPlace, VectorReference,
    check_count, refuse,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use trimtab_engine::generate::EndReason;
use trimtab_engine::{Layer, Precision, Sampler, Scope};

/// The version that is written.
pub const VERSION: u32 = 2;

/// A plan's term as a version of the format has it.
pub trait PlanTerm: Sized {
    const VERSION: u32;
    fn of(term: &NamedTerm) -> Self;
    fn term(self) -> Result<NamedTerm, RecipeError>;
}

/// `cheerful=2@16:response`, as [`NamedTerm`] is written.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TermText(String);

impl TermText {
    fn read(&self) -> Option<NamedTerm> {
        let term: NamedTerm = self.0.parse().ok()?;
        // A link has one spelling: layers one by one, numbers as they are printed.
        (term.to_string() == self.0).then_some(term)
    }
}

impl PlanTerm for TermText {
    const VERSION: u32 = 2;

    fn of(term: &NamedTerm) -> Self {
        Self(term.to_string())
    }

    fn term(self) -> Result<NamedTerm, RecipeError> {
        self.read().ok_or_else(|| {
            refuse(
                "plan",
                format!("has the term {:?}, which is not known", self.0),
            )
        })
    }
}

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
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Document<T> {
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    adapters: Vec<HashDocument>,
    #[serde(default, skip_serializing_if = "is_default")]
    context: Context,
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    files: Vec<HashDocument>,
    #[serde(default, skip_serializing_if = "is_default")]
    look: LookDocument,
    messages: Vec<MessageDocument<T>>,
    model: HashDocument,
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
struct HashDocument {
    name: String,
    sha256: String,
}

impl HashDocument {
    fn of(one: &NamedHash) -> Self {
        Self {
            name: one.name.clone(),
            sha256: hash_text(&one.sha256),
        }
    }

    fn named_hash(self) -> Result<NamedHash, RecipeError> {
        Ok(NamedHash {
            sha256: read_hash(&self.sha256, &format!("sha256 of {:?}", self.name))?,
            name: self.name,
        })
    }
}

/// `ids` is there where tokens are known; see [`PackedTokens`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
struct MessageDocument<T> {
    #[serde(default, skip_serializing_if = "is_default")]
    again: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    beside: Option<Box<MessageDocument<T>>>,
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
    run: Option<RunDocument<T>>,
    text: String,
}

/// Sampler and plan are left out where they are still those of the run before in the same column; before the other column's
/// first comes the one beside it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
struct RunDocument<T> {
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    changes: Vec<ChangeDocument<T>>,
    #[serde(default, skip_serializing_if = "is_default")]
    end: EndReason,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<T>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sampler: Option<SamplerDocument>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeDocument<T> {
    from: i32,
    plan: Vec<T>,
}

/// A term of version 1: one of `ablate`, `add` and `clamp`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermObject {
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
    range: Option<[Number; 2]>,
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

/// The runs before a message, in each column.
#[derive(Clone, Copy, Debug, Default)]
struct Before<'a> {
    run: Option<&'a RecipeRun>,
    beside: Option<&'a RecipeRun>,
}

impl<'a> Before<'a> {
    fn then(self, message: &'a RecipeMessage) -> Self {
        let beside = message.beside.as_ref();
        Self {
            run: message.run.as_ref().or(self.run),
            beside: beside
                .and_then(|beside| beside.run.as_ref())
                .or(self.beside),
        }
    }
}

impl Document<TermText> {
    /// The first term that is not one of this version, as it is written.
    pub fn unknown_term(&self) -> Option<&str> {
        let messages = self.messages.iter();
        let messages = messages.flat_map(|one| [Some(one), one.beside.as_deref()]);
        let runs = messages.flatten().filter_map(|one| one.run.as_ref());
        let plans = runs.flat_map(|run| {
            let changes = run.changes.iter().map(|change| &change.plan);
            run.plan.iter().chain(changes)
        });
        // What is no name of a trait or an adapter here may be a later version's expression over some.
        let known = |term: &TermText| {
            term.read().is_some_and(|term| match term.operation {
                TermOperation::Tune { .. } => {
                    self.adapters.iter().any(|one| one.name == term.vector)
                }
                _ => self.traits.iter().any(|one| one.name == term.vector),
            })
        };
        let unknown = plans.flatten().find(|term| !known(term));
        unknown.map(|term| term.0.as_str())
    }
}

impl<T: PlanTerm> Document<T> {
    /// `recipe` has passed its check, and has what the version has.
    pub fn of(recipe: &Recipe) -> Self {
        let mut known = KnownPieces::default();
        let mut before = Before::default();
        let messages = recipe.messages.iter().map(|message| {
            let document = MessageDocument::of(message, before, &mut known);
            before = before.then(message);
            document
        });
        let look = &recipe.look;
        Self {
            adapters: recipe.adapters.iter().map(HashDocument::of).collect(),
            files: recipe.files.iter().map(HashDocument::of).collect(),
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
            model: HashDocument::of(&recipe.model),
            precision: recipe.precision,
            prompts: recipe.prompts.clone(),
            traits: recipe.traits.iter().map(TraitDocument::of).collect(),
            version: T::VERSION,
        }
    }

    /// The recipe, checked.
    pub fn recipe(self) -> Result<Recipe, RecipeError> {
        // Counted first: each message looks back for the run before it.
        check_count("messages", self.messages.len(), MAX_MESSAGES)?;
        let later = !self.adapters.is_empty()
            || !self.files.is_empty()
            || self.messages.iter().any(|one| one.beside.is_some())
            || self.traits.iter().any(|one| one.range.is_some());
        if T::VERSION == 1 && later {
            return Err(refuse(
                "version 1",
                "has no adapters, files, ranges and second column",
            ));
        }
        let mut known = KnownPieces::default();
        let mut messages: Vec<RecipeMessage> = Vec::with_capacity(self.messages.len());
        for message in self.messages {
            let before = messages.iter().fold(Before::default(), Before::then);
            let message = message.message(before, &mut known)?;
            messages.push(message);
        }
        let hashes = |all: Vec<HashDocument>| -> Result<Vec<NamedHash>, RecipeError> {
            all.into_iter().map(HashDocument::named_hash).collect()
        };
        let traits = self.traits.into_iter().map(TraitDocument::recipe_trait);
        let recipe = Recipe {
            model: self.model.named_hash()?,
            adapters: hashes(self.adapters)?,
            files: hashes(self.files)?,
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

impl<T: PlanTerm> MessageDocument<T> {
    fn of(message: &RecipeMessage, before: Before<'_>, known: &mut KnownPieces) -> Self {
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
            run: message
                .run
                .as_ref()
                .map(|run| RunDocument::of(run, before.run)),
            text: message.text.clone(),
            beside: message.beside.as_ref().map(|beside| {
                let before = before.beside.or(message.run.as_ref());
                let before = Before {
                    run: before,
                    beside: None,
                };
                Box::new(Self::of(beside, before, known))
            }),
        }
    }

    fn message(
        self,
        before: Before<'_>,
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
        let run = self.run.map(|run| run.run(before.run)).transpose()?;
        let beside = self.beside.map(|beside| {
            if beside.beside.is_some() {
                return Err(refuse("other column", "has more than an answer in a place"));
            }
            let before = Before {
                run: before.beside.or(run.as_ref()),
                beside: None,
            };
            beside.message(before, known).map(Box::new)
        });
        Ok(RecipeMessage {
            role: self.role,
            tokens,
            text: self.text,
            beside: beside.transpose()?,
            run,
        })
    }
}

impl<T: PlanTerm> RunDocument<T> {
    fn of(run: &RecipeRun, before: Option<&RecipeRun>) -> Self {
        let terms = |plan: &[NamedTerm]| plan.iter().map(T::of).collect();
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
        let terms = |plan: Vec<T>| -> Result<Vec<NamedTerm>, RecipeError> {
            check_count("plan's terms", plan.len(), MAX_TERMS)?;
            plan.into_iter().map(T::term).collect()
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

impl PlanTerm for TermObject {
    const VERSION: u32 = 1;

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
            TermOperation::Add { coefficient } => document.add = Some(Number(coefficient)),
            TermOperation::Ablate => document.ablate = true,
            TermOperation::Clamp { low, high } => {
                document.clamp = Some((Number(low), Number(high)))
            }
            // Version 1 has no adapters, so that nothing of them is written in it, and a term that does nothing is refused.
            TermOperation::Tune { .. } => {}
        }
        document
    }

    fn term(self) -> Result<NamedTerm, RecipeError> {
        check_count("plan's layers", self.layers.len(), MAX_LAYERS as usize)?;
        let operation = match (self.ablate, self.add, self.clamp) {
            (false, Some(Number(coefficient)), None) => TermOperation::Add { coefficient },
            (true, None, None) => TermOperation::Ablate,
            (false, None, Some((Number(low), Number(high)))) => TermOperation::Clamp { low, high },
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
            range: one.range.map(|ends| ends.map(Number)),
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
            range: self.range.map(|ends| ends.map(|end| end.0)),
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
