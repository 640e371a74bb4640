//! Components, probes and separation against NumPy and scikit-learn (`tests/golden/estimators.py`).

use safetensors::SafeTensors;
use serde::Deserialize;
use std::collections::BTreeMap;
use trimtab_persona::activations::{Average, Averages, Sample};
use trimtab_persona::estimators::{Estimator, LayerSamples};
use trimtab_persona::extract::Side;
use trimtab_persona::separation::{FOLDS, Scored, auc, fold_of};
use trimtab_testing::files::{floats, golden, golden_json};

/// Components are compared where the first two eigenvalues differ by so much; elsewhere rounding turns them.
const EIGENVALUE_RATIO: f64 = 1.5;
const ESTIMATORS: [Estimator; 5] = [
    Estimator::ResponseAverage,
    Estimator::PcaDifference,
    Estimator::PcaDifferenceRepeng,
    Estimator::Logistic,
    Estimator::MassMean,
];

#[derive(Deserialize)]
struct Golden {
    first: usize,
    tokens: usize,
    questions: usize,
    folds: usize,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    layer: usize,
    width: usize,
    estimators: BTreeMap<String, Expected>,
}

#[derive(Deserialize)]
struct Expected {
    auc: f64,
    eigenvalue_ratio: Option<f64>,
}

/// One side of a case: tokens of one prompt at its layer, their first widths.
fn averages(
    residual: &SafeTensors<'_>,
    prompt: &str,
    golden: &Golden,
    case: &Case,
) -> Vec<Averages> {
    let (shape, all) = floats(residual, prompt);
    let (tokens, full) = (shape[1], shape[2]);
    (golden.first..golden.first + golden.tokens)
        .map(|token| {
            let row = &all[(case.layer * tokens + token) * full..][..case.width];
            // Two tokens of prompt, then one of response, whose average it is.
            Averages::of(&[row, row, row].concat(), case.width, 2)
        })
        .collect()
}

fn unit_dot(a: &[f64], b: &[f32]) -> f64 {
    let length = a.iter().map(|value| value * value).sum::<f64>().sqrt();
    let other = b
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt();
    a.iter().zip(b).map(|(a, &b)| a * f64::from(b)).sum::<f64>() / length / other
}

#[test]
fn directions_and_separations_are_those_of_scikit_learn() {
    let expected: Golden = golden_json("estimators.json");
    assert_eq!(expected.folds, FOLDS);
    let bytes = golden("estimators.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let residual = golden("residual.safetensors");
    let residual = SafeTensors::deserialize(&residual).unwrap();
    let mut components = 0;
    for case in &expected.cases {
        let sides = ["chat", "plain"].map(|prompt| averages(&residual, prompt, &expected, case));
        let samples: Vec<Sample<'_>> = [Side::Positive, Side::Negative]
            .into_iter()
            .zip(&sides)
            .flat_map(|(side, averages)| {
                averages
                    .iter()
                    .enumerate()
                    .map(move |(at, averages)| (side, at, averages))
            })
            .map(|(side, at, averages)| Sample {
                side,
                pair: at / expected.questions,
                question: at % expected.questions,
                averages,
            })
            .collect();
        let estimate = |samples: &[Sample<'_>], estimator| -> Vec<f64> {
            LayerSamples::of(samples, Average::Response, 0, case.width)
                .estimate(estimator)
                .unwrap()
                .iter()
                .copied()
                .collect()
        };
        for estimator in ESTIMATORS {
            let named = format!(
                "{} at layer {}, width {}",
                estimator.name(),
                case.layer,
                case.width
            );
            let expected = &case.estimators[estimator.name()];
            let (_, want) = floats(
                &file,
                &format!("{}.{}.{}", estimator.name(), case.layer, case.width),
            );
            if expected
                .eigenvalue_ratio
                .is_some_and(|ratio| ratio < EIGENVALUE_RATIO)
            {
                continue;
            }
            components += usize::from(expected.eigenvalue_ratio.is_some());
            let cosine = unit_dot(&estimate(&samples, estimator), &want);
            println!("{named}: cosine {cosine:.7}");
            assert!(cosine >= 0.999, "{named}: cosine {cosine}");
            let mut scored = Vec::new();
            for fold in 0..FOLDS {
                let (asked, learned): (Vec<_>, Vec<_>) = samples
                    .iter()
                    .copied()
                    .partition(|sample| fold_of(sample.question) == fold);
                let direction = estimate(&learned, estimator);
                scored.extend(asked.iter().map(|sample: &Sample<'_>| {
                    Scored {
                        question: sample.question,
                        positive: sample.side == Side::Positive,
                        score: unit_dot(
                            &direction,
                            sample.averages.row(Average::Response, 0, case.width),
                        ) * sample
                            .averages
                            .row(Average::Response, 0, case.width)
                            .iter()
                            .map(|&v| f64::from(v).powi(2))
                            .sum::<f64>()
                            .sqrt(),
                    }
                }));
            }
            let found = auc(&scored).unwrap().value;
            println!("{named}: AUC {found:.4}, scikit-learn {:.4}", expected.auc);
            // One comparison of all is less than 0.01; rounding may turn one over.
            let comparisons =
                1.0 / (samples.len() as f64 / 2.0 / FOLDS as f64).powi(2) / FOLDS as f64;
            assert!(
                (found - expected.auc).abs() <= comparisons,
                "{named}: AUC {found}, expected {}",
                expected.auc
            );
        }
    }
    assert!(
        components > 0,
        "no component was decided well enough to be compared"
    );
}
