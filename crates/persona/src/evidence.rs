//! Trait evidence: how much better the unsteered model can explain a response by the trait's
//! instructions than by the opposite ones.

use crate::conversation::{ChatText, message};
use crate::reread::logprobs;
use crate::trait_pack::TraitPack;
use trimtab_checkpoint::ChatError;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::{Engine, EngineError, SequenceIndex, SteeringPlan, TokenId};

#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// `log p(response | positive instruction, question) − log p(response | negative instruction,
/// question)` in nats a token, the mean over the instruction pairs `pairs`. The system prompts are
/// read in sequences `first` and the ones after it, two for each pair, whose caches make further
/// responses to the same question cheap. `response` has at least one token.
pub async fn evidence(
    engine: &mut Engine,
    chat: &ChatText,
    pack: &TraitPack,
    pairs: &[usize],
    first: SequenceIndex,
    question: &str,
    response: &[TokenId],
) -> Result<f64, EvidenceError> {
    let mut sum = 0.0;
    for (index, pair) in pairs
        .iter()
        .filter_map(|&pair| pack.instructions.get(pair))
        .enumerate()
    {
        for (side, (instruction, sign)) in [(&pair.positive, 1.0), (&pair.negative, -1.0)]
            .into_iter()
            .enumerate()
        {
            let sequence = SequenceIndex(first.0 + (2 * index + side) as u32);
            let prompt =
                chat.prompt(&[message("system", instruction), message("user", question)])?;
            let length = prompt.tokens.len();
            let tokens = prompt.answered(response).tokens;
            sum += sign * response_logprob(engine, sequence, &tokens, length).await?;
        }
    }
    Ok(sum / pairs.len().max(1) as f64 / response.len().max(1) as f64)
}

/// Natural log-probability of all tokens from `prompt_length` on, under the unsteered model.
async fn response_logprob(
    engine: &mut Engine,
    sequence: SequenceIndex,
    tokens: &[TokenId],
    prompt_length: usize,
) -> Result<f64, EngineError> {
    let plan = SteeringPlan::default();
    let request = ReadRequest {
        sequence,
        tokens,
        prompt_length,
        plan: &plan,
        score: Scoring::Response,
        capture: false,
    };
    let records = engine.read(&request, &mut |_, _| {}).await?.records;
    Ok(logprobs(&records)
        .iter()
        .skip(prompt_length)
        .map(|&logprob| f64::from(logprob))
        .sum())
}

/// Share of different pairs of neighbours among all of them (distinct-2, Li et al. 2016): a loop is
/// near 0. 1 for texts too short to repeat.
pub fn distinct_2(tokens: &[TokenId]) -> f64 {
    let pairs: Vec<_> = tokens.windows(2).collect();
    if pairs.is_empty() {
        return 1.0;
    }
    let different: std::collections::HashSet<_> = pairs.iter().collect();
    different.len() as f64 / pairs.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_have_few_different_pairs() {
        let ids = |numbers: &[u32]| numbers.iter().copied().map(TokenId).collect::<Vec<_>>();
        assert_eq!(distinct_2(&ids(&[1, 2, 3, 4])), 1.0);
        assert_eq!(distinct_2(&ids(&[1, 2, 1, 2, 1])), 0.5);
        assert_eq!(distinct_2(&ids(&[7])), 1.0);
    }
}
