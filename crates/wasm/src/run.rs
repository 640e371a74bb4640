//! A run of columns, told to the page as it happens.

use crate::failure::Failure;
use crate::model::Model;
use crate::protocol::{
    BackendName, ColumnName, ColumnResult, GenerateEvent, GenerateInput, Plan, ReadingBlock,
    SegmentRecord, tell,
};
use crate::trimtab::Trimtab;
use js_sys::{Date, Float32Array, Function};
use std::collections::VecDeque;
use trimtab_checkpoint::Pieces;
use trimtab_engine::engine::LoadProgress;
use trimtab_engine::{EngineError, TokenId};
use trimtab_persona::columns::{
    ColumnEvent, ColumnOutcome, ColumnRequest, ColumnRun, ColumnSettings, Expected,
};
use trimtab_persona::conversation::Part;

/// What the page is told about one column besides its events.
struct Column<'a> {
    name: ColumnName,
    prompt_length: usize,
    pieces: Pieces<'a>,
    segments: Vec<SegmentRecord>,
    /// When its first token came, in milliseconds.
    first: Option<f64>,
}

pub async fn columns(
    owner: &Trimtab,
    model: &mut Model,
    input: GenerateInput,
    listener: &Function,
) -> Result<Vec<ColumnResult>, Failure> {
    let planner = model.planner();
    let mut requests = Vec::with_capacity(input.columns.len());
    for column in &input.columns {
        requests.push(ColumnRequest {
            kind: column.column.into(),
            conversation: model.text.prompt(&column.messages)?,
            plan: planner.resolve(&column.plan)?,
        });
    }
    let settings = ColumnSettings {
        sampler: (&input.sampler).try_into()?,
        max_tokens: input.max_tokens,
        end_tokens: model.end_tokens(),
        calibrations: model.calibrations(),
    };
    // The text side is shared while the engine works.
    let tokenizer = model.text.tokenizer.clone();
    let mut told: Vec<Column<'_>> = input
        .columns
        .into_iter()
        .zip(&requests)
        .map(|(column, request)| {
            let mut pieces = tokenizer.piece_stream();
            for token in &request.conversation.tokens {
                pieces.push(token.0);
            }
            Column {
                name: column.column,
                prompt_length: request.conversation.prompt_length,
                pieces,
                segments: vec![SegmentRecord {
                    from_token: 0,
                    plan: column.plan,
                }],
                first: None,
            }
        })
        .collect();

    let mut run = ColumnRun::new(requests, settings);
    // Plans whose segments have not been announced yet, one for each steered column.
    let mut announced: VecDeque<Plan> = VecDeque::new();
    let mut prompt = PromptClock::default();
    let mut losses = 0;
    loop {
        let event = match run.next(&mut model.engine).await {
            Ok(None) => break,
            Ok(Some(event)) => event,
            Err(EngineError::DeviceLost { .. }) => {
                losses += 1;
                recover(model, losses, listener).await?;
                run.resume(&mut model.engine).await?;
                prompt = PromptClock::default();
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        report(
            model,
            &mut told,
            &mut announced,
            &mut prompt,
            event,
            listener,
        );
        let wishes = owner.pause().await;
        if wishes.stop {
            run.stop();
        }
        if let Some((plan, resolved)) = wishes.plan {
            let opens = run.set_plan(&model.engine, &resolved)?;
            let steered = |column: &&mut Column<'_>| matches!(column.name, ColumnName::Steered);
            for column in told.iter_mut().filter(steered) {
                if opens {
                    announced.push_back(plan.clone());
                } else if let Some(first) = column.segments.first_mut() {
                    first.plan.clone_from(&plan);
                }
            }
        }
    }
    let results = run.finish().into_iter().zip(told);
    Ok(results
        .map(|(outcome, column)| result(model, outcome, column))
        .collect())
}

/// Finds the model another place: a new graphics device the first time, the processor where there is none, where
/// it computes wrongly or where that is lost, too.
async fn recover(model: &mut Model, losses: usize, listener: &Function) -> Result<(), Failure> {
    let mut progress = |load: LoadProgress| {
        let event = GenerateEvent::Recovering {
            bytes_done: load.bytes_done as f64,
            bytes_total: load.bytes_total as f64,
        };
        tell(listener, &event);
    };
    if losses > 1 || model.reload(BackendName::Gpu, &mut progress).await.is_err() {
        model.reload(BackendName::Cpu, &mut progress).await?;
    }
    let model = model.card();
    tell(listener, &GenerateEvent::Recovered { model });
    Ok(())
}

fn report(
    model: &Model,
    told: &mut [Column<'_>],
    announced: &mut VecDeque<Plan>,
    prompt: &mut PromptClock,
    event: ColumnEvent,
    listener: &Function,
) {
    match event {
        ColumnEvent::Prompt { done, total } => {
            let seconds_left = prompt.seconds_left(done, total);
            tell(
                listener,
                &GenerateEvent::Prompt {
                    done,
                    total,
                    seconds_left,
                },
            );
        }
        ColumnEvent::Token { column, prediction } => {
            let state = &mut told[column];
            state.first.get_or_insert_with(Date::now);
            let text = state.pieces.push(prediction.chosen.0);
            let expected = Expected {
                logprob: prediction.chosen_logprob,
                alternatives: prediction.alternatives.to_vec(),
            };
            let token = model.token(prediction.chosen, text, Part::Response, Some(&expected));
            tell(listener, &GenerateEvent::Token { column, token });
        }
        ColumnEvent::Readings {
            column,
            from,
            block,
        } => {
            let block = ReadingBlock::from(&block);
            tell(
                listener,
                &GenerateEvent::Readings {
                    column,
                    from,
                    block,
                },
            );
        }
        ColumnEvent::Segment { column, from } => {
            let state = &mut told[column];
            let Some(plan) = announced.pop_front() else {
                return;
            };
            let from = from.0 as usize;
            let from_token = from.saturating_sub(state.prompt_length);
            tell(
                listener,
                &GenerateEvent::Segment {
                    column,
                    from_token,
                    plan: &plan,
                },
            );
            match state.segments.last_mut() {
                Some(last) if last.from_token == from => last.plan = plan,
                _ => state.segments.push(SegmentRecord {
                    from_token: from,
                    plan,
                }),
            }
        }
        ColumnEvent::End {
            column,
            reason,
            tokens,
        } => {
            let seconds = told[column]
                .first
                .map_or(0.0, |first| (Date::now() - first) / 1000.0);
            let tokens_per_second = if tokens > 1 && seconds > 0.0 {
                (tokens - 1) as f64 / seconds
            } else {
                f64::NAN
            };
            let reason = reason.into();
            tell(
                listener,
                &GenerateEvent::End {
                    column,
                    reason,
                    tokens_per_second,
                },
            );
        }
        ColumnEvent::Rereading {
            column,
            done,
            total,
        } => {
            tell(
                listener,
                &GenerateEvent::RereadProgress {
                    column,
                    done,
                    total,
                },
            );
        }
    }
}

fn result(model: &Model, outcome: ColumnOutcome, column: Column<'_>) -> ColumnResult {
    let conversation = &outcome.conversation;
    let answer: &[TokenId] = &conversation.tokens[conversation.prompt_length..];
    let texts = model.text.pieces(&conversation.tokens);
    let reread = outcome.reread_logprobs.get(conversation.prompt_length..);
    let tokens = conversation
        .tokens
        .iter()
        .zip(texts)
        .zip(&conversation.parts);
    ColumnResult {
        column: column.name,
        text: model.text.decode(answer),
        tokens: tokens
            .zip(&outcome.expected)
            .map(|(((&id, text), &part), expected)| model.token(id, text, part, expected.as_ref()))
            .collect(),
        answer_start: conversation.prompt_length,
        in_run: (&outcome.in_run).into(),
        reread: (&outcome.reread).into(),
        reread_logprob: Float32Array::from(outcome.reread_logprobs.as_slice()),
        segments: column.segments,
        coherence: reread.and_then(|reread| model.coherence(answer, reread)),
    }
}

/// How long the prompt will take, from how long its part so far took.
#[derive(Default)]
struct PromptClock {
    /// Milliseconds, and tokens done then.
    start: Option<(f64, usize)>,
}

impl PromptClock {
    fn seconds_left(&mut self, done: usize, total: usize) -> Option<f64> {
        let now = Date::now();
        let (at, before) = *self.start.get_or_insert((now, done));
        let worked = done.checked_sub(before).filter(|worked| *worked > 0)?;
        Some((now - at) / 1000.0 / worked as f64 * total.saturating_sub(done) as f64)
    }
}
