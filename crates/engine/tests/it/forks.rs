//! Sequences that share what they have in common: a fork computes nothing, and neither sequence notices the other.

use pollster::block_on;
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::generate::{Answer, GenerateRequest, Generation};
use trimtab_engine::gpu::{Assumptions, GpuExecutor};
use trimtab_engine::{
    Backend, Engine, Precision, Sampler, SequenceIndex, SteeringPlan, TokenId, TokenRecord,
};
use trimtab_testing::small_models::{self, Form};

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

fn logprobs(read: &ReadOutcome) -> Vec<f32> {
    let scored = read.records.iter().take(read.records.len() - 1);
    let logprob = |record: &TokenRecord| {
        let prediction = record.prediction.as_ref();
        prediction.unwrap().target_logprob
    };
    scored.map(logprob).collect()
}

/// The largest difference that reading in other batches may make.
const CLOSE: f32 = 2e-4;

fn assert_alike(label: &str, a: &ReadOutcome, b: &ReadOutcome) {
    let (a, b) = (logprobs(a), logprobs(b));
    assert_eq!(a.len(), b.len(), "{label}");
    for (a, b) in a.iter().zip(&b) {
        assert!((a - b).abs() < CLOSE, "{label}: {a}, not {b}");
    }
}

#[test]
fn a_fork_goes_on_where_its_sequence_was() {
    let model = small_models::model(Form::Q4WithMin, "llama", "silu");
    let (prompt, one, other) = (
        small_models::tokens(100, 1),
        small_models::tokens(20, 2),
        small_models::tokens(20, 3),
    );
    for (backend, precision) in [
        (Backend::Reference, Precision::Exact),
        (Backend::Cpu, Precision::Exact),
        (Backend::Cpu, Precision::Fast),
        (Backend::Gpu, Precision::Exact),
    ] {
        let label = format!("{backend:?} {precision:?}");
        let mut engine = small_models::engine(&model, backend, precision);
        let [one, other] = [&one, &other].map(|end| [&prompt[..], end].concat());
        let alone = [&one, &other].map(|text| {
            engine.clear(SequenceIndex(0)).unwrap();
            read(&mut engine, 0, text)
        });
        engine.clear(SequenceIndex(0)).unwrap();
        read(&mut engine, 0, &prompt);
        let dispatches = |engine: &Engine| engine.gpu().map(GpuExecutor::dispatches);
        let before = dispatches(&engine);
        block_on(engine.fork(SequenceIndex(0), SequenceIndex(1))).unwrap();
        assert_eq!(dispatches(&engine), before, "{label}");
        let forked = read(&mut engine, 1, &other);
        // The prompt's last token was not scored yet.
        assert_eq!(forked.reused, prompt.len() - 1, "{label}");
        let first = read(&mut engine, 0, &one);
        assert_alike(&label, &first, &alone[0]);
        assert_alike(&label, &forked, &alone[1]);
        assert!(
            first
                .records
                .iter()
                .all(|record| record.sequence == SequenceIndex(0))
        );
        assert!(
            forked
                .records
                .iter()
                .all(|record| record.sequence == SequenceIndex(1))
        );
        // Each still has what is its own.
        assert_alike(&label, &read(&mut engine, 1, &other), &alone[1]);
        assert_eq!(read(&mut engine, 1, &other).reused, other.len(), "{label}");
    }
}

fn request(sequence: u32, prompt: &[TokenId], seed: u32, max_tokens: usize) -> GenerateRequest {
    let warm = Sampler {
        temperature: 1.0,
        seed,
        ..Sampler::GREEDY
    };
    GenerateRequest {
        sequence: SequenceIndex(sequence),
        prompt: prompt.to_vec(),
        plan: SteeringPlan::default(),
        sampler: warm,
        max_tokens,
        end_tokens: vec![],
    }
}

fn answers(engine: &mut Engine, requests: Vec<GenerateRequest>) -> Vec<Answer> {
    block_on(async {
        let mut run = Generation::start(engine, requests).await.unwrap();
        while run.next(engine).await.unwrap().is_some() {}
        run.finish(engine).await.unwrap()
    })
}

#[test]
fn eight_sequences_side_by_side_answer_as_each_alone() {
    let model = small_models::model(Form::Q4WithMin, "llama", "silu");
    for backend in [Backend::Cpu, Backend::Gpu] {
        let assumptions = Assumptions::default();
        let mut engine =
            small_models::engine_assuming(&model, backend, Precision::Exact, assumptions, 8);
        let one = |sequence: u32| {
            let prompt = small_models::tokens(40 + 9 * sequence as usize, sequence);
            request(sequence, &prompt, sequence, 20)
        };
        let together = answers(&mut engine, (0..8).map(one).collect());
        for (sequence, answer) in (0..).zip(together) {
            engine.clear(SequenceIndex(sequence)).unwrap();
            let alone = answers(&mut engine, vec![one(sequence)]).remove(0);
            assert_eq!(alone.tokens, answer.tokens, "{backend:?}, {sequence}");
        }
    }
}

#[test]
fn an_answer_does_not_notice_that_the_cache_grows() {
    let model = small_models::model_with_context(Form::Q4WithMin, "llama", "silu", 1100);
    let prompt = small_models::tokens(1015, 4);
    let answer = |grown: bool| {
        let mut engine = small_models::engine(&model, Backend::Gpu, Precision::Fast);
        if grown {
            read(&mut engine, 1, &small_models::tokens(70, 5));
        }
        answers(&mut engine, vec![request(0, &prompt, 6, 20)]).remove(0)
    };
    // The pool has room for 1,024 positions at first: here it grows for the answer, there for the prompt.
    let (grown_late, grown_early) = (answer(false), answer(true));
    assert_eq!(grown_late.tokens, grown_early.tokens);
    for (late, early) in grown_late.records.iter().zip(&grown_early.records) {
        let of = |record: &TokenRecord| {
            let prediction = record.prediction.as_ref();
            prediction.map(|next| (next.chosen, next.chosen_logprob.to_bits()))
        };
        assert_eq!(of(late), of(early));
    }
}
