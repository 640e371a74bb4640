//! Replaying a recipe: the author's tokens are forced through the model of this machine, and in each
//! place of its answers this machine says what it would have chosen, and what it reads.

use crate::calibration::Calibration;
use crate::conversation::{ChatText, Places, TokenisedConversation};
use crate::plan::{NamedAdapter, NamedPlanError, NamedTerm, resolve};
use crate::reading_block::ReadingBlock;
use crate::recipe::agreement::Agreement;
use crate::recipe::tokens::prompts_mark;
use crate::recipe::{
    Context, Hash, NamedHash, Recipe, RecipeError, RecipeMessage, RecipeTrait, VectorReference,
};
use crate::reread::{Expected, expectation, logprobs};
use crate::trait_vector::TraitVector;
use trimtab_checkpoint::ChatError;
use trimtab_engine::generate::{EndReason, Segment};
use trimtab_engine::{Position, Sampler, TokenId, TokenRecord};

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("this recipe has no answer that a run wrote, so there is nothing to replay")]
    NoAnswer,
    #[error(
        "the recipe uses the ready-made trait {name} (sha256 {}…), which is not here; get the vector file of that hash",
        hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>()
    )]
    NoVector { name: String, hash: Hash },
    #[error(
        "the recipe was made with the adapter {name} (sha256 {}…), which is not here: its words and colours are shown; open the adapter's two files to replay it",
        hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect::<String>()
    )]
    NoAdapter { name: String, hash: Hash },
    #[error("{0}")]
    Lacking(String),
    #[error("this link is not sound: {0}")]
    Recipe(RecipeError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Plan(#[from] NamedPlanError),
}

impl From<RecipeError> for ReplayError {
    fn from(error: RecipeError) -> Self {
        Self::Recipe(error)
    }
}

/// The traits of a recipe as vectors of this machine, in the recipe's order and by its names.
/// `here` are the ready-made ones. Inline vectors come from the recipe itself.
pub fn vectors_of(
    recipe: &Recipe,
    here: &[TraitVector],
    layer_rows: usize,
    width: usize,
) -> Result<Vec<TraitVector>, ReplayError> {
    let vector = |one: &RecipeTrait| match &one.vector {
        VectorReference::Inline(vector) => Ok(vector.trait_vector(&one.name, layer_rows, width)?),
        VectorReference::ReadyMade(hash) => here
            .iter()
            .find(|vector| vector.hash == hexadecimal(hash))
            .map(|vector| TraitVector {
                name: one.name.clone(),
                ..vector.clone()
            })
            .ok_or_else(|| ReplayError::NoVector {
                name: one.name.clone(),
                hash: *hash,
            }),
    };
    recipe.traits.iter().map(vector).collect()
}

/// The adapters of a recipe that are on this machine, in the recipe's order and by its names.
pub fn adapters_of(
    recipe: &Recipe,
    here: &[NamedAdapter],
) -> Result<Vec<NamedAdapter>, ReplayError> {
    let adapter = |one: &NamedHash| {
        let sha256 = hexadecimal(&one.sha256);
        let found = here.iter().find(|adapter| adapter.sha256 == sha256);
        found
            .map(|adapter| NamedAdapter {
                name: one.name.clone(),
                ..adapter.clone()
            })
            .ok_or_else(|| ReplayError::NoAdapter {
                name: one.name.clone(),
                hash: one.sha256,
            })
    };
    recipe.adapters.iter().map(adapter).collect()
}

/// Lower-case hexadecimal, as manifests and vector files write it.
pub fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One answer, replayed.
#[derive(Clone, Debug)]
pub struct ReplayedAnswer {
    /// Index of the recipe's message.
    pub message: usize,
    /// The author's tokens, prompt and answer.
    pub conversation: TokenisedConversation,
    /// Range of each message's tokens, up to the answer.
    pub places: Places,
    /// The token that this machine would have put in place of each of the answer's tokens.
    pub chosen: Vec<TokenId>,
    /// True if this machine would end the answer there too; `None` where the author's had no end.
    pub ends: Option<bool>,
    /// Each token's prediction in this run, `None` for the first. The log-probability of a token that
    /// this machine would not have chosen, and that is not among the most likely, is NaN.
    pub expected: Vec<Option<Expected>>,
    /// Inside the run, for all tokens, in the order of the directions that the engine reads.
    pub in_run: ReadingBlock,
    /// Readings by the unsteered model.
    pub reread: ReadingBlock,
    pub reread_logprobs: Vec<f32>,
    /// Under which plan each part ran, the terms by the recipe's names.
    pub segments: Vec<(Position, Vec<NamedTerm>)>,
}

impl ReplayedAnswer {
    pub fn answer(&self) -> &[TokenId] {
        &self.conversation.tokens[self.conversation.prompt_length..]
    }

    /// Indices of the answer's tokens that this machine would have chosen otherwise.
    pub fn disagreements(&self) -> Vec<usize> {
        let pairs = self.answer().iter().zip(&self.chosen).enumerate();
        pairs
            .filter(|(_, (author, here))| author != here)
            .map(|(index, _)| index)
            .collect()
    }
}

#[derive(Clone, Debug)]
pub struct Replayed {
    pub answers: Vec<ReplayedAnswer>,
    /// Answers of the recipe's other column; empty where it has none.
    pub beside: Vec<ReplayedAnswer>,
    pub agreement: Agreement,
}

/// An answer's run, ready to be forced.
#[derive(Debug)]
pub struct Prepared {
    message: usize,
    /// Prompt and answer.
    pub conversation: TokenisedConversation,
    places: Places,
    pub segments: Vec<Segment>,
    named: Vec<(Position, Vec<NamedTerm>)>,
    pub sampler: Sampler,
    end: EndReason,
}

/// What a recipe's plans name, on this machine: see [`vectors_of`] and [`adapters_of`].
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub vectors: &'a [TraitVector],
    pub adapters: &'a [NamedAdapter],
}

