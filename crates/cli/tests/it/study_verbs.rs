//! `trimtab sweep`, `controls` and `predict`, as a person meets them. On the default checkpoint.

use crate::{fresh, printed, refused};
use serde_json::Value;
use trimtab_testing::files::{golden, repository};

const TRAIT: [&str; 4] = [
    "--trait",
    "models/traits/cheerful.json",
    "--vector",
    "cheerful",
];
/// Made before vector files told which instruction pairs extraction used; links name it, so it stays.
const EARLIER_CHEERFUL: &str =
    "models/vectors/4524b4a308df1a69c9b48fb316ee71b7ef817196058aa11de40bfc1dd2d135dc.safetensors";
/// As little as can be measured: 9 unsteered answers and 3 steered ones of 8 tokens.
const SMALL: [&str; 10] = [
    "--questions",
    "3",
    "--neutral-samples",
    "3",
    "--max-tokens",
    "8",
    "--pairs",
    "1",
    "--precision",
    "fast",
];

#[test]
fn a_sweep_reports_every_setting_and_goes_on_from_what_it_kept() {
    let keep = fresh("sweep-kept.json");
    let keep = keep.to_str().unwrap();
    let given = |doses| {
        [
            &["sweep"],
            &TRAIT[..],
            &SMALL,
            &[
                "--layers",
                "16",
                "--all-layers",
                "--json",
                "--keep",
                keep,
                "--doses",
                doses,
            ],
        ]
        .concat()
    };
    let report = printed(&given("0.15"));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["place"]["layer"], 16);
    assert_eq!(rows[1]["place"], "allLayers");
    assert_eq!(report["neutral"]["answers"], 9);
    for row in rows {
        assert!(row["kl"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["perplexity"].as_f64().unwrap() > 1.0);
        assert_eq!(row["judged"].as_array().unwrap().len(), 3);
        assert_eq!(row["distinct"].as_array().unwrap().len(), 3);
    }
    // The vector's file says that four of the five pairs made it: the fifth measures.
    assert_eq!(report["material"]["unseen"], true);
    assert_eq!(report["material"]["pairs"], serde_json::json!([4]));
    assert_eq!(report["caveats"], serde_json::json!([]));
    assert!(report["complete"].as_bool().unwrap());
    assert_eq!(printed(&given("0.15")), report);
    assert!(refused(&given("0.2")).contains("another run"));
}

#[test]
fn a_prediction_has_a_point_for_every_system_prompt_and_question() {
    let given = [TRAIT[0], TRAIT[1], "--vector", EARLIER_CHEERFUL];
    let report = printed(&[&["predict"], &given[..], &SMALL, &["--json"]].concat());
    assert_eq!(report["points"].as_array().unwrap().len(), 15);
    assert_eq!(report["byLayer"].as_array().unwrap().len(), 31);
    // Its nearest neighbour is the vector that took its place.
    let cosines: Vec<(String, f64)> = serde_json::from_value(report["cosines"].clone()).unwrap();
    assert_eq!(cosines[0].0, "cheerful");
    assert!((0.5..0.99).contains(&cosines[0].1), "{cosines:?}");
    assert!(cosines.iter().any(|(name, _)| name == "poetic"));
    // Its file does not say which pairs made it.
    assert_eq!(report["material"]["unseen"], false);
    assert!(report["caveats"][0].as_str().unwrap().contains("flatter"));
}

#[test]
fn what_cannot_be_studied_is_named() {
    let error = refused(&[&["sweep"], &TRAIT[..], &["--doses", "0"]].concat());
    assert!(error.contains("--doses"), "{error}");
    let error = refused(
        &[
            &["sweep"],
            &TRAIT[..],
            &["--layers", "31", "--doses", "0.1"],
        ]
        .concat(),
    );
    assert!(error.contains("layer 31 does not exist"), "{error}");
    let error = refused(&[
        "controls",
        "--trait",
        "models/traits/cheerful.json",
        "--vector",
        "nowhere",
    ]);
    assert!(error.contains("nowhere"), "{error}");
    let error = refused(&[&["controls"], &TRAIT[..], &["--dose", "-1"]].concat());
    assert!(error.contains("above 0"), "{error}");
}

#[test]
fn four_verbs_fill_one_report_and_the_vector_file() {
    let (vector, report) = (fresh("cheerful.safetensors"), fresh("cheerful.report.json"));
    let (vector, report) = (vector.to_str().unwrap(), report.to_str().unwrap());
    let early = refused(
        &[
            &["predict"],
            &TRAIT[..],
            &SMALL,
            &["--layer", "16", "--report", report],
        ]
        .concat(),
    );
    assert!(early.contains("extract --trait"), "{early}");

    let contrast = fresh("cheerful.contrast");
    std::fs::write(&contrast, golden("study.contrast")).unwrap();
    let neutral = fresh("neutral.json");
    let shared = repository().join("models/vectors/neutral.json");
    std::fs::copy(&shared, &neutral).unwrap();
    // So small a set has hardly a response that counts by its evidence.
    let made = printed(&[
        "extract",
        "--trait",
        "models/traits/cheerful.json",
        "--contrast",
        contrast.to_str().unwrap(),
        "--instruction-pairs",
        "2",
        "--questions",
        "8",
        "--max-tokens",
        "32",
        "--min-evidence",
        "-1000",
        "--neutral",
        neutral.to_str().unwrap(),
        "--precision",
        "fast",
        "--out",
        vector,
        "--report",
        report,
        "--json",
    ]);
    assert!(made["counts"]["positive"].as_u64().unwrap() > 8, "{made}");
    // The record's own answers are the same ones, but nothing says how likely they are.
    let kept = std::fs::read(&neutral).unwrap();
    assert!(
        kept == std::fs::read(&shared).unwrap(),
        "an extraction has written over what other traits are calibrated on"
    );
    let own = [
        "--trait",
        "models/traits/cheerful.json",
        "--vector",
        vector,
        "--report",
        report,
        "--json",
    ];
    let swept = printed(
        &[
            &["sweep", "--store", "--layers", "16", "--doses", "0.15"],
            &own[..],
            &SMALL,
        ]
        .concat(),
    );
    // Three of the five pairs were left unseen.
    assert_eq!(swept["material"]["unseen"], true, "{}", swept["caveats"]);
    let place = ["--layer", "16", "--dose", "0.15"];
    let controlled = printed(&[&["controls", "--store"], &own[..], &place, &SMALL].concat());
    let kinds: Vec<&str> = controlled["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["direction"]["kind"].as_str())
        .collect();
    let count = |kind| kinds.iter().filter(|own| **own == kind).count();
    assert_eq!(
        [
            count("vector"),
            count("flipped"),
            count("shuffled"),
            count("random"),
            count("other")
        ],
        [1, 1, 10, 3, 1]
    );
    printed(&[&["predict", "--layer", "16"], &own[..], &SMALL].concat());

    let report: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["pack"]["name"], "cheerful");
    assert_eq!(report["responses"].as_array().unwrap().len(), 32);
    assert_eq!(
        report["extraction"]["auc"][0]["values"]
            .as_array()
            .unwrap()
            .len(),
        31
    );
    assert_eq!(report["sweep"]["rows"].as_array().unwrap().len(), 1);
    assert_eq!(report["sweep"]["sentence"], swept["sentence"]);
    assert_eq!(report["controls"]["rows"].as_array().unwrap().len(), 16);
    assert_eq!(
        report["controls"]["sentence"],
        controlled["verdict"]["sentence"]
    );
    assert_eq!(report["prediction"]["calibrated"], true);
    assert!(
        !report["prediction"]["points"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}
