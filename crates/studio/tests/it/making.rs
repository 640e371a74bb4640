//! Making a small trait: stopped, kept as bytes, gone on with, and made into vectors.

use crate::{Hearing, neutral, small_session};
use pollster::block_on;
use std::collections::BTreeSet;
use trimtab_persona::contrast_record::{
    ContrastRecord, ResponseSettings, ResponseStanding, Thresholds,
};
use trimtab_persona::estimators::Estimator;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::vector_file::VectorFile;
use trimtab_studio::jobs::averages::read_response;
use trimtab_studio::jobs::{responses, vectors};
use trimtab_studio::making::{MakingEvent, MakingPhase};
use trimtab_studio::session::Session;
use trimtab_studio::verbs::Event;
use trimtab_testing::files::bytes;

/// A record with nothing in it, of a trait that has so few responses that each has its use.
fn begun() -> ContrastRecord {
    let pack = TraitPack::parse(&bytes("models/traits/cheerful.json")).unwrap();
    let neutral = neutral();
    let settings = ResponseSettings {
        pairs: 2,
        questions: 6,
        max_tokens: 16,
        temperature: 0.8,
        top_p: 0.95,
        seed: 1,
    };
    let sha256 = neutral.model_sha256.clone();
    ContrastRecord::new(pack, sha256, settings, Some(neutral)).unwrap()
}

/// Thresholds that every response meets.
const LOW: Thresholds = Thresholds {
    evidence: -1e9,
    deviations: 1e9,
    distinct_2: 0.0,
};

/// The vector file that the random model makes of [`begun`].
pub fn made(session: &mut Session) -> Vec<u8> {
    let mut record = begun();
    let mut watch = Hearing::new(|_| false);
    block_on(responses::write(session, &mut record, &mut watch)).unwrap();
    let made = block_on(vectors::make(session, &record, LOW, &mut watch)).unwrap();
    made.file.to_bytes().unwrap()
}

#[test]
fn a_trait_is_stopped_gone_on_with_and_made() {
    let session = &mut small_session();
    // Stopped in the second batch: the first stays, whole.
    let mut record = begun();
    let mut grown = 0;
    let mut watch = Hearing::new(|event| match event {
        Event::Making(MakingEvent::Response { at, .. }) if *at >= 8 => true,
        Event::Making(MakingEvent::Response { .. }) => {
            grown += 1;
            false
        }
        _ => false,
    });
    block_on(responses::write(session, &mut record, &mut watch)).unwrap();
    // Every six tokens, and when they are done.
    assert!(grown >= 8 * 2, "responses are shown as they grow: {grown}");
    let first: Vec<_> = record.responses.iter().map(Option::is_some).collect();
    assert_eq!(first.iter().filter(|written| **written).count(), 8);
    assert!(!record.is_complete());

    // Gone on with from its bytes: the first responses are the same ones, and all are judged.
    let mut made = ContrastRecord::parse(&record.to_bytes().unwrap()).unwrap();
    let mut judged = BTreeSet::new();
    let mut last = None;
    let mut watch = Hearing::new(|event| {
        match event {
            Event::Making(MakingEvent::Response { at, response })
                if response.evidence.is_some() =>
            {
                judged.insert(*at);
            }
            Event::Making(MakingEvent::Progress {
                phase, done, total, ..
            }) => last = Some((*phase, *done, *total)),
            _ => {}
        }
        false
    });
    block_on(responses::write(session, &mut made, &mut watch)).unwrap();
    let (phase, done, total) = last.unwrap();
    assert_eq!((phase, done), (MakingPhase::Judging, total));
    assert!(made.is_complete());
    assert_eq!(judged.len(), made.responses.len());
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
    let averages = session.averages.take(&made);
    let Session { engine, chat, .. } = &mut *session;
    let again = block_on(read_response(engine, chat, &made, 9));
    assert_eq!(averages[9], Some(again.unwrap()));
    session.averages.keep(&made, averages);

    let mut steps = 0;
    let mut watch = Hearing::new(|_| {
        steps += 1;
        false
    });
    let found = block_on(vectors::make(session, &made, LOW, &mut watch)).unwrap();
    // The layers and the calibration: no response was read twice.
    assert_eq!(steps, session.engine.layer_rows() + 1);
    let kept = found.report.kept.iter();
    assert_eq!(
        kept.filter(|kept| **kept == ResponseStanding::Kept).count(),
        found.report.kept_positive + found.report.kept_negative
    );
    let layers = session.engine.layer_rows();
    let curves = &found.report.auc;
    assert_eq!(curves.len(), Estimator::ALL.len());
    assert!(curves.iter().all(|curve| curve.values.len() == layers));
    let file = VectorFile::parse(&found.file.to_bytes().unwrap()).unwrap();
    assert_eq!(file.tensors.len(), Estimator::ALL.len());
    assert_eq!(file.metadata.calibration.len(), Estimator::ALL.len());

    // Stricter thresholds read nothing again, and too strict ones say what is wrong.
    let strict = Thresholds {
        evidence: 1e9,
        ..LOW
    };
    let mut watch = Hearing::new(|_| false);
    let error = block_on(vectors::make(session, &made, strict, &mut watch))
        .unwrap_err()
        .to_string();
    assert!(error.contains("positive responses 0 count"), "{error}");
}
