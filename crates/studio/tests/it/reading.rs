//! Reading what is given: extraction against transformers on the default checkpoint, and pushes and calibrations on a random
//! model.

use crate::{CPU_EXACT, Hearing, small_session, with_session};
use pollster::block_on;
use safetensors::SafeTensors;
use serde_json::json;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::{Layer, Sampler, SequenceIndex, SteeringPlan, TokenId};
use trimtab_persona::contrast::parse_pairs;
use trimtab_persona::conversation::message;
use trimtab_persona::neutral::QUESTIONS;
use trimtab_persona::plan::NamedTerm;
use trimtab_persona::trait_vector::norm;
use trimtab_persona::vector_file::VectorFile;
use trimtab_studio::generation::{ColumnKind, ColumnRequest, GenerateRequest};
use trimtab_studio::reading::ReadingEvent;
use trimtab_studio::verbs::Event;
use trimtab_testing::chat_model;
use trimtab_testing::files::{floats, golden};

/// The averages of Hugging Face transformers' hidden states (`tests/golden/extract.*`).
#[test]
fn vectors_equal_the_reference_means() {
    let pairs = parse_pairs(&golden("extract.json")).unwrap();
    let file = with_session(&CPU_EXACT, |session| {
        block_on(session.extract(pairs, &mut Hearing::new(|_| false))).unwrap()
    });
    let file = VectorFile::parse(&file).unwrap();
    let made = file.metadata.made.unwrap();
    assert!(made.contains("3 positive and 3 negative"), "{made}");
    let bytes = golden("extract.safetensors");
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensors.len(), 3);
    for (name, ours) in &file.tensors {
        let (shape, theirs) = floats(&reference, name);
        assert_eq!(shape, [ours.rows(), ours.width()]);
        for (layer, theirs) in theirs.chunks(ours.width()).enumerate() {
            let row = ours.row(Layer(layer as u32));
            let apart: Vec<f32> = row.iter().zip(theirs).map(|(a, b)| a - b).collect();
            // All prompts end in the same token, so at layer 0 the prompt-last difference is nothing but rounding, on both sides.
            let most = match (name.as_str(), layer) {
                ("prompt_last", 0) => 1e-6,
                _ => 1e-3 * norm(theirs),
            };
            assert!(norm(&apart) <= most, "{name}, layer {layer}");
        }
    }
}

#[test]
fn a_reading_inside_a_steered_run_contains_the_push_and_a_rereading_does_not() {
    let mut session = small_session();
    let file = chat_model::vector_file(&chat_model::vector(1));
    session.add_vector("pushed", &file).unwrap();
    let request = GenerateRequest {
        columns: vec![ColumnRequest {
            column: ColumnKind::Steered,
            messages: vec![message("user", "Hello!")],
            ids: None,
            plan: vec!["pushed=2@1".parse().unwrap()],
            begun: None,
        }],
        sampler: Sampler::GREEDY,
        max_tokens: 4,
        reread: Some(false),
        readings: Some(true),
    };
    let column = block_on(session.generate(request, &mut Hearing::new(|_| false))).unwrap();
    let column = &column[0];
    assert!(column.reread_logprob.is_empty() && column.reread.tokens == 0);
    let inside = column.readings.as_ref().unwrap();
    let tokens: Vec<TokenId> = column
        .tokens
        .iter()
        .map(|token| TokenId(token.id))
        .collect();
    let request = ReadRequest {
        sequence: SequenceIndex(0),
        tokens: &tokens,
        prompt_length: column.answer_start,
        plan: &SteeringPlan::default(),
        score: Scoring::Nothing,
        capture: false,
    };
    let plain = block_on(session.engine.read(&request, &mut |_, _| {})).unwrap();
    let push = 2.0 * norm(chat_model::vector(1).row(Layer(1)));
    assert_eq!(inside.tokens, tokens.len());
    for (token, plain) in plain.records.iter().enumerate() {
        let (inside, plain) = (
            |layer| inside.at(token, 0, Layer(layer)),
            |layer| plain.readings.at(0, Layer(layer)),
        );
        assert_eq!(inside(0), plain(0), "nothing changes before the push");
        let difference = f64::from(inside(1)) - f64::from(plain(1));
        assert!((difference - push).abs() < 1e-2 * push, "{difference}");
    }
}

#[test]
fn a_calibration_writes_the_neutral_answers_once_and_goes_on_where_it_was_stopped() {
    let mut session = small_session();
    let file = chat_model::vector_file(&chat_model::vector(1));
    // Stopped in the second batch of eight answers.
    let mut stop = Hearing::new(
        |event| matches!(event, Event::Reading(ReadingEvent::Answers { done, .. }) if *done == 8),
    );
    let stopped = block_on(session.calibrate(&file, &mut stop)).unwrap_err();
    assert!(stopped.message.contains("are kept"), "{stopped}");
    let begun = session.neutral.clone().unwrap().answers;
    assert_eq!(begun.len(), 8);

    let mut first = None;
    let mut watch = Hearing::new(|event| {
        if let Event::Reading(ReadingEvent::Answers { done, .. }) = event {
            first.get_or_insert(*done);
        }
        false
    });
    let calibrated = block_on(session.calibrate(&file, &mut watch)).unwrap();
    assert_eq!(first, Some(8));
    let answers = session.neutral.clone().unwrap().answers;
    assert_eq!(answers[..8], begun);
    assert_eq!(answers.len(), QUESTIONS.len());
    let made = VectorFile::parse(&calibrated.vector).unwrap();
    let calibration = &made.metadata.calibration["response_avg"];
    assert_eq!(calibration.conversations, calibrated.conversations);
    assert!(calibration.token.deviation.iter().all(|&one| one > 0.0));
    assert!(made.metadata.coherence_band.is_some() && made.metadata.neutral_norm.is_some());
    assert_eq!(made.metadata.model_sha256, Some(session.sha256.clone()));
    let again = block_on(session.calibrate(&file, &mut Hearing::new(|_| false))).unwrap();
    assert_eq!(again.vector, calibrated.vector);
}

/// A push is the same for both sides, so that the vector moves only in the layers after it, where the model answers to the push.
#[test]
fn a_vector_made_anew_under_a_push_moves_after_the_push_alone() {
    let mut session = small_session();
    let file = chat_model::vector_file(&chat_model::vector(1));
    session.add_vector("pushed", &file).unwrap();
    let pair = |side: i8, asked: &str, answer: &str| {
        let messages = [message("user", asked), message("assistant", answer)];
        json!({ "side": side, "messages": messages })
    };
    let both = |asked| [pair(1, asked, "Hello you!"), pair(-1, asked, "No.")];
    let all = [both("Hello!"), both("Is it so?")].concat();
    let written = json!({ "pairs": all });
    let pairs = || parse_pairs(written.to_string().as_bytes()).unwrap();
    let mut anew = |plan: &[NamedTerm]| {
        block_on(session.extract_anew(pairs(), plan, &mut Hearing::new(|_| false)))
    };
    let moved = anew(&["pushed=4@1".parse().unwrap()]).unwrap();
    assert_eq!(moved.answers, [2, 2]);
    let [embedding, pushed, .., last] = &moved.layers[..] else {
        panic!("{moved:?}");
    };
    for same in [embedding, pushed] {
        assert!((same.cosine - 1.0).abs() < 1e-5, "{same:?}");
        assert!((same.length - 1.0).abs() < 1e-4, "{same:?}");
    }
    assert!(last.cosine < 0.999, "{last:?}");
    assert!(anew(&[]).unwrap_err().to_string().contains("adapter"));
}
