//! Behaviour of every executor, whatever the numbers: reuse, segments, batches, seeds.

use super::{Ids, Tensors, answers, forget, read};
use pollster::block_on;
use serde::Deserialize;
use trimtab_engine::generate::{EndReason, Event, GenerateRequest, Generation};
use trimtab_engine::{
    Engine, Layer, LayerTable, Operation, Sampler, Scope, SequenceIndex, SteeringPlan, Term,
    TokenId, TokenRecord,
};
use trimtab_testing::files::golden_json;

/// Two passes over the same tokens in batches of other shapes may differ by this share of a typical
/// reading, and by as much in a log-probability.
const ROUNDING: f32 = 1e-3;
/// Where the plans here act.
const LAYER: Layer = Layer(16);

const WARM: Sampler = Sampler {
    temperature: 0.8,
    seed: 7,
    ..Sampler::GREEDY
};

#[derive(Deserialize)]
struct Prompts {
    prompts: Vec<Prompt>,
}

#[derive(Deserialize)]
struct Prompt {
    prompt_ids: Ids,
    ids: Ids,
}

/// Chat prompts and the reference's answers.
fn chats() -> Vec<(Vec<TokenId>, Vec<TokenId>)> {
    golden_json::<Prompts>("greedy.json")
        .prompts
        .iter()
        .map(|prompt| (prompt.prompt_ids.tokens(), prompt.ids.tokens()))
        .collect()
}

fn vector() -> LayerTable {
    let (shape, values) = Tensors::open("steering.safetensors").get("vector");
    LayerTable::new(values, shape[1]).expect("golden vector is finite")
}

fn push(coefficient: f32, scope: Scope) -> SteeringPlan {
    let operation = Operation::Add { coefficient };
    SteeringPlan {
        terms: vec![Term {
            vector: vector(),
            layers: vec![LAYER],
            operation,
            scope,
        }],
        ..SteeringPlan::default()
    }
}

fn request(sequence: u32, prompt: &[TokenId], max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        sequence: SequenceIndex(sequence),
        prompt: prompt.to_vec(),
        plan: SteeringPlan::default(),
        sampler: WARM,
        max_tokens,
        end_tokens: Vec::new(),
    }
}

/// Root mean square over the tokens after the first, for each layer of the first direction.
fn typical_readings(records: &[TokenRecord]) -> Vec<f32> {
    let layer_rows = records[0].readings.layer_rows;
    let square = |layer: usize| {
        let values = records[1..]
            .iter()
            .map(|record| record.readings.values[layer]);
        values.map(|value| value * value).sum::<f32>() / (records.len() - 1) as f32
    };
    (0..layer_rows).map(|layer| square(layer).sqrt()).collect()
}

/// The same tokens, and readings and log-probabilities that differ by rounding only.
fn assert_same_records(name: &str, ours: &[TokenRecord], theirs: &[TokenRecord]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let typical = typical_readings(theirs);
    for (a, b) in ours.iter().zip(theirs) {
        assert_eq!((a.position, a.token), (b.position, b.token), "{name}");
        assert_eq!(a.readings.values.len(), typical.len(), "{name}");
        for (layer, (x, y)) in a.readings.values.iter().zip(&b.readings.values).enumerate() {
            let allowed = ROUNDING * typical[layer].max(y.abs());
            assert!(
                (x - y).abs() <= allowed,
                "{name}: {:?}, layer {layer}: {x} against {y}",
                a.position
            );
        }
        if let (Some(x), Some(y)) = (&a.prediction, &b.prediction) {
            assert!(
                (x.chosen_logprob - y.chosen_logprob).abs() <= ROUNDING,
                "{name}: {:?}: {x:?} against {y:?}",
                a.position
            );
        }
    }
}

pub fn zero_coefficient_is_no_plan(engine: &mut Engine) {
    let (prompt, answer) = &chats()[0];
    let tokens = [&prompt[..], &answer[..8]].concat();
    let bits = |engine: &mut Engine, plan: &SteeringPlan| {
        let outcome = read(engine, &tokens, prompt.len(), plan, true, true);
        assert_eq!(
            outcome.residual.len(),
            tokens.len() * engine.layer_rows() * engine.config().hidden_size
        );
        let residual: Vec<u32> = outcome
            .residual
            .iter()
            .map(|value| value.to_bits())
            .collect();
        (residual, outcome.records)
    };
    let plain = bits(engine, &SteeringPlan::default());
    let zero = bits(engine, &push(0.0, Scope::All));
    assert!(
        plain == zero,
        "a coefficient of zero changed the residual stream or the predictions"
    );
    let pushed = bits(engine, &push(0.5, Scope::All));
    let row = engine.config().hidden_size;
    for (index, (a, b)) in plain.0.chunks(row).zip(pushed.0.chunks(row)).enumerate() {
        let layer = index % engine.layer_rows();
        assert_eq!(
            a == b,
            layer < LAYER.index(),
            "a push at layer {} and the residual at layer {layer}",
            LAYER.0
        );
    }
}

