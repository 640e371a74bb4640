//! Answers of small random models: every executor chooses the same tokens, alone, in a batch, resumed on another
//! engine, and forced.

use crate::golden::answers;
use pollster::block_on;
use std::cell::Cell;
use trimtab_engine::forced::{Forced, ForcedRequest};
use trimtab_engine::generate::{EndReason, Event, GenerateRequest, Generation, Segment};
use trimtab_engine::gpu::Assumptions;
use trimtab_engine::{
    Backend, Engine, Layer, Operation, Precision, Sampler, Scope, SequenceIndex, SteeringPlan,
    Term, TokenId, TokenRecord,
};
use trimtab_testing::small_models::*;

/// An unsteered greedy answer to a prompt in the first sequence.
fn request(prompt: Vec<TokenId>, max_tokens: usize) -> GenerateRequest {
    GenerateRequest {
        sequence: SequenceIndex(0),
        prompt,
        plan: SteeringPlan::default(),
        sampler: Sampler::GREEDY,
        max_tokens,
        end_tokens: vec![],
    }
}

/// Several answers at once, in every way of choosing a token.
fn generate(engine: &mut Engine, sampler: Sampler, together: &[u32]) -> Vec<Vec<TokenId>> {
    let requests = together.iter().map(|&sequence| GenerateRequest {
        sequence: SequenceIndex(sequence),
        plan: plan(),
        sampler: Sampler {
            seed: sampler.seed + sequence,
            ..sampler
        },
        ..request(tokens(5 + 9 * sequence as usize, sequence), 24)
    });
    let answers = answers(engine, requests.collect());
    answers.into_iter().map(|answer| answer.tokens).collect()
}

/// The records of a text that is forced through the model.
fn force(
    engine: &mut Engine,
    tokens: &[TokenId],
    prompt_length: usize,
    segments: &[Segment],
    sampler: Sampler,
) -> Vec<TokenRecord> {
    let request = ForcedRequest {
        sequence: SequenceIndex(2),
        tokens,
        prompt_length,
        segments,
        sampler,
    };
    block_on(async {
        let mut forced = Forced::start(engine, &request).await.unwrap();
        while forced.next(engine).await.unwrap() {}
        assert_eq!(forced.done(), forced.total());
        forced.finish(engine)
    })
}

#[test]
fn all_executors_choose_the_same_tokens() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let mut reference = engine(&model, Backend::Reference, Precision::Exact);
    let mut tested = [
        engine(&model, Backend::Cpu, Precision::Exact),
        engine(&model, Backend::Gpu, Precision::Exact),
        engine_assuming(&model, Backend::Gpu, Precision::Exact, HARDWARE, 3),
    ];
    let warm = Sampler {
        temperature: 0.8,
        seed: 3,
        ..Sampler::GREEDY
    };
    let samplers = [
        Sampler::GREEDY,
        Sampler {
            repetition_penalty: 1.4,
            ..Sampler::GREEDY
        },
        warm,
        Sampler { top_k: 12, ..warm },
        Sampler { top_p: 0.7, ..warm },
        Sampler {
            top_k: 40,
            top_p: 0.8,
            repetition_penalty: 1.2,
            ..warm
        },
    ];
    for sampler in samplers {
        let want = generate(&mut reference, sampler, &[0, 1, 2]);
        assert!(want.iter().all(|answer| answer.len() == 24), "{sampler:?}");
        for engine in &mut tested {
            assert_eq!(generate(engine, sampler, &[0, 1, 2]), want, "{sampler:?}");
            for (sequence, want) in want.iter().enumerate() {
                assert_eq!(
                    &generate(engine, sampler, &[sequence as u32])[0],
                    want,
                    "alone: {sampler:?}"
                );
            }
        }
    }
}

/// Near 0 the greedy answer, whatever the logits overflow to; where only noise is left, the same text everywhere.
#[test]
fn temperatures_at_the_ends_of_their_range_choose_what_they_mean() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let mut engines = [
        (Backend::Reference, Precision::Exact),
        (Backend::Cpu, Precision::Exact),
        (Backend::Gpu, Precision::Exact),
    ]
    .map(|(backend, precision)| engine(&model, backend, precision));
    let noise = Sampler {
        temperature: f32::MAX,
        ..Sampler::GREEDY
    };
    let greedy = generate(&mut engines[0], Sampler::GREEDY, &[0]);
    let random = generate(&mut engines[0], noise, &[0]);
    assert_ne!(greedy, random);
    for engine in &mut engines {
        for temperature in [f32::from_bits(1), 1e-38, 1e-30, 1e-10] {
            let cold = Sampler {
                temperature,
                ..Sampler::GREEDY
            };
            assert_eq!(generate(engine, cold, &[0]), greedy, "{temperature}");
        }
        assert_eq!(generate(engine, noise, &[0]), random);
    }
}

