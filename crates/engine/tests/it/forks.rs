//! Sequences that share what they have in common: a fork computes nothing, and neither sequence notices the other.

use pollster::block_on;
use trimtab_engine::engine::{ReadOutcome, ReadRequest, Scoring};
use trimtab_engine::{Backend, Engine, Precision, SequenceIndex, SteeringPlan, TokenId};
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
    let logprob = |record: &trimtab_engine::TokenRecord| {
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
        block_on(engine.fork(SequenceIndex(0), SequenceIndex(1))).unwrap();
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
