//! A whole study of one trait against transformers, NumPy and scikit-learn (`tests/golden/study.py`): from the same responses the same
//! evidence, the same responses that count, vectors, separation, calibration and readings.

use crate::{CPU_EXACT, Hearing, with_session};
use pollster::block_on;
use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use trimtab_engine::engine::{ReadRequest, Scoring};
use trimtab_engine::{Engine, Layer, LayerTable, SequenceIndex, SteeringPlan, TokenId};
use trimtab_persona::contrast_record::{
    ContrastRecord, ResponseStanding, Thresholds, WrittenAnswer,
};
use trimtab_persona::extract::Side;
use trimtab_persona::separation::{FOLDS, fold_of};
use trimtab_persona::trait_vector::{norm, sha256};
use trimtab_persona::vector_making::{MadeVector, sort};
use trimtab_studio::jobs::{responses, vectors};
use trimtab_studio::session::Session;
use trimtab_testing::files::{floats, golden, golden_json};

/// Nats a token, where 4e-6 was seen.
const LIKELIHOOD: f64 = 5e-5;
/// Of the standard deviation of neutral answers' evidence, where 6e-5 was seen.
const EVIDENCE: f64 = 1e-3;
const READING: f64 = 1e-3;
const CALIBRATION: f64 = 1e-3;
/// Components are compared where the first two eigenvalues differ by so much; elsewhere rounding turns them.
const EIGENVALUE_RATIO: f64 = 1.5;
/// A difference of so little is rounding: all prompts end in the same token, whose embedding says nothing of the side.
const NOTHING: f64 = 1e-6;

/// Vectors are made of all coherent responses, because few of so small a set count.
const COHERENT: Thresholds = Thresholds {
    evidence: -1e3,
    deviations: 3.0,
    distinct_2: 0.7,
};

#[derive(Deserialize)]
struct Golden {
    contrast_sha256: String,
    evidence_unit: f64,
    evidence: Vec<f64>,
    by_pair: Vec<Vec<Option<f64>>>,
    baselines_by_pair: Vec<Vec<Option<f64>>>,
    logprob: Vec<f64>,
    neutral_logprobs: Vec<f64>,
    kept: Vec<ResponseStanding>,
    auc: BTreeMap<String, Vec<Option<f64>>>,
    /// By component, of all responses and then of those that each fold learns from, at each layer.
    eigenvalue_ratio: BTreeMap<String, Vec<Vec<f64>>>,
    reading_layers: Vec<u32>,
    readings: Vec<Conversation>,
}

#[derive(Deserialize)]
struct Conversation {
    response: usize,
    prompt_ids: Vec<u32>,
}

/// Everything that was measured of the answers is measured anew, but for the likelihoods known from their writing.
fn judge(session: &mut Session, mut record: ContrastRecord) -> ContrastRecord {
    let answers = record.responses.iter_mut().chain(&mut record.baselines);
    answers
        .flatten()
        .for_each(|answer| answer.by_pair = Vec::new());
    let mut watch = Hearing::new(|_| false);
    block_on(responses::write(session, &mut record, &mut watch)).unwrap();
    record
}

fn make(session: &mut Session, record: &ContrastRecord) -> MadeVector {
    let mut watch = Hearing::new(|_| false);
    block_on(vectors::make(session, record, COHERENT, &mut watch)).unwrap()
}

/// The largest difference; both have numbers at the same places.
fn apart(
    what: &str,
    ours: impl IntoIterator<Item = Option<f64>>,
    theirs: impl IntoIterator<Item = Option<f64>>,
) -> f64 {
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ours.into_iter().collect(), theirs.into_iter().collect());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let differences = ours.iter().zip(&theirs).map(|pair| match pair {
        (Some(a), Some(b)) => (a - b).abs(),
        (None, None) => 0.0,
        _ => panic!("{what}: {pair:?}"),
    });
    let worst = differences.fold(0.0, f64::max);
    println!("{what}: apart by at most {worst:.2e}");
    worst
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b));
    products.sum()
}