/// Without a limit of its own an answer ends where the context does; a prompt that is longer is told both numbers.
#[test]
fn the_context_ends_an_answer_of_any_length() {
    let model = model_with_context(Form::F32, "llama", "silu", 24);
    let mut engine = engine(&model, Backend::Cpu, Precision::Exact);
    let request = |length| request(tokens(length, 1), usize::MAX);
    let answer = answers(&mut engine, vec![request(4)]).remove(0);
    assert_eq!(answer.tokens.len(), 24 - 4 + 1);
    assert_eq!(answer.reason, EndReason::ContextFull);
    let refused = block_on(Generation::start(&mut engine, vec![request(30)]));
    let sentence = refused.unwrap_err().to_string();
    assert_eq!(
        sentence,
        "30 tokens do not fit: this engine holds 24; shorten the conversation"
    );
}

/// Eight answers at once are those that each would be alone, by whichever kernels the wider batch goes.
#[test]
fn a_batch_of_eight_chooses_the_same_tokens_as_one_at_a_time() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let all: Vec<u32> = (0..8).collect();
    for (backend, precision, assumptions) in [
        (Backend::Cpu, Precision::Exact, Assumptions::default()),
        (Backend::Cpu, Precision::Fast, Assumptions::default()),
        (Backend::Gpu, Precision::Exact, Assumptions::default()),
        (Backend::Gpu, Precision::Fast, Assumptions::default()),
        (Backend::Gpu, Precision::Exact, HARDWARE),
        (Backend::Gpu, Precision::Fast, HARDWARE),
    ] {
        let mut engine = engine_assuming(&model, backend, precision, assumptions, 8);
        let warm = Sampler {
            temperature: 0.8,
            top_p: 0.9,
            seed: 3,
            ..Sampler::GREEDY
        };
        // Software adapters are slow: there, one sampler must do.
        let samplers = match backend {
            Backend::Gpu => &[warm][..],
            _ => &[Sampler::GREEDY, warm],
        };
        for &sampler in samplers {
            let together = generate(&mut engine, sampler, &all);
            assert!(together.iter().all(|answer| answer.len() == 24));
            for (&sequence, together) in all.iter().zip(&together) {
                let alone = generate(&mut engine, sampler, &[sequence]);
                assert_eq!(
                    &alone[0], together,
                    "{backend:?} {precision:?} {assumptions:?}, answer {sequence}"
                );
            }
        }
    }
}

thread_local! {
    /// The time that the clock below says next, and the step by which it moves on whenever it is looked at.
    static TIME: Cell<(f64, f64)> = const { Cell::new((0.0, 0.0)) };
}

fn fake_clock() -> f64 {
    TIME.with(|time| {
        let (now, step) = time.get();
        time.set((now + step, step));
        now
    })
}

/// How many tokens an answer is ahead of its reader where each look at the clock takes `step` seconds.
fn tokens_ahead(engine: &mut Engine, step: f64) -> Vec<u32> {
    TIME.set((0.0, step));
    engine.set_clock(fake_clock);
    let request = request(tokens(4, 1), 24);
    block_on(async {
        let mut run = Generation::start(engine, vec![request]).await.unwrap();
        let mut ahead = Vec::new();
        while let Some(event) = run.next(engine).await.unwrap() {
            if let Event::Token { position, .. } = event {
                // The segment opens at the first token that is not yet queued.
                let from = run.set_plan(engine, 0, SteeringPlan::default()).unwrap();
                ahead.push(from.0 - position.0);
            }
        }
        run.finish(engine).await.unwrap();
        ahead
    })
}

#[test]
fn an_answer_runs_ahead_by_what_the_clock_allows() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let mut gpu = engine(&model, Backend::Gpu, Precision::Exact);
    for (step, most) in [(0.0005, 3), (0.09, 0), (1.0, 0)] {
        let ahead = tokens_ahead(&mut gpu, step);
        assert_eq!(ahead.iter().max(), Some(&most), "{step} s: {ahead:?}");
    }
    let mut cpu = engine(&model, Backend::Cpu, Precision::Exact);
    assert_eq!(tokens_ahead(&mut cpu, 0.0005).iter().max(), Some(&0));
}

