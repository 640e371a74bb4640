//! `trimtab sweep`, `controls` and `predict`, as a person meets them. On the default checkpoint.

use crate::{fresh, printed, refused};
use serde_json::Value;
use trimtab_checkpoint::source::LocalFuture;
use trimtab_engine::{Backend, Precision};
use trimtab_persona::conversation::ChatText;
use trimtab_persona::vector_file::VectorFile;
use trimtab_studio::session::Session;
use trimtab_studio::studies::StudyEvent;
use trimtab_studio::verbs::{Event, Request, perform};
use trimtab_studio::watch::{Asked, Watch};
use trimtab_testing::default_model::{self, SharedEngine};
use trimtab_testing::files::{bytes, golden, repository};

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
    assert_eq!(rows[0]["layers"], serde_json::json!([16]));
    assert_eq!(rows[1]["allLayers"], true);
    let detail = &report["detail"];
    assert_eq!(detail["unsteered"]["answers"], 9);
    for row in rows {
        assert!(row["kl"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["perplexity"].as_f64().unwrap() > 1.0);
        assert_eq!(row["texts"].as_array().unwrap().len(), 3);
        assert!(row["distinct2"].as_f64().unwrap() > 0.0);
    }
    // The vector's file says that four of the five pairs made it: the fifth measures.
    assert_eq!(detail["material"]["unseen"], true);
    assert_eq!(detail["material"]["pairs"], serde_json::json!([4]));
    assert_eq!(report["caveats"], serde_json::json!([]));
    assert!(detail["complete"].as_bool().unwrap());
    assert_eq!(printed(&given("0.15")), report);
    assert!(refused(&given("0.2")).contains("another run"));
}

#[test]
fn a_prediction_has_a_point_for_every_system_prompt_and_question() {
    let given = [TRAIT[0], TRAIT[1], "--vector", EARLIER_CHEERFUL];
    let report = printed(&[&["predict"], &given[..], &SMALL, &["--json"]].concat());
    let count = |points: &Value| points.as_array().unwrap().len();
    let detail = &report["detail"];
    assert_eq!(count(&report["points"]) + count(&detail["incoherent"]), 15);
    assert_eq!(count(&detail["byLayer"]), 31);
    // Its nearest neighbour is the vector that took its place.
    let cosines: Vec<(String, f64)> = serde_json::from_value(report["cosines"].clone()).unwrap();
    assert_eq!(cosines[0].0, "cheerful");
    assert!((0.5..0.99).contains(&cosines[0].1), "{cosines:?}");
    assert!(cosines.iter().any(|(name, _)| name == "poetic"));
    // Its file does not say which pairs made it.
    assert_eq!(detail["material"]["unseen"], false);
    assert!(report["caveats"][0].as_str().unwrap().contains("flatter"));
}

#[test]
fn what_cannot_be_studied_is_named() {
    let error = refused(&[&["sweep"], &TRAIT[..], &["--doses", "0"]].concat());
    assert!(error.contains("dose is a number other than 0"), "{error}");
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
    assert!(
        made["extraction"]["keptPositive"].as_u64().unwrap() > 8,
        "{made}"
    );
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
    assert_eq!(swept["detail"]["material"]["unseen"], true, "{swept}");
    let place = ["--layer", "16", "--dose", "0.15"];
    let controlled = printed(&[&["controls", "--store"], &own[..], &place, &SMALL].concat());
    let kinds: Vec<&str> = controlled["rows"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|row| row["kind"].as_str())
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
    assert_eq!(report["controls"]["rows"].as_array().unwrap().len(), 16);
    // What the program printed is what the file holds.
    assert_eq!(report["sweep"], swept);
    assert_eq!(report["controls"], controlled);
    assert_eq!(report["prediction"]["calibrated"], true);
    assert!(
        !report["prediction"]["points"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

/// The page's side of a sweep that is closed in the middle.
struct Closing {
    answers: usize,
    records: Vec<u8>,
}

impl Watch for Closing {
    fn tell(&mut self, event: Event) {
        match event {
            Event::Study(StudyEvent::Progress { done, .. }) => self.answers = done,
            Event::Study(StudyEvent::Records { records }) => self.records = records,
            _ => {}
        }
    }

    fn pause(&mut self) -> LocalFuture<'_, Asked> {
        let stop = self.answers >= 6;
        Box::pin(std::future::ready(Asked { stop, plan: None }))
    }

    fn seconds(&self) -> f64 {
        0.0
    }
}

/// What a person asked the page for, as it posts it to its worker.
fn asked_by_the_page(session: &Session) -> Request {
    let vector = bytes("models/vectors/cheerful.safetensors");
    let pack: Value = serde_json::from_slice(&bytes("models/traits/cheerful.json")).unwrap();
    assert_eq!(
        VectorFile::parse(&vector).unwrap().metadata.model_sha256,
        Some(session.sha256.clone())
    );
    let settings = serde_json::json!({
        "layers": [16], "doses": [0.15], "allLayers": false,
        "questions": 3, "maxTokens": 8, "pairs": 1, "neutralSamples": 3,
    });
    let input = serde_json::json!({"pack": pack, "vector": vector, "settings": settings});
    serde_json::from_value(serde_json::json!({"verb": "sweepTrait", "input": input})).unwrap()
}

#[test]
fn what_the_page_has_begun_the_program_goes_on_with() {
    let neutral: Value = serde_json::from_slice(&bytes("models/vectors/neutral.json")).unwrap();
    let chat = ChatText {
        tokenizer: default_model::tokenizer(),
        template: default_model::chat_template(),
    };
    // The page's engine has room for other numbers of answers, and so writes them in another order.
    static PAGE: SharedEngine = SharedEngine::new(Backend::Cpu, Precision::Fast, 512, 4);
    let records = PAGE.lend(|engine| {
        let sha256 = neutral["model_sha256"].as_str().unwrap().to_owned();
        let mut session = Session::new(engine, chat, sha256);
        let mut page = Closing {
            answers: 0,
            records: Vec::new(),
        };
        let request = asked_by_the_page(&session);
        let run = perform(request, Some(&mut session), &mut page);
        let stopped = pollster::block_on(run).unwrap_err();
        assert!(stopped.message.contains("stopped"), "{stopped}");
        (session.engine, page.records)
    });
    let begun: Value = serde_json::from_slice(&records).unwrap();
    let keep = fresh("begun-by-the-page.json");
    std::fs::write(&keep, &records).unwrap();
    let here = ["--layers", "16", "--doses", "0.15", "--json", "--keep"];
    let keep = keep.to_str().unwrap();
    let report = printed(&[&["sweep"], &TRAIT[..], &SMALL, &here, &[keep]].concat());
    assert!(report["detail"]["complete"].as_bool().unwrap());
    let ended: Value = serde_json::from_slice(&std::fs::read(keep).unwrap()).unwrap();
    assert_eq!(begun["key"], ended["key"]);
    let answers = |records: &Value| -> Vec<Value> {
        let trials = records["records"].as_array().unwrap().iter();
        trials
            .flat_map(|trial| trial.as_array().unwrap().clone())
            .collect()
    };
    let (begun, ended) = (answers(&begun), answers(&ended));
    let kept: Vec<_> = begun
        .iter()
        .zip(&ended)
        .filter(|(begun, _)| !begun.is_null())
        .collect();
    assert!((6..begun.len()).contains(&kept.len()), "{}", kept.len());
    for (begun, ended) in kept {
        assert_eq!(begun["ids"], ended["ids"]);
        assert_eq!(begun["logprob"], ended["logprob"]);
    }
}
