//! Answers of the unsteered model, written side by side: how they are asked for, how likely they are, and the neutral ones.

use crate::reading::ReadingEvent;
use crate::verbs::Event;
use crate::watch::{Halt, Watch};
use trimtab_checkpoint::ChatError;
use trimtab_engine::generate::{Answer, GenerateRequest, Generation};
use trimtab_engine::{Engine, SequenceIndex, SteeringPlan, TokenRecord};
use trimtab_persona::answers::AnswerSettings;
use trimtab_persona::conversation::{ChatText, TokenisedConversation, message, numbers, token_ids};
use trimtab_persona::neutral::{NeutralAnswer, NeutralSet, QUESTIONS};

/// The request for an unsteered answer, of that number among those that `settings` sample.
pub fn answer_request(
    engine: &Engine,
    sequence: usize,
    prompt: TokenisedConversation,
    settings: &AnswerSettings,
    number: usize,
) -> GenerateRequest {
    GenerateRequest {
        sequence: SequenceIndex(sequence as u32),
        prompt: prompt.tokens,
        plan: SteeringPlan::default(),
        sampler: settings.sampler(number),
        max_tokens: settings.max_tokens,
        end_tokens: token_ids(&engine.config().end_tokens),
    }
}

/// Log-probability of each of an answer's tokens in the run that wrote it.
pub fn own_logprobs(answer: &Answer) -> Vec<f32> {
    let before = answer.records.iter().skip(answer.prompt_length - 1);
    let chosen = |record: &TokenRecord| Some(record.prediction.as_ref()?.chosen_logprob);
    before
        .filter_map(chosen)
        .take(answer.tokens.len())
        .collect()
}

pub fn mean_of(values: &[f32]) -> Option<f64> {
    let sum: f64 = values.iter().map(|&value| f64::from(value)).sum();
    (!values.is_empty()).then(|| sum / values.len() as f64)
}

/// The prompt that a neutral answer is written to.
pub fn neutral_prompt(chat: &ChatText, question: &str) -> Result<TokenisedConversation, ChatError> {
    chat.question(&[message("user", question)])
}

/// The neutral answer of that number as it is kept.
pub fn neutral_answer(chat: &ChatText, number: usize, answer: &Answer) -> NeutralAnswer {
    NeutralAnswer {
        question: QUESTIONS[number].to_owned(),
        ids: numbers(&answer.tokens),
        text: chat.decode(&answer.tokens),
        logprob: mean_of(&own_logprobs(answer)),
    }
}

/// Writes what is missing of a model's neutral answers.
pub async fn write_neutral(
    engine: &mut Engine,
    chat: &ChatText,
    set: &mut NeutralSet,
    watch: &mut dyn Watch,
) -> Result<(), Halt> {
    let total = QUESTIONS.len();
    while set.answers.len() < total {
        let first = set.answers.len();
        let done = first;
        watch.tell(Event::Reading(ReadingEvent::Answers { done, total }));
        let asked = first..total.min(first + engine.info().sequences);
        let mut requests = Vec::with_capacity(asked.len());
        for number in asked.clone() {
            let prompt = neutral_prompt(chat, QUESTIONS[number])?;
            let sequence = number - first;
            let request = answer_request(engine, sequence, prompt, &set.settings, number);
            requests.push(request);
        }
        let mut generation = Generation::start(engine, requests).await?;
        while generation.next(engine).await?.is_some() {
            watch.go_on().await?;
        }
        let written = generation.finish(engine).await?;
        let written = asked.zip(&written);
        set.answers
            .extend(written.map(|(number, answer)| neutral_answer(chat, number, answer)));
    }
    Ok(())
}