#[test]
fn a_sampler_that_means_nothing_is_refused() {
    let model = model(Form::F32, "llama", "silu");
    let mut engine = engine(&model, Backend::Cpu, Precision::Exact);
    let request = GenerateRequest {
        sampler: Sampler {
            temperature: f32::NAN,
            ..Sampler::GREEDY
        },
        ..request(tokens(4, 1), 1)
    };
    let refused = block_on(Generation::start(&mut engine, vec![request]));
    assert!(refused.unwrap_err().to_string().contains("temperature"));
}

/// A run of two answers, one of them pushed in another way from its sixth token on. After `interrupted` tokens of both
/// together, `second` goes on in the place of `first`.
fn interrupted(
    first: &mut Engine,
    second: Option<(usize, &mut Engine)>,
) -> (Vec<Vec<TokenId>>, Vec<(usize, u32)>) {
    let warm = Sampler {
        temperature: 0.9,
        top_p: 0.9,
        repetition_penalty: 1.2,
        seed: 11,
        ..Sampler::GREEDY
    };
    let requests = [(0, 20), (1, 6)].map(|(sequence, max_tokens)| GenerateRequest {
        sequence: SequenceIndex(sequence),
        sampler: warm,
        ..request(tokens(8 + sequence as usize, sequence), max_tokens)
    });
    block_on(async {
        let mut run = Generation::start(first, requests.into()).await.unwrap();
        let mut engine = first;
        let mut second = second;
        let mut chosen = [0, 0];
        let mut read = Vec::new();
        while let Some(event) = run.next(engine).await.unwrap() {
            match event {
                Event::Token { request, .. } => {
                    chosen[request] += 1;
                    if (request, chosen[0]) == (0, 6) {
                        run.set_plan(engine, 0, plan()).unwrap();
                    }
                }
                Event::Read { request, record } => read.push((request, record.position.0)),
                _ => continue,
            }
            let enough = |after: usize| chosen.iter().sum::<usize>() >= after;
            if let Some((after, _)) = &second
                && enough(*after)
                && let Some((_, other)) = second.take()
            {
                engine = other;
                run.resume(engine).await.unwrap();
            }
        }
        let answers = run.finish(engine).await.unwrap();
        for answer in &answers {
            let consumed = answer.records.iter().map(|record| record.token);
            let whole = tokens(answer.prompt_length, answer.sequence.0);
            let whole = whole.into_iter().chain(answer.tokens.iter().copied());
            assert!(consumed.zip(whole).all(|(record, token)| record == token));
            assert!(answer.records.len() >= answer.prompt_length + answer.tokens.len() - 1);
        }
        (
            answers.into_iter().map(|answer| answer.tokens).collect(),
            read,
        )
    })
}

#[test]
fn an_interrupted_run_goes_on_elsewhere_with_the_same_tokens() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    // A second a token, so that the push moves at the same token whether or not the engine could run ahead.
    TIME.set((0.0, 1.0));
    let new = |backend| {
        let mut engine = engine(&model, backend, Precision::Exact);
        engine.set_clock(fake_clock);
        engine
    };
    let (want, want_read) = interrupted(&mut new(Backend::Cpu), None);
    assert_eq!((want[0].len(), want[1].len()), (20, 6));
    for (after, backend) in [
        (1, Backend::Cpu),
        (7, Backend::Gpu),
        (12, Backend::Cpu),
        (19, Backend::Gpu),
    ] {
        let (first, mut second) = (&mut new(Backend::Cpu), new(backend));
        let (got, read) = interrupted(first, Some((after, &mut second)));
        assert_eq!(got, want, "interrupted after {after} tokens, {backend:?}");
        let sorted = |mut read: Vec<(usize, u32)>| {
            read.sort_unstable();
            read
        };
        assert_eq!(
            sorted(read),
            sorted(want_read.clone()),
            "every token is read once"
        );
    }
}