#[allow(dead_code, reason = "the GPU's second turn reuses one")]
pub fn cached_prefixes_are_reused(engine: &mut Engine) {
    engine
        .set_directions(&[vector()])
        .expect("golden vector fits");
    let (prompt, answer) = &chats()[9];
    let (short, long) = (&answer[..8], &answer[..16]);
    let first = [&prompt[..], short].concat();
    let second = [&prompt[..], long].concat();
    let plain = SteeringPlan::default();
    let mut scratch = |tokens: &[TokenId], length: usize, plan: &SteeringPlan, score: bool| {
        forget(engine);
        let outcome = read(engine, tokens, length, plan, score, false);
        assert_eq!(outcome.reused, 0);
        outcome.records
    };
    let whole = scratch(&second, prompt.len(), &plain, false);
    let mut edited = second.clone();
    let edit = prompt.len() + 3;
    edited[edit] = TokenId(edited[edit].0 + 1);
    let edited_whole = scratch(&edited, prompt.len(), &plain, false);
    let pushed = push(1.0, Scope::Response);
    let pushed_whole = scratch(&second, prompt.len(), &pushed, false);
    // The first answer now belongs to the prompt, where nothing is pushed.
    let later_whole = scratch(&second, first.len(), &pushed, true);
    forget(engine);

    let mut next = |name: &str,
                    tokens: &[TokenId],
                    length: usize,
                    plan: &SteeringPlan,
                    reused: usize,
                    expected: &[TokenRecord]| {
        let outcome = read(engine, tokens, length, plan, false, false);
        assert_eq!(outcome.reused, reused, "{name}");
        assert_same_records(name, &outcome.records, expected);
    };
    let length = prompt.len();
    next(
        "first turn",
        &first,
        length,
        &plain,
        0,
        &whole[..first.len()],
    );
    next("second turn", &second, length, &plain, first.len(), &whole);
    next(
        "the same again",
        &second,
        length,
        &plain,
        second.len(),
        &whole,
    );
    next("edited", &edited, length, &plain, edit, &edited_whole);
    // The last prompt token is the first that a response plan acts on.
    next(
        "pushed",
        &second,
        length,
        &pushed,
        length - 1,
        &pushed_whole,
    );
    next(
        "pushed, next turn",
        &second,
        first.len(),
        &pushed,
        length - 1,
        &later_whole,
    );

    // Tokens that were read but not scored are scored when asked for.
    let outcome = read(engine, &second, first.len(), &pushed, true, false);
    assert_same_records("scored", &outcome.records, &later_whole);
    for (index, record) in outcome.records[..second.len() - 1].iter().enumerate() {
        assert!(record.prediction.is_some(), "token {index} is not scored");
    }
}

pub fn second_turn_continues_the_first(engine: &mut Engine) {
    engine
        .set_directions(&[vector()])
        .expect("golden vector fits");
    let (prompt, _) = &chats()[2];
    let turn = answers(engine, vec![request(0, prompt, 8)]).remove(0);
    assert_eq!(turn.reason, EndReason::MaxTokens);
    assert_eq!(turn.records.len(), prompt.len() + 8);
    let so_far = [&prompt[..], &turn.tokens].concat();
    let plain = SteeringPlan::default();
    let outcome = read(engine, &so_far, so_far.len(), &plain, false, false);
    assert_eq!(
        outcome.reused,
        so_far.len(),
        "the answer stays in the cache"
    );

    // The same conversation goes on in the cache, and from its beginning.
    let next_prompt = [&so_far[..], &chats()[3].0].concat();
    let continued = answers(engine, vec![request(0, &next_prompt, 4)]).remove(0);
    forget(engine);
    let scratch = answers(engine, vec![request(0, &next_prompt, 4)]).remove(0);
    assert_eq!(continued.tokens, scratch.tokens);
    assert_same_records("second turn", &continued.records, &scratch.records);
}

