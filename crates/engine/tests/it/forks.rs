//! Sequences that share what they have in common: a fork computes nothing, what several begin with is read once, and no
//! sequence notices the others.

use pollster::block_on;
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::generate::{Answer, Event, GenerateRequest, Generation};
use trimtab_engine::gpu::{Assumptions, GpuExecutor};
use trimtab_engine::{
    Backend, Engine, Precision, Sampler, SequenceIndex, SteeringPlan, TokenId, TokenRecord,
};
use trimtab_testing::small_models::{self, Form, plan, table, tokens};

const EXECUTORS: [(Backend, Precision); 4] = [
    (Backend::Reference, Precision::Exact),
    (Backend::Cpu, Precision::Exact),
    (Backend::Cpu, Precision::Fast),
    (Backend::Gpu, Precision::Exact),
];
/// Tokens that the texts below begin with: more than a page of the cache.
const COMMON: usize = 100;

fn engine(backend: Backend, precision: Precision, sequences: usize) -> Engine {
    let model = small_models::model(Form::Q4WithMin, "llama", "silu");
    let mut engine = small_models::engine_assuming(
        &model,
        backend,
        precision,
        Assumptions::default(),
        sequences,
    );
    engine.set_directions(&[table(5)]).unwrap();
    engine
}

/// Texts with the same beginning and ends of their own.
fn texts(count: u32) -> Vec<Vec<TokenId>> {
    let text = |index| [tokens(COMMON, 1), tokens(20, 2 + index)].concat();
    (0..count).map(text).collect()
}

fn read(engine: &mut Engine, sequence: u32, tokens: &[TokenId]) -> ReadOutcome {
    let request = ReadRequest {
        sequence: SequenceIndex(sequence),
        tokens,
        prompt_length: tokens.len(),
        plan: &SteeringPlan::default(),
        score: Scoring::Everything,
        capture: false,
    };
    block_on(engine.read(&request, &mut |_, _| {})).unwrap()
}

/// All answers, and in how many batches their prompts were read.
fn generate(
    engine: &mut Engine,
    texts: &[(u32, &[TokenId], &SteeringPlan)],
) -> (Vec<Answer>, usize) {
    let request = |(sequence, prompt, plan): &(u32, &[TokenId], &SteeringPlan)| GenerateRequest {
        sequence: SequenceIndex(*sequence),
        prompt: prompt.to_vec(),
        plan: (*plan).clone(),
        sampler: Sampler {
            temperature: 0.8,
            repetition_penalty: 1.3,
            seed: 3,
            ..Sampler::GREEDY
        },
        max_tokens: 12,
        end_tokens: vec![],
    };
    block_on(async {
        let requests = texts.iter().map(request).collect();
        let mut run = Generation::start(engine, requests).await.unwrap();
        let mut batches = 0;
        while let Some(event) = run.next(engine).await.unwrap() {
            batches += usize::from(matches!(event, Event::Prompt { .. }));
        }
        (run.finish(engine).await.unwrap(), batches)
    })
}

/// Everything that a record says, each number to its last bit.
fn bits(records: &[TokenRecord]) -> Vec<Vec<u32>> {
    let bits = |record: &TokenRecord| {
        let prediction = record.prediction.iter().flat_map(|prediction| {
            let logprobs = [prediction.chosen_logprob, prediction.target_logprob];
            logprobs.into_iter().chain([prediction.chosen.0 as f32])
        });
        let readings = record.readings.values.iter().copied();
        let numbers = readings.chain(prediction).map(f32::to_bits);
        [record.position.0, record.token.0]
            .into_iter()
            .chain(numbers)
            .collect()
    };
    records.iter().map(bits).collect()
}