fn check_evidence(golden: &Golden, record: &ContrastRecord) {
    let by_pair = |answers: &[Option<WrittenAnswer>]| {
        let answers = answers.iter().flatten();
        answers
            .flat_map(|answer| answer.by_pair.clone())
            .collect::<Vec<_>>()
    };
    let likelihoods = [
        apart(
            "likelihood of responses, nats a token",
            record.responses.iter().flatten().map(|one| one.logprob),
            golden.logprob.iter().copied().map(Some),
        ),
        apart(
            "likelihood of neutral answers",
            record.neutral_logprobs.clone(),
            golden.neutral_logprobs.iter().copied().map(Some),
        ),
        apart(
            "evidence of responses by pair, nats a token",
            by_pair(&record.responses),
            golden.by_pair.concat(),
        ),
        apart(
            "evidence of neutral answers by pair",
            by_pair(&record.baselines),
            golden.baselines_by_pair.concat(),
        ),
    ];
    assert!(likelihoods.iter().all(|worst| *worst <= LIKELIHOOD));
    let unit = apart(
        "unit of evidence, nats a token",
        [record.unit()],
        [Some(golden.evidence_unit)],
    );
    assert!(unit <= LIKELIHOOD);
    let evidence = apart(
        "cross-fitted evidence, in its unit",
        (0..record.responses.len()).map(|at| record.evidence(at)),
        golden.evidence.iter().copied().map(Some),
    );
    assert!(evidence <= EVIDENCE);
}

/// Comparisons of a positive with a negative response of the same fold, among those that count.
fn comparisons(record: &ContrastRecord, kept: &[ResponseStanding]) -> usize {
    let counts = |side: Side, fold: usize| {
        let all = (0..kept.len()).filter(|at| kept[*at] == ResponseStanding::Kept);
        all.map(|at| record.settings.place(at))
            .filter(|place| place.side == side && fold_of(place.question) == fold)
            .count()
    };
    (0..FOLDS)
        .map(|fold| counts(Side::Positive, fold) * counts(Side::Negative, fold))
        .sum()
}

fn check_vectors(
    golden: &Golden,
    reference: &SafeTensors<'_>,
    made: &MadeVector,
    comparisons: usize,
) {
    let mut components = 0;
    for areas in &made.report.auc {
        let name = areas.name.as_str();
        let ours: &LayerTable = &made.file.tensors[name];
        let theirs = floats(reference, name).1;
        let difference = ["response_avg", "prompt_avg", "prompt_last"].contains(&name);
        let least = if difference { 0.9999 } else { 0.999 };
        let ratios = golden.eigenvalue_ratio.get(name);
        let (mut lowest, mut longest, mut turned, mut layers) = (1.0_f64, 0.0_f64, 0.0_f64, 0);
        for (layer, theirs) in theirs.chunks(ours.width()).enumerate() {
            let ours = ours.row(Layer(layer as u32));
            if norm(theirs) < NOTHING {
                assert!(norm(ours) < NOTHING, "{name} at layer {layer}");
                continue;
            }
            let decided = |ratios: &[Vec<f64>]| ratios.iter().all(|r| r[layer] >= EIGENVALUE_RATIO);
            if ratios.is_none_or(|ratios| decided(&ratios[..1])) {
                let cosine = dot(ours, theirs) / norm(ours) / norm(theirs);
                let longer = (norm(ours) / norm(theirs) - 1.0).abs();
                assert!(cosine >= least, "{name} at layer {layer}: cosine {cosine}");
                (lowest, longest, layers) = (lowest.min(cosine), longest.max(longer), layers + 1);
            }
            if ratios.is_none_or(|ratios| decided(ratios)) {
                let found = f64::from(areas.values[layer]);
                let Some(expected) = golden.auc[name][layer] else {
                    continue;
                };
                turned = turned.max((found - expected).abs() * comparisons as f64);
            }
        }
        components += usize::from(ratios.is_some()) * layers;
        println!(
            "{name}: over {layers} layers cosine at least {lowest:.8}, length off by at most {longest:.1e}; {turned:.1} of {comparisons} comparisons of held-out responses turned over"
        );
        assert!(longest <= 1e-2, "{name}: length off by {longest}");
        assert!(turned <= 1.01, "{name}: {turned} comparisons turned over");
    }
    assert!(
        components > 20,
        "hardly a component was decided well enough to be compared: {components}"
    );
}