pub fn changed_plan_opens_a_segment(engine: &mut Engine) {
    let (coefficient, count) = (1.5, 12);
    let vector = vector();
    engine
        .set_directions(std::slice::from_ref(&vector))
        .expect("golden vector fits");
    let (prompt, _) = &chats()[1];
    let answer = block_on(async {
        let mut run = Generation::start(engine, vec![request(0, prompt, count)]).await?;
        let (mut chosen, mut announced) = (0, None);
        while let Some(event) = run.next(engine).await? {
            chosen += usize::from(matches!(event, Event::Token { .. }));
            if chosen == 5 && announced.is_none() {
                announced = Some(run.set_plan(engine, 0, push(coefficient, Scope::All))?);
            }
        }
        let answer = run.finish(engine).await?.remove(0);
        assert_eq!(announced, Some(answer.segments[1].from));
        Ok::<_, trimtab_engine::EngineError>(answer)
    })
    .expect("golden prompt is answered");
    assert_eq!(answer.tokens.len(), count);
    assert_eq!(answer.segments.len(), 2);
    let from = answer.segments[1].from.0 as usize;
    let latest = prompt.len() + 5 + engine.limits().in_flight;
    assert!(
        (prompt.len() + 4..=latest).contains(&from),
        "the plan was set after five tokens and acts from token {from}"
    );

    // Below the pushed layer nothing knows of the push; at it, the reading is the unsteered one plus
    // the push itself; above it, tokens from the segment on differ.
    let tokens = [&prompt[..], &answer.tokens].concat();
    let plain = SteeringPlan::default();
    let again = read(engine, &tokens, prompt.len(), &plain, false, false);
    assert_eq!(again.reused, from, "a pushed token is not an unsteered one");
    forget(engine);
    let unsteered = read(engine, &tokens, prompt.len(), &plain, false, false);
    assert_same_records("read again", &again.records, &unsteered.records);
    let typical = typical_readings(&unsteered.records);
    let shift = coefficient * super::norm(vector.row(LAYER).iter().copied()) as f32;
    for (index, (a, b)) in answer.records.iter().zip(&unsteered.records).enumerate() {
        assert_eq!(a.token, tokens[index]);
        for (layer, (&x, &y)) in a.readings.values.iter().zip(&b.readings.values).enumerate() {
            let pushed = index >= from && layer == LAYER.index();
            let expected = if pushed { y + shift } else { y };
            let same = (x - expected).abs() <= ROUNDING * typical[layer].max(expected.abs());
            if index < from || layer <= LAYER.index() {
                assert!(same, "token {index}, layer {layer}: {x} against {expected}");
            } else if layer == LAYER.index() + 1 {
                assert!(!same, "token {index}: the push is lost after its layer");
            }
        }
    }
}

#[allow(dead_code, reason = "the GPU has it on small models")]
pub fn batch_equals_one_at_a_time(engine: &mut Engine) {
    engine
        .set_directions(&[vector()])
        .expect("golden vector fits");
    let chats = chats();
    let mut requests: Vec<_> = (0..4)
        .map(|index| request(index, &chats[index as usize + 6].0, 10 + 2 * index as usize))
        .collect();
    requests[1].plan = push(1.0, Scope::All);
    requests[2].plan = push(-1.0, Scope::Response);
    requests[3].sampler = Sampler::GREEDY;
    let alone: Vec<_> = requests
        .iter()
        .map(|request| {
            forget(engine);
            answers(engine, vec![request.clone()]).remove(0)
        })
        .collect();
    // One ends early, so that the others go on without it.
    let end = alone[0].tokens[5];
    let kept = alone[0].tokens.iter().position(|token| *token == end);
    requests[0].end_tokens = vec![end];
    forget(engine);
    let together = answers(engine, requests);
    assert_eq!(together[0].reason, EndReason::EndToken);
    assert_eq!(Some(together[0].tokens.len()), kept);
    for (index, (a, b)) in together.iter().zip(&alone).enumerate() {
        assert_eq!(
            a.tokens[..],
            b.tokens[..a.tokens.len()],
            "answer {index} of the batch"
        );
        if index > 0 {
            assert_eq!(a.tokens.len(), b.tokens.len());
        }
        let name = format!("answer {index} of the batch");
        assert_same_records(&name, &a.records, &b.records[..a.records.len()]);
    }
}

#[allow(dead_code, reason = "the GPU's samples are compared token by token")]
pub fn seed_decides_the_answer(engine: &mut Engine) {
    let (prompt, _) = &chats()[1];
    let mut run = |seed: u32| {
        forget(engine);
        let mut request = request(0, prompt, 8);
        request.sampler.seed = seed;
        answers(engine, vec![request]).remove(0).tokens
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

/// A run that nobody finished leaves neither queued work nor wrong rows behind.
pub fn abandoned_run_harms_nothing(engine: &mut Engine) {
    engine
        .set_directions(&[vector()])
        .expect("golden vector fits");
    let (prompt, answer) = &chats()[4];
    let tokens = [&prompt[..], &answer[..8]].concat();
    let plain = SteeringPlan::default();
    let expected = read(engine, &tokens, prompt.len(), &plain, true, false);
    forget(engine);
    block_on(async {
        let mut run = Generation::start(engine, vec![request(0, prompt, 12)]).await?;
        let mut chosen = 0;
        while chosen < 3 {
            chosen += usize::from(matches!(
                run.next(engine).await?,
                Some(Event::Token { .. }) | None
            ));
        }
        Ok::<_, trimtab_engine::EngineError>(())
    })
    .expect("golden prompt is answered");
    let outcome = read(engine, &tokens, prompt.len(), &plain, true, false);
    assert_same_records(
        "after an abandoned run",
        &outcome.records,
        &expected.records,
    );
}
