//! Replaying a recipe: the author's tokens are forced through the model of this machine, and in each
//! place of its answers this machine says what it would have chosen, and what it reads.

use crate::calibration::Calibration;
use crate::columns::{ColumnKind, Expected, REREADING, expectation};
use crate::conversation::{ChatText, Places, TokenisedConversation};
use crate::plan::{NamedPlanError, NamedTerm, resolve};
use crate::reading_block::ReadingBlock;
use crate::recipe::agreement::Agreement;
use crate::recipe::tokens::prompts_mark;
use crate::recipe::{
    Context, Hash, Recipe, RecipeError, RecipeMessage, RecipeTrait, VectorReference,
};
use crate::reread::logprobs;
use crate::trait_vector::TraitVector;
use std::collections::VecDeque;
use trimtab_checkpoint::ChatError;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::forced::{Forced, ForcedRequest};
use trimtab_engine::generate::{EndReason, Segment};
use trimtab_engine::reading::Reading;
use trimtab_engine::{Engine, EngineError, Position, Sampler, SteeringPlan, TokenId, TokenRecord};

#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("this recipe has no answer that a run wrote, so there is nothing to replay")]
    NoAnswer,
    #[error(
        "the recipe uses the ready-made trait {name} (sha256 {}…), which is not here; get the vector file of that hash",
        hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<String>()
    )]
    NoVector { name: String, hash: Hash },
    #[error("this link is not sound: {0}")]
    Recipe(RecipeError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Plan(#[from] NamedPlanError),
    #[error(transparent)]
    Engine(#[from] EngineError),
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
    /// Where the tokens of each message up to the answer lie in it.
    pub places: Places,
    /// What this machine would have put in place of each of the answer's tokens.
    pub chosen: Vec<TokenId>,
    /// Whether this machine would end the answer there too; `None` where the author's had no end.
    pub ends: Option<bool>,
    /// Each token's prediction in this run, `None` for the first. The log-probability of a token that
    /// this machine would not have chosen, and that is not among the most likely, is NaN.
    pub expected: Vec<Option<Expected>>,
    /// Inside the run, for all tokens, in the order of the directions that the engine reads.
    pub in_run: ReadingBlock,
    /// By the unsteered model.
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
    pub agreement: Agreement,
}

#[derive(Debug)]
struct Prepared {
    message: usize,
    conversation: TokenisedConversation,
    places: Places,
    segments: Vec<Segment>,
    named: Vec<(Position, Vec<NamedTerm>)>,
    sampler: Sampler,
    end: EndReason,
}

#[derive(Debug)]
enum Stage {
    Next,
    Forced(Box<Prepared>, Forced),
    Reread(Box<Prepared>, Vec<TokenRecord>, Reading),
}

/// A replay under way, driven step by step. The engine must hold [`crate::columns::SEQUENCES`]
/// sequences, and read `directions` (see [`Replay::new`]).
#[derive(Debug)]
pub struct Replay {
    waiting: VecDeque<Prepared>,
    stage: Stage,
    done: usize,
    total: usize,
    calibrations: Vec<Option<Calibration>>,
    end_tokens: Vec<TokenId>,
    answers: Vec<ReplayedAnswer>,
    same_prompts: Option<bool>,
}

impl Replay {
    /// Prepares every answer's run. `vectors` are the recipe's ([`vectors_of`]); `directions` is what
    /// the engine reads, in its order, which may be other vectors than those.
    pub fn new(
        recipe: &Recipe,
        text: &ChatText,
        vectors: &[TraitVector],
        directions: &[TraitVector],
        engine: &Engine,
    ) -> Result<Self, ReplayError> {
        let mut waiting = VecDeque::new();
        for (message, ..) in recipe.answers() {
            waiting.push_back(Prepared::new(recipe, message, text, vectors, engine)?);
        }
        if waiting.is_empty() {
            return Err(ReplayError::NoAnswer);
        }
        let prompts = waiting
            .iter()
            .map(|run| &run.conversation.tokens[..run.conversation.prompt_length]);
        let mark = prompts_mark(prompts);
        Ok(Self {
            total: waiting
                .iter()
                .map(|run| 2 * run.conversation.tokens.len())
                .sum(),
            done: 0,
            waiting,
            stage: Stage::Next,
            calibrations: directions
                .iter()
                .map(|vector| vector.calibration.clone())
                .collect(),
            end_tokens: engine
                .config()
                .end_tokens
                .iter()
                .copied()
                .map(TokenId)
                .collect(),
            answers: Vec::new(),
            same_prompts: recipe.prompts.as_ref().map(|author| *author == mark),
        })
    }

    /// Tokens read so far, each twice: in the run, and by the unsteered model.
    pub fn done(&self) -> usize {
        let under_way = match &self.stage {
            Stage::Next => 0,
            Stage::Forced(_, forced) => forced.done(),
            Stage::Reread(run, _, reading) => run.conversation.tokens.len() + reading.done(),
        };
        self.done + under_way
    }

    pub fn total(&self) -> usize {
        self.total
    }

    /// Reads the next batch; false when all answers are replayed.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Next) {
            Stage::Next => match self.waiting.pop_front() {
                None => return Ok(false),
                Some(run) => {
                    let forced = run.start(engine).await?;
                    Stage::Forced(Box::new(run), forced)
                }
            },
            Stage::Forced(run, mut forced) => {
                if forced.next(engine).await? {
                    Stage::Forced(run, forced)
                } else {
                    let records = forced.finish(engine);
                    let reading = run.reread(engine).await?;
                    Stage::Reread(run, records, reading)
                }
            }
            Stage::Reread(run, records, mut reading) => {
                if reading.next(engine).await? {
                    Stage::Reread(run, records, reading)
                } else {
                    let reread = reading.finish(engine).records;
                    self.done += 2 * run.conversation.tokens.len();
                    let answer = self.conclude(*run, &records, &reread);
                    self.answers.push(answer);
                    Stage::Next
                }
            }
        };
        Ok(true)
    }

    /// What came of it, once [`Self::next`] has said so. `direction` is the index of the trait that
    /// the recipe looks at among the engine's directions.
    pub fn finish(self, recipe: &Recipe, direction: Option<usize>) -> Replayed {
        let agreement = Agreement::of(&self.answers, recipe, direction, self.same_prompts);
        Replayed {
            answers: self.answers,
            agreement,
        }
    }

    fn conclude(
        &self,
        run: Prepared,
        records: &[TokenRecord],
        reread: &[TokenRecord],
    ) -> ReplayedAnswer {
        let conversation = run.conversation;
        let block = |records| {
            let calibrations: Vec<_> = self.calibrations.iter().map(Option::as_ref).collect();
            ReadingBlock::calibrated(records, &conversation.parts, &calibrations)
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
            message: run.message,
            chosen,
            ends: (run.end == EndReason::EndToken)
                .then(|| after.is_some_and(|token| self.end_tokens.contains(&token))),
            expected: conversation
                .tokens
                .iter()
                .enumerate()
                .map(expected)
                .collect(),
            in_run: block(records),
            reread: block(reread),
            reread_logprobs: logprobs(reread),
            segments: run.named,
            places: run.places,
            conversation,
        }
    }
}

impl Prepared {
    fn new(
        recipe: &Recipe,
        message: usize,
        text: &ChatText,
        vectors: &[TraitVector],
        engine: &Engine,
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
        let rows = engine.layer_rows();
        let mut segments = vec![Segment {
            from: Position(0),
            plan: resolve(&run.plan, vectors, rows)?,
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
                    plan: resolve(&change.plan, vectors, rows)?,
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

    async fn start(&self, engine: &mut Engine) -> Result<Forced, EngineError> {
        let request = ForcedRequest {
            sequence: ColumnKind::Steered.sequence(),
            tokens: &self.conversation.tokens,
            prompt_length: self.conversation.prompt_length,
            segments: &self.segments,
            sampler: self.sampler,
        };
        Forced::start(engine, &request).await
    }

    async fn reread(&self, engine: &mut Engine) -> Result<Reading, EngineError> {
        let request = ReadRequest {
            sequence: REREADING,
            tokens: &self.conversation.tokens,
            prompt_length: self.conversation.prompt_length,
            plan: &SteeringPlan::default(),
            score: Scoring::Everything,
            capture: false,
        };
        Reading::start(engine, &request).await
    }
}

/// What the run that wrote `message` began with, and where the messages before it lie in that.
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