fn check_calibration(reference: &SafeTensors<'_>, made: &MadeVector) {
    let ours = &made.file.metadata.calibration["response_avg"];
    let neutral = made.file.metadata.neutral_norm.as_ref().unwrap();
    let theirs = floats(reference, "neutral_norm").1;
    for (layer, (ours, theirs)) in neutral.iter().zip(&theirs).enumerate() {
        let off = (ours / theirs - 1.0).abs();
        assert!(f64::from(off) <= CALIBRATION, "norm at layer {layer}");
    }
    for (kind, ours) in [
        ("token", &ours.token),
        ("answer", &ours.answer),
        ("prompt", &ours.prompt),
    ] {
        let mean = floats(reference, &format!("calibration.{kind}.mean")).1;
        let deviation = floats(reference, &format!("calibration.{kind}.deviation")).1;
        let mut worst = 0.0_f32;
        for layer in 0..mean.len() {
            let of_mean = (ours.mean[layer] - mean[layer]).abs() / deviation[layer];
            let of_deviation = (ours.deviation[layer] / deviation[layer] - 1.0).abs();
            worst = worst.max(of_mean).max(of_deviation);
        }
        println!("calibration by {kind}: off by at most {worst:.1e} deviations");
        assert!(f64::from(worst) <= CALIBRATION, "{kind}: {worst}");
    }
}

fn check_readings(
    golden: &Golden,
    reference: &SafeTensors<'_>,
    record: &ContrastRecord,
    made: &MadeVector,
    engine: &mut Engine,
) {
    let vector = made.file.tensors["response_avg"].clone();
    engine.set_directions(&[vector]).unwrap();
    let (mut worst, mut count) = (0.0_f64, 0);
    for conversation in &golden.readings {
        let mut tokens: Vec<TokenId> = conversation
            .prompt_ids
            .iter()
            .copied()
            .map(TokenId)
            .collect();
        let prompt = tokens.len();
        tokens.extend(
            record.responses[conversation.response]
                .as_ref()
                .unwrap()
                .tokens(),
        );
        let request = ReadRequest {
            sequence: SequenceIndex(0),
            tokens: &tokens,
            prompt_length: prompt,
            plan: &SteeringPlan::default(),
            score: Scoring::Nothing,
            capture: false,
        };
        let read = block_on(engine.read(&request, &mut |_, _| {})).unwrap();
        let theirs = floats(reference, &format!("readings.{}", conversation.response)).1;
        for (layer, theirs) in golden
            .reading_layers
            .iter()
            .zip(theirs.chunks(tokens.len()))
        {
            // A reading near zero is a small difference of large numbers: what is off is held against a typical one, too.
            let squares: f64 = theirs.iter().skip(1).map(|&x| f64::from(x).powi(2)).sum();
            let typical = (squares / (theirs.len() - 1) as f64).sqrt();
            for (record, &theirs) in read.records.iter().zip(theirs) {
                let ours = f64::from(record.readings.at(0, Layer(*layer)));
                let theirs = f64::from(theirs);
                let off = (ours - theirs).abs() / theirs.abs().max(0.1 * typical);
                worst = worst.max(off);
                count += 1;
                assert!(off <= READING, "layer {layer}: {ours} and {theirs}");
            }
        }
    }
    println!("{count} readings: off by at most {worst:.1e} of themselves");
}

#[test]
fn a_study_is_that_of_transformers_and_scikit_learn() {
    let packed = golden("study.contrast");
    let expected: Golden = golden_json("study.json");
    assert_eq!(
        sha256(&packed),
        expected.contrast_sha256,
        "study.py has not seen this contrast set; run it again"
    );
    let bytes = golden("study.safetensors");
    let reference = SafeTensors::deserialize(&bytes).unwrap();
    with_session(&CPU_EXACT, |session| {
        let record = ContrastRecord::parse(&packed).unwrap();
        let record = judge(session, record);
        check_evidence(&expected, &record);
        assert_eq!(
            sort(&record, &Thresholds::default()).unwrap(),
            expected.kept
        );
        let made = make(session, &record);
        let compared = comparisons(&record, &made.report.kept);
        check_vectors(&expected, &reference, &made, compared);
        check_calibration(&reference, &made);
        check_readings(&expected, &reference, &record, &made, &mut session.engine);
    });
}