/// Every answer's run; and whether messages became the author's tokens, `None` where the recipe does not say.
pub fn prepare(
    recipe: &Recipe,
    text: &ChatText,
    named: Named<'_>,
    layer_rows: usize,
) -> Result<(Vec<Prepared>, Option<bool>), ReplayError> {
    if let Some(sentence) = recipe.lacks() {
        return Err(ReplayError::Lacking(sentence));
    }
    let runs = recipe
        .answers()
        .map(|(message, ..)| Prepared::new(recipe, message, text, named, layer_rows))
        .collect::<Result<Vec<_>, _>>()?;
    if runs.is_empty() {
        return Err(ReplayError::NoAnswer);
    }
    let prompts = runs
        .iter()
        .map(|run| &run.conversation.tokens[..run.conversation.prompt_length]);
    let mark = prompts_mark(prompts);
    let same_prompts = recipe.prompts.as_ref().map(|author| *author == mark);
    Ok((runs, same_prompts))
}

impl Replayed {
    /// `direction` is the index of the trait that the recipe looks at among the engine's directions.
    pub fn of(
        answers: Vec<ReplayedAnswer>,
        recipe: &Recipe,
        direction: Option<usize>,
        same_prompts: Option<bool>,
    ) -> Self {
        Self {
            agreement: Agreement::of(&answers, recipe, direction, same_prompts),
            answers,
            beside: Vec::new(),
        }
    }

    /// The same with the answers of the `other` column, which count in the agreement.
    pub fn with(
        self,
        beside: Vec<ReplayedAnswer>,
        other: &Recipe,
        direction: Option<usize>,
    ) -> Self {
        let more = Agreement::of(&beside, other, direction, None);
        Self {
            agreement: self.agreement.and(more),
            beside,
            ..self
        }
    }
}

