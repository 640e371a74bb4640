//! Making a small trait on the default checkpoint: stopped, kept as bytes, gone on with, and made into vectors.

use crate::{CHAT, CPU_FAST};
use trimtab_engine::{Layer, SequenceIndex};
use trimtab_persona::contrast_record::{ContrastRecord, Kept, ResponseSettings, Thresholds};
use trimtab_persona::estimators::Estimator;
use trimtab_persona::evidence::evidence;
use trimtab_persona::making::{Making, MakingEvent, Phase, read_response};
use trimtab_persona::neutral::NeutralSet;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::vector_file::VectorFile;
use trimtab_persona::vector_making::{VectorMaking, estimator_cosines};
use trimtab_testing::files::bytes;

#[test]
fn a_trait_is_stopped_gone_on_with_and_made() {
    let mut engine = CPU_FAST.take();
    let pack = TraitPack::parse(&bytes("models/traits/cheerful.json")).unwrap();
    let neutral = bytes("models/vectors/neutral.json");
    let neutral: NeutralSet = serde_json::from_slice(&neutral).unwrap();
    let settings = ResponseSettings {
        pairs: 2,
        questions: 6,
        max_tokens: 16,
        temperature: 0.8,
        top_p: 0.95,
        seed: 1,
    };
    let sha256 = neutral.model_sha256.clone();
    let record = ContrastRecord::new(pack.clone(), sha256, settings, Some(neutral)).unwrap();

    // Stopped in the second batch: the first stays, whole.
    let mut making = Making::new(record, Vec::new());
    let mut grown = 0;
    while let Some(event) = pollster::block_on(making.next(&mut engine, &CHAT)).unwrap() {
        match event {
            MakingEvent::Growing { at, .. } if at >= 8 => making.stop(),
            MakingEvent::Growing { .. } => grown += 1,
            _ => {}
        }
    }
    assert!(grown >= 8 * 4, "responses are shown as they grow: {grown}");
    let (record, _) = making.finish();
    let first: Vec<_> = record.responses.iter().map(Option::is_some).collect();
    assert_eq!(first.iter().filter(|written| **written).count(), 8);
    assert!(!record.is_complete());

    // Gone on with from its bytes: the first responses are the same ones, and all are judged.
    let kept = ContrastRecord::parse(&record.to_bytes().unwrap()).unwrap();
    let mut making = Making::new(kept, Vec::new());
    let mut judged = 0;
    while let Some(event) = pollster::block_on(making.next(&mut engine, &CHAT)).unwrap() {
        judged += usize::from(matches!(event, MakingEvent::Judged { .. }));
    }
    assert_eq!(making.progress().phase, Phase::Judging);
    assert_eq!(making.progress().done, making.progress().total);
    let (made, averages) = making.finish();
    assert!(made.is_complete());
    assert_eq!(judged, made.responses.len());
    assert_eq!(
        made.responses[..8],
        {
            let mut before = record.responses[..8].to_vec();
            for (old, new) in before.iter_mut().zip(&made.responses) {
                old.as_mut()
                    .unwrap()
                    .by_pair
                    .clone_from(&new.as_ref().unwrap().by_pair);
            }
            before
        }[..]
    );

    // What was captured while a response was written is what reading it finds.
    let again = read_response(&mut engine, &CHAT, &made, 9);
    assert_eq!(averages[9], Some(pollster::block_on(again).unwrap()));

    // Evidence is what the other road to it says.
    let place = made.settings.place(5);
    let other = 1 - place.pair;
    let response = made.responses[5].as_ref().unwrap();
    let question = &pack.questions.extraction[place.question];
    let tokens = response.tokens();
    let others = [other];
    let first = SequenceIndex(2);
    let direct = evidence(&mut engine, &CHAT, &pack, &others, first, question, &tokens);
    let direct = pollster::block_on(direct).unwrap();
    let stored = response.by_pair[other].unwrap();
    // In fast precision a token's numbers depend a little on the batch that it is read in.
    assert!((stored - direct).abs() < 0.05, "{stored} against {direct}");
    assert!(response.by_pair[place.pair].is_none());

    // The sides differ, and so do the vectors' readings of held-out questions.
    let thresholds = Thresholds {
        evidence: -9.0,
        deviations: 9.0,
        distinct_2: 0.0,
    };
    let mut vector = VectorMaking::new(&engine, made.clone(), thresholds, averages).unwrap();
    let total = vector.progress().total;
    while pollster::block_on(vector.next(&mut engine, &CHAT)).unwrap() {}
    assert_eq!(vector.progress().done, total, "no response was read twice");
    let (found, averages) = vector.finish().unwrap();
    assert_eq!(
        found
            .kept
            .iter()
            .filter(|kept| **kept == Kept::Kept)
            .count(),
        found.counts.iter().sum::<usize>()
    );
    let best = found.auc[0].values.iter().copied().fold(0.0, f32::max);
    assert!(
        best > 0.8,
        "the mean difference tells held-out sides apart: {best}"
    );
    let file = VectorFile::parse(&found.file.to_bytes().unwrap()).unwrap();
    assert_eq!(file.tensors.len(), Estimator::ALL.len());
    assert_eq!(file.metadata.calibration.len(), Estimator::ALL.len());
    let cosines = estimator_cosines(&file, Layer(16));
    assert!((cosines[2][2] - 1.0).abs() < 1e-5 && cosines[0][5] > 0.0);

    // Stricter thresholds read nothing again, and too strict ones say what is wrong.
    let strict = Thresholds {
        evidence: 1e9,
        ..thresholds
    };
    let error = VectorMaking::new(&engine, made, strict, averages)
        .unwrap_err()
        .to_string();
    assert!(error.contains("positive responses 0 count"), "{error}");
}
