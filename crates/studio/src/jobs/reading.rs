//! Reading tokens that are given: one text for its numbers, or many conversations of which something is averaged.

use crate::verbs::Event;
use crate::watch::{Halt, Watch};
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::reading::Reading;
use trimtab_engine::{Engine, EngineError, LayerTable, SequenceIndex, SteeringPlan, TokenId};
use trimtab_persona::activations::Averages;
use trimtab_persona::calibration::{NeutralStatistics, NeutralSums};
use trimtab_persona::conversation::TokenisedConversation;
use trimtab_persona::extract::{DifferenceSums, Example, MeanDifferences, lengths};

/// Reads what is asked for; `event` says that so many tokens are done.
pub async fn read(
    engine: &mut Engine,
    request: &ReadRequest<'_>,
    event: &dyn Fn(usize) -> Event,
    watch: &mut dyn Watch,
) -> Result<ReadOutcome, Halt> {
    let mut reading = Reading::start(engine, request).await?;
    while reading.next(engine).await? {
        watch.tell(event(reading.done()));
        watch.go_on().await?;
    }
    Ok(reading.finish(engine))
}

/// The residual stream of a conversation under a plan, `[T, L+1, d]`.
async fn residual(
    engine: &mut Engine,
    (sequence, plan): (SequenceIndex, &SteeringPlan),
    tokens: &[TokenId],
    prompt_length: usize,
) -> Result<Vec<f32>, EngineError> {
    let request = ReadRequest {
        sequence,
        tokens,
        prompt_length,
        plan,
        score: Scoring::Nothing,
        capture: true,
    };
    Ok(engine.read(&request, &mut |_, _| {}).await?.residual)
}

/// Averages of a conversation's residual stream in the unsteered model.
pub async fn averages(
    engine: &mut Engine,
    tokens: &[TokenId],
    prompt_length: usize,
) -> Result<Averages, EngineError> {
    let unsteered = (SequenceIndex(0), &SteeringPlan::default());
    averages_under(engine, unsteered, tokens, prompt_length).await
}

/// The same under a plan, in a sequence of its own.
pub async fn averages_under(
    engine: &mut Engine,
    how: (SequenceIndex, &SteeringPlan),
    tokens: &[TokenId],
    prompt_length: usize,
) -> Result<Averages, EngineError> {
    let size = engine.layer_rows() * engine.config().hidden_size;
    let residual = residual(engine, how, tokens, prompt_length).await?;
    Ok(Averages::of(&residual, size, prompt_length))
}

/// Mean differences over the examples; a response ends before the first of `end_tokens`, and `event` says that so many
/// examples are done.
pub async fn differences(
    engine: &mut Engine,
    examples: &[Example],
    end_tokens: &[TokenId],
    event: &dyn Fn(usize) -> Event,
    watch: &mut dyn Watch,
) -> Result<MeanDifferences, Halt> {
    let lengths = lengths(examples, end_tokens)?;
    let mut sums = DifferenceSums::new(engine.layer_rows(), engine.config().hidden_size);
    for (done, (example, &length)) in examples.iter().zip(&lengths).enumerate() {
        watch.tell(event(done));
        let tokens = &example.tokens[..length];
        let averages = averages(engine, tokens, example.prompt_length).await?;
        sums.add(example.side, &averages);
        watch.go_on().await?;
    }
    Ok(sums.finish()?)
}

/// Calibrates `tables` on neutral conversations; `event`, where there is one, says that so many of all are done.
pub async fn calibration(
    engine: &mut Engine,
    conversations: &[TokenisedConversation],
    tables: &[LayerTable],
    event: Option<fn(usize, usize) -> Event>,
    watch: &mut dyn Watch,
) -> Result<NeutralStatistics, Halt> {
    let mut sums = NeutralSums::new(tables, engine.layer_rows());
    for (done, conversation) in conversations.iter().enumerate() {
        if let Some(event) = event {
            watch.tell(event(done, conversations.len()));
        }
        let unsteered = (SequenceIndex(0), &SteeringPlan::default());
        let length = conversation.prompt_length;
        let read = residual(engine, unsteered, &conversation.tokens, length).await?;
        sums.add(conversation, &read);
        watch.go_on().await?;
    }
    Ok(sums.finish()?)
}
