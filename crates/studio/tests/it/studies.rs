//! On the default checkpoint the ready-made villainous moves evidence and random directions do not; a study that stopped goes on to the
//! same end.

use crate::making::made;
use crate::{CPU_EXACT, Hearing, small_session, with_session};
use pollster::block_on;
use std::collections::BTreeMap;
use trimtab_persona::controls::Direction;
use trimtab_persona::plan::relative_dose;
use trimtab_persona::trait_pack::TraitPack;
use trimtab_persona::trials::TrialAnswer;
use trimtab_persona::vector_file::VectorFile;
use trimtab_studio::session::Session;
use trimtab_studio::studies::{
    ControlRequest, Controlled, StudyEvent, StudyPhase, StudySettings, Subject,
};
use trimtab_studio::verbs::Event;
use trimtab_testing::files::bytes;

/// Answers by the key of their trial, each `[question]`.
type Answers = BTreeMap<String, Vec<Option<TrialAnswer>>>;

#[derive(serde::Deserialize)]
struct Kept {
    trials: Answers,
}

/// Runs controls until so many answers are written, or to the end; also gives the last records that were told.
fn run(
    session: &mut Session,
    request: &ControlRequest,
    enough: usize,
) -> (Option<Controlled>, Vec<u8>) {
    let mut last = Vec::new();
    let mut watch = Hearing::new(|event| match event {
        Event::Study(StudyEvent::Records { records }) => {
            last.clone_from(records);
            false
        }
        Event::Study(StudyEvent::Progress { phase, done, .. }) => {
            *phase == StudyPhase::Writing && *done >= enough
        }
        _ => false,
    });
    let controlled = block_on(session.controls(request.clone(), &mut watch));
    (controlled.ok(), last)
}

fn records(bytes: &[u8]) -> Answers {
    serde_json::from_slice::<Kept>(bytes).unwrap().trials
}

#[test]
fn villainous_stands_out_from_random_directions() {
    with_session(&CPU_EXACT, study);
}

fn study(session: &mut Session) {
    let pack = TraitPack::parse(&bytes("models/traits/villainous.json")).unwrap();
    let vector = bytes("models/vectors/villainous.safetensors");
    let file = VectorFile::parse(&vector).unwrap();
    let known = session.vector_of("villainous", &file, None).unwrap();
    // Where the vector's file recommends to push, and far enough from the range's end for the text to be whole.
    let recommended = known.recommended.clone().unwrap();
    let coefficient = recommended.max / 1.5;
    let dose = relative_dose(&known, coefficient, &recommended.layers()).unwrap();
    let request = ControlRequest {
        subject: Subject {
            pack,
            vector,
            records: None,
        },
        contrast: None,
        thresholds: None,
        layer: Some(recommended.layers[0]),
        dose: Some(f64::from(dose)),
        others: None,
        conversations: None,
        stand_in: None,
        study: StudySettings {
            neutral_samples: Some(2),
            max_tokens: Some(24),
            ..StudySettings::default()
        },
    };
    let (controlled, _) = run(session, &request, usize::MAX);
    let report = controlled.unwrap().report;
    let effect = |direction: &Direction| {
        let row = report.rows.iter().find(|row| row.direction == *direction);
        row.unwrap().outcome.deviations().unwrap().value
    };
    let villainous = effect(&Direction::Vector);
    let random = (0..3).map(|seed| effect(&Direction::Random(seed)));
    let random = random.sum::<f64>() / 3.0;
    let flipped = effect(&Direction::Flipped);
    println!("villainous {villainous:+.2}, random {random:+.2}, flipped {flipped:+.2}");
    assert!(villainous > random + 0.5, "{report:#?}");
    assert!(villainous > flipped + 1.0, "{report:#?}");
    assert!(report.sentence.contains("deviations (95 % interval"));
}

#[test]
fn a_study_that_stopped_goes_on_to_the_same_end() {
    let session = &mut small_session();
    let request = ControlRequest {
        subject: Subject {
            pack: TraitPack::parse(&bytes("models/traits/cheerful.json")).unwrap(),
            vector: made(session),
            records: None,
        },
        contrast: None,
        thresholds: None,
        layer: Some(1),
        dose: Some(0.2),
        others: None,
        conversations: None,
        stand_in: None,
        study: StudySettings {
            neutral_samples: Some(2),
            max_tokens: Some(12),
            ..StudySettings::default()
        },
    };
    let (none, some) = run(session, &request, 13);
    assert!(none.is_none());
    let begun = records(&some);
    let written = |answers: &Answers| answers.values().flatten().flatten().count();
    assert!((1..20).contains(&written(&begun)), "{}", written(&begun));
    let mut rest = request.clone();
    rest.subject.records = Some(some);
    let (resumed, all) = run(session, &rest, usize::MAX);
    let (whole, uninterrupted) = run(session, &request, usize::MAX);
    let ids = |bytes: &[u8]| -> BTreeMap<String, Vec<_>> {
        let all = records(bytes).into_iter();
        let ids = |answer: Option<TrialAnswer>| answer.unwrap().ids;
        all.map(|(trial, answers)| (trial, answers.into_iter().map(ids).collect()))
            .collect()
    };
    assert_eq!(ids(&all), ids(&uninterrupted));
    assert!(written(&records(&all)) > 20);
    assert_eq!(
        resumed.unwrap().report.sentence,
        whole.unwrap().report.sentence
    );
}
