//! Many answers written side by side, as extraction and calibration need them.

use crate::conversation::TokenisedConversation;
use serde::{Deserialize, Serialize};
use trimtab_engine::generate::{Event, GenerateRequest, Generation};
use trimtab_engine::sampling::pcg;
use trimtab_engine::{Engine, EngineError, Sampler, SequenceIndex, SteeringPlan, TokenId};

/// Settings by which answers are sampled. Each answer has a seed of its own, made of `seed` and its number, so
/// that the same settings give the same answers however they are batched.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSettings {
    pub max_tokens: usize,
    pub temperature: f32,
    pub top_p: f32,
    pub seed: u32,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            max_tokens: 48,
            temperature: 0.8,
            top_p: 0.95,
            seed: 1,
        }
    }
}

impl AnswerSettings {
    /// The sampler for the answer of that number.
    pub fn sampler(&self, number: usize) -> Sampler {
        let seed = pcg(self.seed ^ pcg(number as u32));
        Sampler {
            temperature: self.temperature,
            top_p: self.top_p,
            seed,
            ..Sampler::GREEDY
        }
    }
}

/// Writes one answer to each prompt, as many at once as the engine has sequences; there must be no
/// more prompts than that. `numbers` are the answers' numbers (for their seeds), in the order of
/// the prompts. Answers come without the token that ended them. `progress` hears the tokens
/// written so far.
pub async fn write_answers(
    engine: &mut Engine,
    prompts: &[TokenisedConversation],
    numbers: &[usize],
    plan: &SteeringPlan,
    settings: &AnswerSettings,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Vec<TokenId>>, EngineError> {
    let end_tokens: Vec<TokenId> = engine
        .config()
        .end_tokens
        .iter()
        .copied()
        .map(TokenId)
        .collect();
    let requests = prompts
        .iter()
        .zip(numbers)
        .enumerate()
        .map(|(index, (prompt, &number))| GenerateRequest {
            sequence: SequenceIndex(index as u32),
            prompt: prompt.tokens.clone(),
            plan: plan.clone(),
            sampler: settings.sampler(number),
            max_tokens: settings.max_tokens,
            end_tokens: end_tokens.clone(),
        });
    let mut run = Generation::start(engine, requests.collect()).await?;
    let mut written = 0;
    while let Some(event) = run.next(engine).await? {
        if let Event::Token { .. } = event {
            written += 1;
            progress(written);
        }
    }
    Ok(run
        .finish(engine)
        .await?
        .into_iter()
        .map(|answer| answer.tokens)
        .collect())
}