/// A slider that was moved with every other token leaves more plans in one answer than an engine has room for
/// in one batch; read again elsewhere, each token has its own.
#[test]
fn an_answer_of_many_segments_is_read_again_under_each_of_its_plans() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    let pushed = |count: usize| SteeringPlan {
        terms: vec![Term {
            vector: table(5),
            layers: vec![Layer(1), Layer(3)],
            operation: Operation::Add {
                coefficient: 0.2 + 0.1 * count as f32,
            },
            scope: Scope::All,
        }],
        ..SteeringPlan::default()
    };
    let request = || GenerateRequest {
        plan: pushed(0),
        ..request(tokens(6, 1), 30)
    };
    let run = |other: Option<&mut Engine>| {
        block_on(async {
            let mut first = engine(&model, Backend::Cpu, Precision::Exact);
            let engine = &mut first;
            let mut run = Generation::start(engine, vec![request()]).await.unwrap();
            let mut chosen = 0;
            while let Some(event) = run.next(engine).await.unwrap() {
                if matches!(event, Event::Token { .. }) {
                    chosen += 1;
                    if chosen % 2 == 0 && chosen < 26 {
                        run.set_plan(engine, 0, pushed(chosen)).unwrap();
                    }
                }
                if chosen == 28 && other.is_some() {
                    break;
                }
            }
            let engine = match other {
                Some(other) => {
                    run.resume(other).await.unwrap();
                    while run.next(other).await.unwrap().is_some() {}
                    other
                }
                None => engine,
            };
            run.finish(engine).await.unwrap().remove(0)
        })
    };
    let want = run(None);
    assert_eq!((want.segments.len(), want.tokens.len()), (13, 30));
    for backend in [Backend::Cpu, Backend::Gpu] {
        let mut other = engine(&model, backend, Precision::Exact);
        other.set_directions(&[table(5)]).unwrap();
        let got = run(Some(&mut other));
        assert_eq!(got.tokens, want.tokens, "{backend:?}");
        // Every token under its own plan, read segment by segment.
        let all = [tokens(6, 1), want.tokens.clone()].concat();
        let records = force(&mut other, &all, 6, &want.segments, Sampler::GREEDY);
        for (got, want) in got.records.iter().zip(&records) {
            for (got, want) in got.readings.values.iter().zip(&want.readings.values) {
                assert!(
                    (got - want).abs() < 1e-3 * (1.0 + want.abs()),
                    "{backend:?}: {got}, not {want}"
                );
            }
        }
    }
}

/// A run with a slider movement in it, forced: every token is chosen again, under a repetition penalty
/// (one token a batch) and without (many); and where one was put in its place, the run's own is.
#[test]
fn a_run_that_is_forced_chooses_its_own_tokens_again() {
    let model = model(Form::Q4WithMin, "llama", "silu");
    for backend in [Backend::Cpu, Backend::Gpu] {
        let mut engine = engine(&model, backend, Precision::Exact);
        for repetition_penalty in [1.0, 1.3] {
            let sampler = Sampler {
                temperature: 0.9,
                top_k: 60,
                top_p: 0.95,
                repetition_penalty,
                seed: 5,
            };
            let request = GenerateRequest {
                plan: plan(),
                sampler,
                ..request(tokens(9, 4), 24)
            };
            let answer = block_on(async {
                let mut run = Generation::start(&mut engine, vec![request]).await.unwrap();
                let mut written = 0;
                while let Some(event) = run.next(&mut engine).await.unwrap() {
                    written += usize::from(matches!(event, Event::Token { .. }));
                    if written == 8 {
                        written += 1;
                        run.set_plan(&engine, 0, SteeringPlan::default()).unwrap();
                    }
                }
                run.finish(&mut engine).await.unwrap().remove(0)
            });
            assert_eq!((answer.segments.len(), answer.tokens.len()), (2, 24));
            let mut all = [tokens(9, 4), answer.tokens.clone()].concat();
            let mut force = |all: &[TokenId]| force(&mut engine, all, 9, &answer.segments, sampler);
            let chosen = |records: &[TokenRecord]| -> Vec<TokenId> {
                let asked = records[8..32].iter();
                asked
                    .map(|record| record.prediction.as_ref().unwrap().chosen)
                    .collect()
            };
            assert_eq!(chosen(&force(&all)), answer.tokens, "{backend:?}");
            // The prompt comes from the cache this time.
            all[12] = TokenId((all[12].0 + 1) % VOCAB as u32);
            let records = force(&all);
            assert_eq!(records.len(), all.len());
            assert_eq!(chosen(&records)[..4], answer.tokens[..4], "{backend:?}");
        }
    }
}