impl Prepared {
    /// Prepares the run that wrote `message`; `layer_rows` is L+1 of the model here.
    pub fn new(
        recipe: &Recipe,
        message: usize,
        text: &ChatText,
        Named { vectors, adapters }: Named<'_>,
        layer_rows: usize,
    ) -> Result<Self, ReplayError> {
        let (Some(answer), Some(run)) = (
            recipe.messages[message].tokens.as_ref(),
            recipe.messages[message].run.as_ref(),
        ) else {
            return Err(ReplayError::NoAnswer);
        };
        let (prompt, mut places) = prompt_before(recipe, message, text)?;
        let prompt_length = prompt.prompt_length;
        let ids: Vec<TokenId> = answer.iter().map(|token| token.id).collect();
        let conversation = prompt.answered(&ids);
        places.push(Some(prompt_length..conversation.tokens.len()));
        let mut segments = vec![Segment {
            from: Position(0),
            plan: resolve(&run.plan, vectors, adapters, layer_rows)?,
        }];
        let mut named = vec![(Position(0), run.plan.clone())];
        for change in &run.changes {
            let from = prompt_length as i64 + i64::from(change.from);
            if from <= 0 {
                return Err(crate::recipe::refuse(
                    "slider movements",
                    "begin before the conversation",
                )
                .into());
            }
            if from < conversation.tokens.len() as i64 {
                let from = Position(from as u32);
                segments.push(Segment {
                    from,
                    plan: resolve(&change.plan, vectors, adapters, layer_rows)?,
                });
                named.push((from, change.plan.clone()));
            }
        }
        Ok(Self {
            message,
            conversation,
            places,
            segments,
            named,
            sampler: run.sampler,
            end: run.end,
        })
    }

    /// The answer, from its tokens' `records` in the run and by the unsteered model (`reread`). `calibrations` are in the
    /// order of the directions that the engine reads.
    pub fn conclude(
        self,
        records: &[TokenRecord],
        reread: &[TokenRecord],
        calibrations: &[Option<&Calibration>],
        end_tokens: &[TokenId],
    ) -> ReplayedAnswer {
        let conversation = self.conversation;
        let block = |records| {
            ReadingBlock::calibrated(records, &conversation.parts, calibrations)
                .padded(conversation.tokens.len())
        };
        let asked = records
            .get(conversation.prompt_length - 1..)
            .unwrap_or_default();
        let mut chosen: Vec<TokenId> = asked
            .iter()
            .filter_map(|record| Some(record.prediction.as_ref()?.chosen))
            .collect();
        let answer = conversation.tokens.len() - conversation.prompt_length;
        let after = (chosen.len() > answer).then(|| chosen.pop()).flatten();
        let expected = |(index, &token): (usize, &TokenId)| {
            let before = index.checked_sub(1)?;
            if index < conversation.prompt_length {
                return expectation(reread.get(before)?, token);
            }
            let prediction = records.get(before)?.prediction.as_ref()?;
            let likely = prediction.alternatives.iter().find(|(id, _)| *id == token);
            let logprob = match likely {
                _ if prediction.chosen == token => prediction.chosen_logprob,
                Some((_, logprob)) => *logprob,
                None => f32::NAN,
            };
            Some(Expected {
                logprob,
                alternatives: prediction.alternatives.to_vec(),
            })
        };
        ReplayedAnswer {
            message: self.message,
            chosen,
            ends: (self.end == EndReason::EndToken)
                .then(|| after.is_some_and(|token| end_tokens.contains(&token))),
            expected: conversation
                .tokens
                .iter()
                .enumerate()
                .map(expected)
                .collect(),
            in_run: block(records),
            reread: block(reread),
            reread_logprobs: logprobs(reread),
            segments: self.named,
            places: self.places,
            conversation,
        }
    }
}

/// The tokens that the run that wrote `message` began with, and where the messages before it lie in them.
pub fn prompt_before(
    recipe: &Recipe,
    message: usize,
    text: &ChatText,
) -> Result<(TokenisedConversation, Places), ChatError> {
    let before = &recipe.messages[..message];
    let messages: Vec<_> = before.iter().map(RecipeMessage::message).collect();
    let given: Vec<Option<Vec<TokenId>>> = before
        .iter()
        .map(|message| match recipe.context {
            Context::Tokens => message
                .tokens
                .as_ref()
                .map(|tokens| tokens.iter().map(|token| token.id).collect()),
            Context::Text => None,
        })
        .collect();
    text.prompt_of_tokens(&messages, &given)
}