#[test]
fn a_fork_goes_on_where_its_sequence_was() {
    let [one, other]: [_; 2] = texts(2).try_into().unwrap();
    for (backend, precision) in EXECUTORS {
        let label = format!("{backend:?} {precision:?}");
        // In an engine of its own each text is read in the same two parts.
        let mut alone = engine(backend, precision, 1);
        let alone = [&one, &other].map(|text| {
            alone.clear(SequenceIndex(0)).unwrap();
            read(&mut alone, 0, &text[..COMMON]);
            bits(&read(&mut alone, 0, text).records)
        });
        let mut engine = engine(backend, precision, 2);
        read(&mut engine, 0, &one[..COMMON]);
        let dispatches = |engine: &Engine| engine.gpu().map(GpuExecutor::dispatches);
        let before = dispatches(&engine);
        block_on(engine.fork(SequenceIndex(0), SequenceIndex(1))).unwrap();
        assert_eq!(dispatches(&engine), before, "{label}");
        let forked = read(&mut engine, 1, &other);
        // The last token in common was not scored yet.
        assert_eq!(forked.reused, COMMON - 1, "{label}");
        assert_eq!(bits(&forked.records), alone[1], "{label}");
        assert_eq!(
            bits(&read(&mut engine, 0, &one).records),
            alone[0],
            "{label}"
        );
        // Each still has what is its own.
        let again = read(&mut engine, 1, &other);
        assert_eq!(again.reused, other.len(), "{label}");
        assert_eq!(bits(&again.records), alone[1], "{label}");
        let own = |record: &TokenRecord| record.sequence == SequenceIndex(1);
        assert!(again.records.iter().all(own), "{label}");
    }
}

#[test]
fn what_eight_sequences_begin_with_is_read_once() {
    let texts = texts(8);
    for (backend, precision) in EXECUTORS {
        let label = format!("{backend:?} {precision:?}");
        let mut together = engine(backend, precision, 8);
        let mut alone = engine(backend, precision, 1);
        for (sequence, text) in (0..).zip(&texts) {
            alone.clear(SequenceIndex(0)).unwrap();
            // Read in the same parts: which rows a batch has decides how its sums are rounded.
            if sequence > 0 {
                read(&mut alone, 0, &texts[0]);
            }
            let want = read(&mut alone, 0, text);
            let got = read(&mut together, sequence, text);
            let reused = if sequence == 0 { 0 } else { COMMON - 1 };
            assert_eq!((got.reused, want.reused), (reused, reused), "{label}");
            assert_eq!(bits(&got.records), bits(&want.records), "{label}");
        }
    }
}

#[test]
fn answers_that_begin_together_wait_for_what_they_have_in_common() {
    let (texts, plain, pushed) = (texts(8), SteeringPlan::default(), plan());
    // A push on the prompt makes other tokens of the same words: the last two have only each other.
    let requests: Vec<_> = (0..)
        .zip(&texts)
        .map(|(at, text)| (at, &text[..], if at < 6 { &plain } else { &pushed }))
        .collect();
    for (backend, precision) in EXECUTORS {
        let label = format!("{backend:?} {precision:?}");
        let mut together = engine(backend, precision, 16);
        let (answers, batches) = generate(&mut together, &requests);
        // Two beginnings, then eight ends: read one by one, the texts would be several times as many rows.
        let rows = 2 * COMMON + 8 * 20;
        let most = rows.div_ceil(together.limits().rows) + 1;
        assert!(batches <= most, "{label}: {batches} batches");
        let mut alone = engine(backend, precision, 1);
        for (answer, &(_, text, plan)) in answers.iter().zip(&requests) {
            alone.clear(SequenceIndex(0)).unwrap();
            let (want, _) = generate(&mut alone, &[(0, text, plan)]);
            assert_eq!(answer.tokens, want[0].tokens, "{label}");
            if backend != Backend::Gpu {
                assert_eq!(bits(&answer.records), bits(&want[0].records), "{label}");
            }
        }
    }
}

#[test]
fn an_answer_does_not_notice_that_the_cache_grows() {
    let model = small_models::model_with_context(Form::Q4WithMin, "llama", "silu", 1100);
    let prompt = tokens(1015, 4);
    let answer = |grown: bool| {
        let mut engine = small_models::engine(&model, Backend::Gpu, Precision::Fast);
        if grown {
            read(&mut engine, 1, &tokens(70, 5));
        }
        generate(&mut engine, &[(0, &prompt[..], &SteeringPlan::default())])
            .0
            .remove(0)
    };
    // The pool has room for 1,024 positions at first: here it grows for the answer, there for the prompt.
    let (grown_late, grown_early) = (answer(false), answer(true));
    assert_eq!(grown_late.tokens, grown_early.tokens);
    assert_eq!(bits(&grown_late.records), bits(&grown_early.records));
}
